"""Ended calls in the Prometheus series, once they are folded in."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from fixtures.metric_samples import sample_sum
from prometheus_client import CollectorRegistry

from gateway.config.metric_labels import HISTOGRAM_ALIASES, HISTOGRAM_UPSTREAMS, MetricLabels
from gateway.config.upstreams import Upstream
from gateway.core.exchange import Target, Usage
from gateway.core.prices import Price
from gateway.core.usage import UsageCell, UsageSums
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.observability.worker_metrics import exposition
from gateway.proxy.limits.charge import Charge
from gateway.proxy.recording.call_metrics import CallFigures, CallMetrics
from gateway.proxy.recording.usage_ledger import UsageBooks, UsageLedger
from gateway.proxy.request.call import Caller
from gateway.proxy.routing.circuit_breaker import CircuitBreaker
from gateway.proxy.routing.concurrency_limiter import ConcurrencyLimiter
from gateway.proxy.routing.target_state import TargetState, UpstreamState

WEB = Caller("web", id="web", team="search")
OK: CallFigures = ("ok", 2.0, 0.01, None, Usage(1000, 100, 400), True, WEB, "", None)
GENAI = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "openai",
    "upstream": "u",
}
LABELS = MetricLabels(
    frozenset({"chat"}), {"u/m": ("u", "m")}, {}, frozenset({"chat"}), frozenset({"u"}), frozenset({"chat"})
)


class Series:
    """The series of one alias at one target, and the registry that they are read from."""

    def __init__(self, price: Price | None) -> None:
        self.registry = CollectorRegistry()
        self.metrics = ProxyMetrics(self.registry)
        upstream = UpstreamState("u", Upstream(kind="openai"), Any, Any, ConcurrencyLimiter(None, 0, 1.0))  # type: ignore[arg-type]
        target_state = TargetState(Target("u", "m"), upstream, CircuitBreaker(lambda: 0.0), lambda: 0.0)
        self.ledger = UsageLedger()
        books = UsageBooks(self.ledger, self.metrics)
        self.calls = CallMetrics(books, "chat", target_state, "chat", price, labels=LABELS)

    def value(self, name: str, **labels: str) -> float | None:
        self.metrics.counts.flush()
        return sample_sum(self.registry, name, **labels)


def test_calls_are_counted_when_the_metrics_are_read() -> None:
    series = Series(None)
    series.calls.waiting += [OK, OK, ("timeout", 30.0, 0.01, None, None, True, WEB, "", None)]
    assert series.value("gateway_requests_total", alias="chat", upstream="u", outcome="ok") == 2
    assert series.value("gateway_requests_total", alias="chat", upstream="u", outcome="timeout") == 1
    assert not series.calls.waiting
    assert series.value("gateway_requests_total", alias="chat", upstream="u", outcome="ok") == 2, "not counted twice"


def test_folding_without_calls_changes_nothing() -> None:
    series = Series(Price(1.0, 1.0))
    series.calls.fold()
    assert series.value("gateway_requests_total", alias="chat", upstream="u", outcome="ok") is None


def test_cost_follows_the_price_and_the_cached_share() -> None:
    series = Series(Price(2.0, 8.0, 0.5))
    series.calls.waiting += [OK] * 3
    usd = 3 * (600 * 2.0 + 400 * 0.5 + 100 * 8.0) / 1e6
    assert series.value("gateway_cost_usd_total", alias="chat", upstream="u") == pytest.approx(usd)
    assert series.value("gateway_unpriced_total", alias="chat", upstream="u") is None


@pytest.mark.parametrize(("price", "usage"), [(None, Usage(1, 1)), (Price(1.0, 1.0), None)], ids=["price", "usage"])
def test_a_call_without_price_or_usage_counts_as_unpriced(price: Price | None, usage: Usage | None) -> None:
    series = Series(price)
    series.calls.waiting.append(("ok", 1.0, 0.0, None, usage, True, WEB, "", None))
    assert series.value("gateway_unpriced_total", alias="chat", upstream="u") == 1
    assert not series.value("gateway_cost_usd_total", alias="chat", upstream="u")


def test_a_call_with_several_attempts_is_priced_elsewhere() -> None:
    series = Series(Price(1.0, 1.0))
    series.calls.waiting.append((*OK[:5], False, *OK[6:]))
    assert series.value("gateway_cost_usd_total", alias="chat", upstream="u") is None
    assert series.value("gateway_unpriced_total", alias="chat", upstream="u") is None


def test_only_streams_have_times_per_token() -> None:
    series = Series(None)
    streams: list[CallFigures] = [
        ("ok", 3.0, 0.0, 1.0, Usage(10, 5), True, WEB, "", None),
        ("cut", 3.0, 0.0, 1.0, Usage(10, 1), True, WEB, "", None),
    ]
    series.calls.waiting += [OK, *streams]
    assert series.value("gen_ai_server_time_to_first_token_seconds_count", **GENAI) == 2
    assert series.value("gen_ai_server_time_to_first_token_seconds_sum", **GENAI) == pytest.approx(2.0)
    assert series.value("gen_ai_server_time_per_output_token_seconds_sum", **GENAI) == pytest.approx(0.5)
    assert series.value("gen_ai_server_time_per_output_token_seconds_count", **GENAI) == 1, "one token has no gap"


def target(upstream: str, model: str) -> TargetState:
    state = UpstreamState(upstream, Upstream(kind="openai"), Any, Any, ConcurrencyLimiter(None, 0, 1.0))  # type: ignore[arg-type]
    return TargetState(Target(upstream, model), state, CircuitBreaker(lambda: 0.0), lambda: 0.0)


def fleet_labels(aliases: int, upstreams: int) -> MetricLabels:
    """Labels of a config with this many aliases and upstreams, each with three models."""
    names, servers = [f"alias-{n}" for n in range(aliases)], [f"upstream-{n}" for n in range(upstreams)]
    targets = {f"{server}/model-{n}": (server, f"model-{n}") for server in servers for n in range(3)}
    first = frozenset(names[:HISTOGRAM_ALIASES]), frozenset(servers[:HISTOGRAM_UPSTREAMS])
    return MetricLabels(frozenset(names), targets, {}, *first, frozenset())


@pytest.mark.parametrize("upstreams", [10, 500])
def test_a_thousand_aliases_at_three_targets_are_a_small_page(upstreams: int) -> None:
    """Each has streamed and been paid for at three models, on two upstreams; a tenth of the calls have failed."""
    registry = CollectorRegistry()
    metrics, labels = ProxyMetrics(registry), fleet_labels(1000, upstreams)
    books = UsageBooks(UsageLedger(), metrics)
    stream: CallFigures = ("ok", 3.0, 0.0, 1.0, Usage(10, 5), True, WEB, "", None)
    failed: CallFigures = ("timeout", 3.0, 0.0, None, None, True, WEB, "", None)
    for n in range(3000):
        state = target(f"upstream-{(n // 3 + (n % 3) // 2) % upstreams}", f"model-{n % 3}")
        series = CallMetrics(books, f"alias-{n // 3}", state, "chat", Price(1.0, 2.0), labels=labels)
        series.waiting += [stream] * 9 + [failed]
        series.fold()
    metrics.counts.flush()
    page = exposition(registry)
    assert len(page) <= 20_000_000
    assert len(gzip.compress(page, 1)) <= 2_000_000
    count = "gen_ai_server_time_to_first_token_seconds_count"
    assert sample_sum(registry, count) == 27_000
    assert sample_sum(registry, count, alias="alias-19") == 27
    assert sample_sum(registry, count, alias="alias-20") is None
    assert sample_sum(registry, count, alias="other") == 27_000 - 20 * 27
    assert (sample_sum(registry, count, upstream="other") is None) == (upstreams <= HISTOGRAM_UPSTREAMS)
    named = {"alias": "alias-999", "model": "model-2", "outcome": "ok"}
    assert sample_sum(registry, "gateway_requests_total", **named) == 9, "counters name every alias and target"


def test_every_call_with_a_cost_is_counted_for_its_key() -> None:
    """The cost of a plain answer follows from its usage; another call has one of its own, or none."""
    series = Series(Price(2.0, 8.0))
    series.calls.waiting += [
        OK,
        ("client_gone", 1.0, 0.0, None, None, True, WEB, "", Charge(10, 0, 5, 0, 6e-5, True)),
        ("upstream_error", 1.0, 0.0, None, None, True, WEB, "", None),
    ]
    series.calls.fold()
    [count] = series.ledger.everything()
    assert count.cell == UsageCell(series.ledger.day, "web", "web", "search", "", "", "chat", "u", "m", "", "", "")
    assert count.sums == UsageSums(2, 0, 1, 1010, 400, 105, 0, 2_800_000 + 60_000)
    assert series.value("gateway_team_requests_total", team="search") == 2
