"""What a proof on served answers costs: units an arm, and hours at the steps of a ramp. Pure.

The proof is one planned look with 0.8 of the verdict's part of alpha, at the number of units that shows a candidate
which is exactly as good to be not worse with a power of 0.8.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from gateway.core.horizon import EARLY
from gateway.core.plan import Plan
from gateway.core.ramp import RampDesign
from gateway.features.experiments.progress import margin_of

ERRORS = "error_rate"
LEAST_ERROR_MARGIN = 0.005  # half a point
_OF_CONTROL = 0.5  # share of the control's error rate that a candidate may add
POWER = 0.8
GUARD = 2.0  # squared deviations that each arm's sum gains: an arm without a failure is not one that cannot fail


def error_margin(plan: Plan, control_rate: float) -> float:
    """What a candidate may fail more often: as the plan says, else half a point or half the control's rate, whichever
    is more. control_rate: share of failures, in [0, 1]."""
    stated = margin_of(plan, ERRORS)
    return max(LEAST_ERROR_MARGIN, _OF_CONTROL * control_rate) if stated is None else stated


def look_z(alpha: float) -> float:
    """The normal quantile of the planned look. alpha: two-sided, of the whole proof of one metric."""
    return NormalDist().inv_cdf(1 - alpha / 2 * (1 - EARLY))


def wanted_error(margin: float, alpha: float) -> float:
    """The difference's standard error at which the planned look has its power."""
    return margin / (look_z(alpha) + NormalDist().inv_cdf(POWER))


def reached(error: float, margin: float, alpha: float) -> float:
    """The share of the needed units that there are, from the difference's standard error; 1 or more: all of them."""
    if margin <= 0:
        return 0.0
    return (wanted_error(margin, alpha) / error) ** 2 if error > 0 else math.inf


def proof_units(variance: float, margin: float, alpha: float) -> int | None:
    """Units an arm that the planned look needs. None: no number is enough for a margin of 0.

    variance: of one unit's value, alike in both arms; of failures, rate * (1 - rate). alpha: as look_z takes it.
    """
    if margin <= 0:
        return None
    wanted = wanted_error(margin, alpha) ** 2
    # 2 (variance n + GUARD) / n² = wanted, solved for n
    return math.ceil((variance + math.sqrt(variance**2 + 2 * GUARD * wanted)) / wanted)


def error_proof_units(plan: Plan, control_rate: float) -> int | None:
    """proof_units of errors for a candidate that fails as often as the control."""
    margin = error_margin(plan, control_rate)
    return proof_units(control_rate * (1 - control_rate), margin, plan.verdict_alpha)


def proof_hours(units: int, per_hour: float, design: RampDesign) -> float | None:
    """Hours from the first step until both arms have served so many units. None: no step serves both, or nothing comes.

    per_hour: units that begin, calls or conversations as the plan's unit is. Each step lasts its soak time, the last
    one before all traffic as long as it takes; a step at share s is worth s (1 - s) of its units.
    """
    partial = [share for share in design.steps if share < 1.0]
    if not partial or per_hour <= 0:
        return None
    hours, left = 0.0, units / 2 / per_hour
    for share in partial[:-1]:
        took = min(design.soak_s / 3600, left / (share * (1 - share)))
        hours, left = hours + design.soak_s / 3600, left - took * share * (1 - share)
    return hours + max(design.soak_s / 3600, left / (partial[-1] * (1 - partial[-1])))
