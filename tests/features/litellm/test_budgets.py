"""Budgets that roll become calendar limits that never allow more, and carry what has been spent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.litellm.budgets import CarriedLimits, RollingBudget, limits_of_row, seconds_of

pytestmark = pytest.mark.quick
NOW = datetime(2026, 11, 29, tzinfo=UTC)
SOON = NOW + timedelta(days=9)
SOON_TEXT = "2026-12-08T00:00:00Z"


def carried(*budgets: RollingBudget) -> CarriedLimits:
    found = CarriedLimits()
    for budget in budgets:
        found.spend(budget, NOW)
    return found


@pytest.mark.parametrize(
    ("duration", "name"),
    [("60s", "minute"), ("1h", "hour"), ("24h", "day"), ("1d", "day"), ("7d", "week"), ("1w", "week"),
     ("28d", "month"), ("30d", "month"), ("31d", "month"), ("1mo", "month")],
)  # fmt: skip
def test_each_usual_period_has_its_calendar_window(duration: str, name: str) -> None:
    found = carried(RollingBudget(100.0, duration, 12.34, SOON))
    assert found.limits == {
        f"usd_per_{name}": 100.0,
        "carried": {f"usd_per_{name}": {"amount": 12.34, "until": SOON_TEXT}},
    }
    assert found.changed == []


@pytest.mark.parametrize(
    ("budget", "limits", "remark"),
    [
        (RollingBudget(10.0, "12h", 1.0, SOON), ("usd_per_day", 10.0, 1.0), "which allows less"),
        (RollingBudget(300.0, "90d", 250.0, SOON), ("usd_per_month", 100.0, 50.0), "$300 per 90d: $100 per month"),
        (RollingBudget(300.0, "90d", 10.0, SOON), ("usd_per_month", 100.0, 0.0), "$300 per 90d"),
        (RollingBudget(100.0, None, 60.0, None), ("usd_per_month", 100.0, 60.0), "without a period"),
        (RollingBudget(100.0, "fortnight", 60.0, None), ("usd_per_month", 100.0, 60.0), "is unknown"),
    ],
)
def test_other_periods_are_named_with_what_takes_their_place(
    budget: RollingBudget, limits: tuple[str, float, float], remark: str
) -> None:
    found = carried(budget)
    name, usd, amount = limits
    assert found.limits[name] == usd
    assert found.limits.get("carried", {}).get(name, {}).get("amount", 0.0) == pytest.approx(amount)
    assert remark in found.changed[0]


def test_a_window_that_has_ended_carries_nothing() -> None:
    assert carried(RollingBudget(5.0, "1d", 4.0, NOW - timedelta(seconds=1))).limits == {"usd_per_day": 5.0}


def test_the_budget_with_less_left_holds_in_a_window() -> None:
    found = carried(RollingBudget(100.0, "30d", 10.0, SOON), RollingBudget(50.0, "31d", 0.0, SOON))
    assert found.limits == {"usd_per_month": 50.0}


def test_a_limit_of_zero_closes_and_an_endless_one_is_none() -> None:
    shared: dict[str, object] = {"rpm_limit": 5, "tpm_limit": None, "tpd_limit": 2**63 - 1, "max_budget": None}
    row = {"rpm_limit": None, "tpm_limit": 7, "tpd_limit": None, "max_parallel_requests": 0, "max_budget": None}
    found = limits_of_row(row | {"spend": 1.0}, shared, [], NOW)
    assert found.limits == {"requests_per_minute": 5, "tokens_per_minute": 7}
    assert found.closed
    assert carried(RollingBudget(0.0, "30d", 0.0, SOON)).closed


@given(
    st.floats(0.01, 1e6), st.sampled_from(["30s", "5m", "2h", "1d", "3d", "2w", "45d", "2mo", "400d"]), st.floats(0, 2)
)
def test_the_remainder_is_never_more_than_litellm_would_allow(usd: float, duration: str, part: float) -> None:
    found = carried(RollingBudget(usd, duration, usd * part, SOON)).limits
    name = next(name for name in found if name != "carried")
    used = found.get("carried", {}).get(name, {}).get("amount", 0.0)
    assert found[name] <= usd + 1e-6
    assert found[name] - used <= usd - usd * part + 1e-6
    assert seconds_of(duration)
