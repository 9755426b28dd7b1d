"""Units that a split needs: its arms are different people, so nothing cancels as in pairs.

Its interval is that of verdict/split/comparison.py, on the difference of two weighted means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.plan import CONTROL, FAILURE_METRICS, FEEDBACK, UNBOUNDED_METRICS, Plan
from gateway.reports.model import Comparison
from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.special import smallest
from gateway.verdict.sequences.difference import BURN_IN

SPLIT_GUESS = 0.2  # assumed variance of one score in [0, 1]; at most 0.25
RATED = 0.1  # assumed share of answers that people rate
FEWEST_UNITS = 20  # units behind a measured mean
MOST_UNITS = 10**8


@dataclass(frozen=True, slots=True)
class SplitVariance:
    """The variance of one answer's value in each arm, and the share of answers that have a value."""

    a: float
    b: float
    answered: float
    basis: str


def variance_of(plan: Plan, metric: str, found: Comparison | None) -> SplitVariance | None:
    """Estimates it from the means so far, else assumes it. None if nothing is known, as of a metric without bounds.

    A value in [0, 1] with mean m has a variance of at most m (1 - m).
    """
    answered, words = _answered(plan, metric, found)
    means = _means(found)
    if means is not None and found is not None:
        a, b = means
        return SplitVariance(a * (1 - a), b * (1 - b), answered, f"the means so far, {found.pairs} units{words}")
    if metric in FAILURE_METRICS:
        return SplitVariance(0.0, 0.0, 1.0, "it is assumed that nothing fails")
    if metric in UNBOUNDED_METRICS:
        return None
    basis = f"a variance of {SPLIT_GUESS:g} in each arm is assumed{words}"
    return SplitVariance(SPLIT_GUESS, SPLIT_GUESS, answered, basis)


def _means(found: Comparison | None) -> tuple[float, float] | None:
    """Means of both arms; None if there are too few units, or values outside [0, 1]."""
    if found is None or found.pairs < FEWEST_UNITS or found.unit or found.a.value is None or found.b.value is None:
        return None
    means = (found.a.value, found.b.value)
    return means if all(0.0 <= mean <= 1.0 for mean in means) else None


def _answered(plan: Plan, metric: str, found: Comparison | None) -> tuple[float, str]:
    """(the share of answers with a value, words for readers)."""
    if not metric.startswith(FEEDBACK) or plan.feedback_missing == "zero":
        return 1.0, ""
    r = found.responses if found else None
    closed = r.a.closed + r.b.closed if r else 0
    if r is None or closed < FEWEST_UNITS or not r.a.answered + r.b.answered:
        return RATED, f"; {RATED:.0%} of the answers are assumed to be rated"
    share = (r.a.answered + r.b.answered) / closed
    return share, f"; {share:.0%} of the answers are rated"


def units_needed(
    variance: SplitVariance, shares: Mapping[str, float], arm: str, gap: float, alpha: float
) -> int | None:
    """Units with a value, of both arms together, until the half-width is below the gap. None if there are too many.

    shares: arm → the planned share of units. alpha: of this candidate, two-sided.
    """
    tuning, both = Tuning(alpha, burn_in=BURN_IN), shares[CONTROL] + shares[arm]
    parts = ((variance.a, shares[CONTROL] / both), (variance.b, shares[arm] / both))

    def width(n: int) -> float:
        if min(n * part for _, part in parts) < BURN_IN:
            return math.inf
        spread = sum((v + (half_width(1.0, n * part, tuning) / 2.0) ** 2) / part for v, part in parts)
        return half_width(math.sqrt(spread), n, tuning)

    return smallest(lambda n: width(n) < gap, 2, MOST_UNITS)
