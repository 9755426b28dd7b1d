"""Pairs that a comparison with a planned end needs, and the share of the error that each look costs.

The config freezes this number into a plan; statistics/hybrid.py builds the interval that it belongs to.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

EARLY = 0.2  # share of the error that pays for the looks before the horizon
BURN_IN = 20  # pairs below which nothing is claimed
FEWEST_REPEATS = 10  # values of the control's repeat before the A/A alarm can be green
FOLLOWED = 50  # pairs from which the horizon follows the variance
AT_MOST = 4  # times the planned pairs, at which a horizon that follows the variance ends
MOST_INFLATED = 4.0  # times AT_MOST, where values of a unit depend on each other (rules 3)
_FLOOR = 3.4  # squared deviations, in units of the largest possible one, that are added while few have been seen
_FEW = 7.0  # how many such deviations count as few


def guarded(m2: float, largest: float) -> float:
    """The sum of squared deviations m2 plus a floor for what has not been seen yet.

    largest: the largest deviation that one value can have; > 0. Differences that are almost always 0 have no variance
    until the first one that is not; the normal approximation would then claim certainty. With the floor, n equal
    values claim no more than the rule of three does: at a one-sided error of 0.02, a mean below 3.8/n of `largest`.
    The floor fades once many deviations have been seen. Chosen by simulation (tests/statistics/test_hybrid.py).
    """
    seen = _at_least_0("m2", m2) / _above_0("largest", largest) ** 2
    return m2 + largest**2 * _FLOOR * min(1.0, _FEW / seen if seen else 1.0)


def planned_pairs(deviation: float, gap: float, alpha: float, power: float = 0.8, largest: float = 1.0) -> int:
    """The horizon at which a difference that is `gap` away from the margin is decided with this power.

    deviation: of one difference, >= 0. gap: distance from the true difference to the margin, > 0. alpha: two-sided, in
    (0, 1). power: in (0, 1). largest: the largest deviation that one value can have, in the unit of deviation and gap,
    see `guarded`; 0 for values without bounds. Raises ValueError outside these domains.
    Source: n = ((z(alpha') + z(power)) deviation / gap)^2, with the part alpha' of alpha that the last look has.
    """
    variance, needed = _at_least_0("deviation", deviation) ** 2, precision(gap, alpha, power) ** 2
    n = max(variance / needed, float(BURN_IN))
    for _ in range(64):  # n = (n variance + floor(n)) / (n needed): a contraction, since the floor only shrinks
        total = guarded(n * variance, largest) if largest else n * variance
        n, before = max(total / (n * needed), float(BURN_IN)), n
        n = (n + before) / 2
        if abs(n - before) < 0.01:
            break
    return math.ceil(n)


def precision(gap: float, alpha: float, power: float = 0.8) -> float:
    """The standard error of the mean at which a difference that is `gap` away from the margin is decided.

    The last look has `1 - EARLY` of alpha. The other arguments are those of `planned_pairs`.
    """
    normal = NormalDist()
    z = normal.inv_cdf(1 - _share("alpha", alpha) * (1 - EARLY) / 2) + normal.inv_cdf(_share("power", power))
    return _above_0("gap", gap) / z


@dataclass(frozen=True, slots=True)
class HorizonRange:
    """Pairs at which an automatic horizon may end."""

    low: int
    """The number of pairs if the arms never differ."""
    expected: int
    """Pairs at the variance that the plan assumes."""
    high: int
    """The last look is taken here, however large the variance is. With rules 3, dependence within units multiplies it
    by up to MOST_INFLATED."""


def horizon_range(planned: int, margin: float, alpha: float, largest: float = 1.0) -> HorizonRange:
    """The range of a horizon that follows the variance.

    planned: the pairs of the plan. alpha: of the verdict on one candidate, two-sided. largest: see `guarded`; 0 for
    values without bounds. The sequence takes its last look at the first number of pairs, from FOLLOWED on, at which the
    standard error is at most `precision(margin, alpha)`; the mean is never used. Source: blinded re-estimation of the
    sample size, Gould & Shih 1992; Friede & Kieser 2006.
    """
    low = max(FOLLOWED, planned_pairs(0.0, margin, alpha, largest=largest))
    return HorizonRange(min(low, planned), planned, AT_MOST * planned)


def smallest_margin(pairs: int, alpha: float, largest: float = 1.0) -> float:
    """The margin that the last look of this many pairs shows at best, of arms that differ in none of them.

    pairs: >= 1. alpha: two-sided, in (0, 1). largest: see `guarded`.
    """
    z = NormalDist().inv_cdf(1 - _share("alpha", alpha) * (1 - EARLY) / 2)
    return z * math.sqrt(guarded(0.0, largest)) / pairs


def likelihood_scale(margin: float) -> tuple[float, float]:
    """(deviation, largest) of one call's difference in nats per token, in the unit of the margin.

    deviation: a guess, before there are pairs. largest: what the floor of `guarded` allows for in calls that have not
    been seen yet. Log-probabilities have no bounds, so both are set in margins: two engines that agree to within a
    margin on average rarely differ by more than five over a whole answer. A candidate that does so in a rare part of
    the traffic is not excluded until that part has been seen.
    """
    return 4.0 * margin, 5.0 * margin


def _share(name: str, value: float) -> float:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name}: {value!r} is outside (0, 1)")
    return value


def _above_0(name: str, value: float) -> float:
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name}: {value!r} is outside (0, inf)")
    return value


def _at_least_0(name: str, value: float) -> float:
    return value if value == 0 else _above_0(name, value)
