"""The number of pairs that decides a margin, and the floor that keeps ties from claiming certainty."""

from __future__ import annotations

import math

import pytest

from gateway.core.horizon import BURN_IN, guarded, horizon_range, planned_pairs, precision


@pytest.mark.parametrize(
    ("deviation", "gap", "expected"), [(0.3, 0.05, 311), (0.3, 0.02, 1888), (0.1, 0.05, 125), (0.0, 0.05, 107)]
)
def test_the_planned_horizon_has_its_price(deviation: float, gap: float, expected: int) -> None:
    """1.10 and 1.07 times a fixed test for common data; heavily tied data pay for the floor."""
    assert planned_pairs(deviation, gap, 0.05) == pytest.approx(expected, abs=2)


def test_values_without_bounds_have_no_floor() -> None:
    assert planned_pairs(0.3, 0.05, 0.05, largest=0.0) == pytest.approx(302, abs=2)
    assert planned_pairs(0.0, 0.05, 0.05, largest=0.0) == BURN_IN


def test_the_floor_scales_with_the_largest_deviation_and_fades() -> None:
    assert guarded(0.0, 0.5) == pytest.approx(3.4 / 4)
    assert guarded(1000.0, 1.0) == pytest.approx(1000.0, rel=1e-4)


@pytest.mark.parametrize("wrong", [{"deviation": -0.1}, {"gap": 0.0}, {"alpha": 1.0}, {"power": 0.0}])
def test_numbers_outside_their_domain_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        planned_pairs(**{"deviation": 0.3, "gap": 0.05, "alpha": 0.05, **wrong})


@pytest.mark.parametrize(("deviation", "margin", "alpha"), [(0.3, 0.05, 0.05), (0.5, 0.1, 0.04), (1.0, 0.2, 0.025)])
def test_planned_pairs_have_the_precision(deviation: float, margin: float, alpha: float) -> None:
    n = planned_pairs(deviation, margin, alpha)
    error = math.sqrt(guarded(n * deviation**2, 1.0)) / n
    assert error == pytest.approx(precision(margin, alpha), rel=0.01)


def test_a_following_horizon_has_a_range() -> None:
    found = horizon_range(335, 0.05, 0.05)
    assert (found.expected, found.high) == (335, 4 * 335)
    assert found.low == planned_pairs(0.0, 0.05, 0.05), "arms that never differ, by the rule of three"
    assert horizon_range(80, 0.3, 0.05).low == 50
    assert horizon_range(30, 0.3, 0.05).low == 30
