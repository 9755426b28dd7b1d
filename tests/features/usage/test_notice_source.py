"""Budgets are announced at 50, 80 and 100 %, each once a window, from what all gateways have spent."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.keys import Directory, KeyRecord, scopes_of
from gateway.core.limits import Limit, LimitScope, counter_name, limits_of
from gateway.features.usage.notice_source import notices_of

pytestmark = pytest.mark.quick
NOW = 1_790_000_000.0


def found(limit: Limit, units: int, now: float = NOW) -> Any:
    scope = LimitScope("team", "search", (limit,))
    return next(notices_of([((scope, limit), counter_name(scope, limit, now), units)], now), None)


@pytest.mark.parametrize(
    ("usd", "title"),
    [(49.99, None), (50, "50%"), (79.9, "50%"), (80, "80%"), (99.9, "80%"), (100, "100%"), (140, "100%")],
)
def test_the_highest_threshold_that_is_passed_is_told(usd: float, title: str | None) -> None:
    notice = found(Limit("usd", 100.0, "month"), round(usd * 1e9))
    assert (notice and notice.title) == (title and f"team search has used {title} of its usd_per_month")


def test_each_window_and_threshold_is_a_cause_of_its_own() -> None:
    limit = Limit("tokens", 1000.0, "day")
    ids = {found(limit, units, now).id for units in (500, 600, 800, 1000) for now in (NOW, NOW + 86_400)}
    assert len(ids) == 6


def test_a_carried_amount_counts_until_its_end() -> None:
    limit = Limit("usd", 100.0, "month", carried=45.0, carried_until=NOW + 1)
    assert found(limit, round(10e9)).text == "$55.00 of $100.00."
    assert found(limit, round(10e9), NOW + 2) is None


@pytest.mark.parametrize(("carried", "usd", "title"), [(60, 5, None), (60, 25, "80%"), (85, 5, None), (100, 9, None)])
def test_an_amount_carried_by_an_import_is_not_announced(carried: float, usd: float, title: str | None) -> None:
    """A threshold that was passed elsewhere is not announced; the next one is."""
    limit = Limit("usd", 100.0, "month", carried=carried, carried_until=NOW + 1)
    notice = found(limit, round(usd * 1e9))
    assert (notice and notice.title) == (title and f"team search has used {title} of its usd_per_month")


def test_a_notice_has_the_name_of_a_key_next_to_its_id() -> None:
    [limit] = limits_of({"usd_per_month": 10})
    key = KeyRecord("key_01a2", "web", (), {"models": {"chat": {"usd_per_month": 10}}, "usd_per_month": 10})
    scopes = scopes_of(Directory(keys={"key_01a2": key}), key)
    named = [(scope, limit, counter_name(scope, limit, NOW)) for scope in (*scopes.base, scopes.models[0][1])]
    titles = [next(notices_of([((scope, limit), name, 5 * 10**9)], NOW)).title for scope, limit, name in named]
    assert titles == [
        "key web (key_01a2) has used 50% of its usd_per_month",
        "model key-web/chat (key-key_01a2/chat) has used 50% of its usd_per_month",
    ]
