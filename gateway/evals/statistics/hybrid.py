"""The mean of differences with a planned end: any look on the way is valid, and the last look is a textbook interval.

A fifth of the error pays for looking: an asymptotic confidence sequence at every n below the horizon. The rest pays for
one interval at the horizon, which is therefore almost as narrow as that of a test which may only look once. Both events
together have probability alpha at most, by the union bound.

Sources: the sequence is equation 9 of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, Annals of Statistics 52(6),
arXiv:2103.06476; spending a small part of the error before the last look is Haybittle 1971 and Peto et al. 1976.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from gateway.evals.statistics.asymptotic import best_rho, sum_width
from gateway.evals.statistics.domains import at_least, finite, inside, not_negative, positive
from gateway.evals.statistics.moments import Moments
from gateway.evals.statistics.state import State, dump, load

EARLY = 0.2  # share of the error that pays for the looks before the horizon
TIGHTEST = 0.3  # share of the horizon at which the early sequence is tightest
BURN_IN = 20  # pairs below which nothing is claimed
_FLOOR = 3.4  # squared deviations, in units of the largest possible one, that are added while few have been seen
_FEW = 7.0  # how many such deviations count as few


def guarded(m2: float, largest: float) -> float:
    """The sum of squared deviations m2 plus a floor for what has not been seen yet.

    largest: the largest deviation that one value can have; > 0. Differences that are almost always 0 have no variance
    until the first one that is not; the normal approximation would then claim certainty. With the floor, n equal
    values claim no more than the rule of three does: at a one-sided error of 0.02, a mean below 3.8/n of `largest`.
    The floor fades once many deviations have been seen. Chosen by simulation (tests/evals/statistics/test_hybrid.py).
    """
    seen = not_negative("m2", m2) / positive("largest", largest) ** 2
    return m2 + largest**2 * _FLOOR * min(1.0, _FEW / seen if seen else 1.0)


def planned_pairs(deviation: float, gap: float, alpha: float, power: float = 0.8, largest: float = 1.0) -> int:
    """The horizon at which a difference that is `gap` away from the margin is decided with this power.

    deviation: of one difference, >= 0. gap: distance from the true difference to the margin, > 0. alpha: two-sided, in
    (0, 1). largest: see `guarded`; 0 for values without bounds.
    """
    normal = NormalDist()
    z = normal.inv_cdf(1 - inside("alpha", alpha) * (1 - EARLY) / 2) + normal.inv_cdf(inside("power", power))
    variance, needed = not_negative("deviation", deviation) ** 2, (positive("gap", gap) / z) ** 2
    n = max(variance / needed, float(BURN_IN))
    for _ in range(64):  # n = (n variance + floor(n)) / (n needed): a contraction, since the floor only shrinks
        total = guarded(n * variance, largest) if largest else n * variance
        n, before = max(total / (n * needed), float(BURN_IN)), n
        n = (n + before) / 2
        if abs(n - before) < 0.01:
            break
    return math.ceil(n)


@dataclass(slots=True)
class HybridMean:
    """A confidence sequence for the mean with a horizon. Values after the horizon are not taken.

    Under drift it covers the running average of the conditional means. It is asymptotic: its error with ties, one-sided
    differences and drift is printed by tests/evals/statistics/test_hybrid.py.
    """

    alpha: float = 0.05  # in (0, 1), two-sided, over all looks
    horizon: int = 500  # the number of values at which the last look is taken
    largest: float = 1.0  # the largest deviation that one value can have; 0: values without bounds
    n: int = 0
    mean: float = 0.0
    m2: float = 0.0

    def __post_init__(self) -> None:
        inside("alpha", self.alpha)
        at_least("horizon", self.horizon, BURN_IN)
        not_negative("largest", self.largest)
        Moments(self.n, self.mean, self.m2)

    @property
    def closed(self) -> bool:
        """The horizon is reached: the interval is final."""
        return self.n >= self.horizon

    def add(self, x: float) -> None:
        """Takes the next value, in order of arrival. Raises ValueError unless it is finite, or after the horizon."""
        if self.closed:
            raise ValueError(f"the horizon of {self.horizon} is reached; no further value is taken")
        moments = Moments(self.n, self.mean, self.m2).add(finite("x", x))
        self.n, self.mean, self.m2 = moments.n, moments.mean, moments.m2

    def half_width(self) -> float:
        """Half of the interval's width; infinity below the burn-in."""
        return half_width(self.alpha, self.horizon, self.n, self.m2, self.largest)

    def interval(self) -> tuple[float, float]:
        """(low, high); (-inf, inf) below the burn-in."""
        half = self.half_width()
        return self.mean - half, self.mean + half

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        return dump(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "HybridMean":
        """Raises ValueError if a field is missing, unknown or outside its domain."""
        return load(cls, state)


def half_width(alpha: float, horizon: int, n: int, m2: float, largest: float = 1.0) -> float:
    """Half of the width after n of `horizon` values whose squared deviations add up to m2. See HybridMean."""
    if n < BURN_IN:
        return math.inf
    deviation = math.sqrt(guarded(m2, largest) if largest else m2)
    if n >= horizon:
        return NormalDist().inv_cdf(1 - alpha * (1 - EARLY) / 2) * deviation / n
    early = alpha * EARLY
    return deviation * sum_width(n, best_rho(early, TIGHTEST * horizon), early) / math.sqrt(n) / n
