"""Whether the number of users, conversations or keys holds a plan, and not that of pairs.

Pairs of the same users say ever less about others. With an intraclass correlation r and u effective users, the variance
of the mean stays above r / u times that of one pair, however many pairs come.
"""

from __future__ import annotations

import math

from gateway.core.horizon import precision
from gateway.verdict.sequences.difference import DifferenceSequence

FEWEST_PAIRS = 20  # before the units of a plan say what later ones will be like


def held_by_units(primary: DifferenceSequence | None, margin: float) -> str | None:
    """The advice for a plan whose primary more pairs of the same units do not decide; None for all others."""
    counted = None if primary is None else primary.independence.counted
    if primary is None or counted is None or primary.n < FEWEST_PAIRS or not margin:
        return None
    unit, units = primary.independence.unit, counted.sums.groups
    if primary.can_look(last=False) and not _is_imprecise(primary, units, margin):
        return None
    return (
        f"more {unit}s, not more pairs, decide it: the pairs are of {units:.3g} effective {unit}s; a new plan with "
        "`population: these` is about these alone"
    )


def _is_imprecise(primary: DifferenceSequence, units: float, margin: float) -> bool:
    """Whether any number of pairs of these units leaves a standard error too large for the margin."""
    counted = primary.independence.counted
    if counted is None or not counted.sums.alarm:
        return False
    correlation = counted.sums.correlation(primary.moments.mean) or 0.0
    least = math.sqrt(max(correlation, 0.0) * primary.moments.variance() / units)
    return least > precision(margin, primary.rule.alpha)
