"""The number of pairs that decides a margin, and the floor that keeps ties from claiming certainty."""

from __future__ import annotations

import pytest

from gateway.core.horizon import BURN_IN, guarded, planned_pairs


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
