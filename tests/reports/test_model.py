"""The meaning of an interval of a difference: its direction, and its position relative to the margin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.reports.model import Estimate, IntervalTrail, direction_finding, margin_finding, negated


@pytest.mark.parametrize(
    ("low", "high", "direction", "margin"),
    [
        (0.01, 0.03, "better", "non_inferior"),
        (-0.01, 0.01, "unclear", "equivalent"),
        (0.001, 0.015, "better", "equivalent"),
        (-0.01, 0.05, "unclear", "non_inferior"),
        (-0.03, 0.01, "unclear", "unclear"),
        (-0.019, -0.001, "worse", "equivalent"),
        (-0.05, -0.01, "worse", "unclear"),
        (-0.05, -0.021, "worse", "inferior"),
        (None, None, "unclear", "unclear"),
        (None, -0.03, "worse", "inferior"),
        (-0.01, None, "unclear", "non_inferior"),
    ],
)
def test_direction_and_margin(low: float | None, high: float | None, direction: str, margin: str) -> None:
    inside = 0.0 if low is None and high is None else low if low is not None else high
    e = Estimate(inside, low, high)
    assert (direction_finding(e), margin_finding(e, 0.02)) == (direction, margin)


def test_a_margin_of_zero_asks_for_not_worse_at_all() -> None:
    assert margin_finding(Estimate(1.0, 0.0, 2.0), 0.0) == "non_inferior"
    assert margin_finding(Estimate(1.0, -0.001, 2.0), 0.0) == "unclear"


BOUND = st.none() | st.floats(-1e6, 1e6)


@given(st.floats(-1e6, 1e6), BOUND, BOUND)
def test_an_interval_holds_its_number(value: float, low: float | None, high: float | None) -> None:
    """One that leaves it out is widened up to it, never narrowed: what is decided by it errs no more often."""
    for e, sign in ((Estimate(value, low, high), 1.0), (negated(Estimate(value, low, high)), -1.0)):
        assert e.value == sign * value
        assert e.low is None or e.low <= sign * value
        assert e.high is None or e.high >= sign * value
    made = Estimate(value, low, high)
    assert (made.low is None, made.high is None) == (low is None, high is None)
    assert low is None or low == made.low or low > value
    assert high is None or high == made.high or high < value


@given(st.lists(st.tuples(st.integers(1, 99), *[st.floats(-1e6, 1e6)] * 3), max_size=4))
def test_every_point_of_a_trail_lies_in_its_interval(points: list[tuple[int, float, float, float]]) -> None:
    for _, value, low, high in IntervalTrail("quality", tuple(points)).points:
        assert low <= value <= high
