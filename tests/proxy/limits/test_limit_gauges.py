"""How much of each limit is used, as a scrape shows it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from gateway.core.limits import Limit, LimitScope
from gateway.observability.eval_metrics import ProxyMetrics
from gateway.proxy.limits.limit_gauges import MOST_SERIES, LimitGauges

BUDGET, RATE = Limit("usd", 500.0, "month"), Limit("requests", 60.0, "minute")


class Gauges:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.gauges = LimitGauges(ProxyMetrics(self.registry))

    def value(self, scope: str, limit: str) -> float | None:
        return self.registry.get_sample_value("gateway_limit_used_ratio", {"scope": scope, "limit": limit})


@pytest.fixture
def gauges() -> Gauges:
    return Gauges()


def team(name: str) -> LimitScope:
    return LimitScope("team", name, (BUDGET, RATE))


def test_each_limit_of_a_scope_has_its_share(gauges: Gauges) -> None:
    gauges.gauges.show([(team("search"), BUDGET, 0.81), (team("search"), RATE, 0.05)])
    assert gauges.value("team search", "usd_per_month") == 0.81
    assert gauges.value("team search", "requests_per_minute") == 0.05


def test_a_limit_whose_window_has_ended_is_unused(gauges: Gauges) -> None:
    gauges.gauges.show([(team("search"), RATE, 1.0)])
    gauges.gauges.show([])
    assert gauges.value("team search", "requests_per_minute") == 0.0


def test_of_many_limits_the_fullest_stands_for_the_rest(gauges: Gauges) -> None:
    """So that an alert fires for each of them."""
    first = [(team(f"t{n}"), BUDGET, 0.1) for n in range(MOST_SERIES)]
    gauges.gauges.show([*first, (team("one more"), BUDGET, 0.3), (team("and another"), BUDGET, 0.9)])
    assert gauges.value("other", "usd_per_month") == 0.9
    assert gauges.value("team one more", "usd_per_month") is None
    gauges.gauges.show(first)
    assert gauges.value("other", "usd_per_month") == 0.0
