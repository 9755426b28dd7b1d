"""What the proof on served answers costs before it begins."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, Plan
from gateway.core.ramp import RampDesign
from gateway.features.experiments.served_price import (
    GUARD,
    error_margin,
    error_proof_units,
    look_z,
    proof_hours,
    proof_units,
    reached,
)

DESIGN = RampDesign((0.01, 0.05, 0.25, 0.5, 1.0), 3600.0, 100)
PLAN = Plan(
    "swap", "chat", Target("a", "m"), (("candidate", Target("b", "m")),), "both", primary="quality", margin=0.05,
    ramp=DESIGN, rules=2,
)  # fmt: skip


def test_the_margin_of_errors_is_half_a_point_or_half_the_controls_rate() -> None:
    assert [error_margin(PLAN, rate) for rate in (0.0, 0.01, 0.06)] == [0.005, 0.005, 0.03]
    stated = replace(PLAN, guardrails=(Guardrail("error_rate", 0.002),))
    assert error_margin(stated, 0.06) == 0.002


@pytest.mark.parametrize(("rate", "units"), [(0.01, 7260), (0.005, 3930), (0.001, 1603)])
def test_errors_are_proved_with_the_units_of_a_fixed_test(rate: float, units: int) -> None:
    """One-sided 0.016 and power 0.8. A fixed test of two proportions without any guard against arms that have hardly
    failed yet needs 7060, 3550 and 710."""
    assert look_z(PLAN.verdict_alpha) == pytest.approx(2.144, abs=1e-3)
    assert error_proof_units(PLAN, rate) == pytest.approx(units, rel=0.01)


def test_what_is_reached_is_the_share_of_the_units() -> None:
    n, alpha = proof_units(0.04, 0.05, 0.04), 0.04
    assert n is not None
    error = (2 * (0.04 * n + GUARD) / n**2) ** 0.5
    assert reached(error, 0.05, alpha) == pytest.approx(1.0, rel=0.02)
    assert reached(2 * error, 0.05, alpha) == pytest.approx(0.25, rel=0.02)
    assert proof_units(0.04, 0.0, 0.04) is None


def test_the_hours_follow_from_the_steps() -> None:
    """7160 units an arm: 3580 of s (1 - s): 60 + 285 + 1125 in the first three hours, then 1500 an hour."""
    hours = proof_hours(7160, 6000.0, DESIGN)
    assert hours == pytest.approx(3 + (3580 - 59.4 - 285 - 1125) / 1500, rel=0.01)
    assert proof_hours(10, 6000.0, DESIGN) == 4.0, "each step lasts its soak time"
    assert proof_hours(10, 0.0, DESIGN) is None
    assert proof_hours(10, 100.0, RampDesign((1.0,), 0.0, 1)) is None
