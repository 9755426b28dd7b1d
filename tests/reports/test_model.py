"""The meaning of an interval of a difference: its direction, and its position relative to the margin."""

from __future__ import annotations

import pytest

from gateway.reports.model import Estimate, direction_finding, margin_finding


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
    e = Estimate(0.0, low, high)
    assert (direction_finding(e), margin_finding(e, 0.02)) == (direction, margin)


def test_a_margin_of_zero_asks_for_not_worse_at_all() -> None:
    assert margin_finding(Estimate(1.0, 0.0, 2.0), 0.0) == "non_inferior"
    assert margin_finding(Estimate(1.0, -0.001, 2.0), 0.0) == "unclear"
