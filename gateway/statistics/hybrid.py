"""The mean of differences with a planned end: any look on the way is valid, and the last look is a textbook interval.

A fifth of the error pays for looking: an asymptotic confidence sequence at every n below the horizon. The rest pays for
one interval at the horizon, which is therefore almost as narrow as that of a test which may only look once. Both events
together have probability alpha at most, by the union bound.

A sequence may go on after its last look, with the early part alone: that sequence holds at every n, also beyond the
horizon, and for any reason to go on. The last look has spent its part and never comes twice, so the union bound over
both events still gives alpha.

Sources: the sequence is equation 9 of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, Annals of Statistics 52(6),
arXiv:2103.06476; spending a small part of the error before the last look is Haybittle 1971 and Peto et al. 1976.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from gateway.core.horizon import BURN_IN, EARLY, guarded
from gateway.statistics.asymptotic import Tuning, best_rho, log_e_value, sum_width
from gateway.statistics.domains import at_least, finite, inside, not_negative, positive
from gateway.statistics.moments import Moments
from gateway.statistics.stored_state import State, Stored, dump, load

TIGHTEST = 0.3  # share of the horizon at which the early sequence is tightest


@dataclass(slots=True)
class HybridMean(Stored):
    """A confidence sequence for the mean with a horizon. Values after the horizon are not taken.

    Before the horizon it is an asymptotic confidence sequence at a fifth of alpha; at the horizon, one fixed-n interval
    at the rest. Under drift it covers the running average of the conditional means. It is asymptotic: its error with
    ties, one-sided differences and drift is printed by tests/statistics/test_hybrid.py. Raises ValueError outside the
    domains of its fields. planned_pairs gives a horizon.
    Source: Waudby-Smith et al. 2024, Annals of Statistics 52(6), arXiv:2103.06476, equation 9; spending a small part of
    the error before the last look is Haybittle 1971 and Peto et al. 1976.
    """

    alpha: float = 0.05  # in (0, 1), two-sided, over all looks
    horizon: int = 500  # the number of values at which the last look is taken, >= 20
    largest: float = 1.0  # the largest deviation that one value can have, >= 0; 0: values without bounds
    n: int = 0  # values so far
    mean: float = 0.0  # of them
    m2: float = 0.0  # sum of their squared deviations from the mean
    ended: bool = False  # the last look was taken, see end
    follows: bool = False  # the last look is taken at `end` alone; `horizon` is the planned number of values
    until: int = 0  # values at which a sequence that went on after its last look pauses; 0: it did not go on

    def __post_init__(self) -> None:
        inside("alpha", self.alpha)
        at_least("horizon", self.horizon, BURN_IN)
        not_negative("largest", self.largest)
        Moments(self.n, self.mean, self.m2)

    @property
    def closed(self) -> bool:
        """No further value is taken: the horizon is reached, or the pause of a sequence that went on."""
        if self.until:
            return self.n >= self.until
        return self.ended or (not self.follows and self.n >= self.horizon)

    def end(self) -> None:
        """Takes the last look now. The caller decides on it from the variance only, never from the mean."""
        self.ended = True

    @property
    def last_look(self) -> bool:
        """Whether the interval is that of the last look."""
        return self.closed and not self.until

    def go_on(self, more: int) -> None:
        """Takes this many further values after the last look, with the early sequence alone. Raises ValueError before
        it."""
        at_least("more", more, 1)
        if not self.closed:
            raise ValueError("a sequence goes on only after its last look")
        self.until = self.n + more

    def add(self, x: float) -> None:
        """Takes the next value, in order of arrival. Raises ValueError unless it is finite, or after the horizon."""
        if self.closed:
            raise ValueError(f"the horizon of {self.horizon} is reached; no further value is taken")
        moments = Moments(self.n, self.mean, self.m2).add(finite("x", x))
        self.n, self.mean, self.m2 = moments.n, moments.mean, moments.m2

    def half_width(self) -> float:
        """Half of the interval's width; infinity below the burn-in."""
        return half_width(self.alpha, self.horizon, self.n, self.m2, self.largest, self.last_look)

    def interval(self) -> tuple[float, float]:
        """(low, high); (-inf, inf) below the burn-in."""
        half = self.half_width()
        return self.mean - half, self.mean + half

    def log_e_value(self) -> float:
        """ln of the evidence against "the mean is 0", of the sequence before the horizon; 0.0 below the burn-in."""
        deviation = _deviation(self.n, self.m2, self.largest) if self.n else 0.0
        tuning = Tuning(self.alpha * EARLY, TIGHTEST * self.horizon, BURN_IN)
        return log_e_value(self.mean, deviation, self.n, tuning)

    def state(self) -> State:
        return {name: value for name, value in dump(self).items() if name not in ("follows", "until") or value}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "HybridMean":
        """Raises ValueError as any sequence's. States may lack `ended`, `follows` and `until`."""
        return load(cls, {"ended": False, "follows": False, "until": 0, **state})


@dataclass(slots=True)
class GuardedMean(Stored):
    """An asymptotic confidence sequence for differences in [-largest, largest], without a horizon.

    AsymptoticMean with a floor on the sum of squared deviations, so that equal values do not make a point of the
    interval: n of them claim no more than the rule of three does. Raises ValueError outside the domains of its fields.
    Source: Waudby-Smith et al. 2024, Annals of Statistics 52(6), arXiv:2103.06476, equation 9; the floor is chosen by
    simulation (tests/statistics/test_hybrid.py).
    """

    alpha: float = 0.05  # in (0, 1), two-sided, over all looks
    n_star: float = 500.0  # the number of values at which the interval is tightest, > 0
    largest: float = 1.0  # the largest deviation that one value can have, > 0
    n: int = 0  # values so far
    mean: float = 0.0  # of them
    m2: float = 0.0  # sum of their squared deviations from the mean

    def __post_init__(self) -> None:
        Tuning(self.alpha, self.n_star)
        positive("largest", self.largest)
        Moments(self.n, self.mean, self.m2)

    def add(self, x: float) -> None:
        """Takes the next value, in order of arrival. Raises ValueError unless it is finite."""
        moments = Moments(self.n, self.mean, self.m2).add(finite("x", x))
        self.n, self.mean, self.m2 = moments.n, moments.mean, moments.m2

    def interval(self) -> tuple[float, float]:
        """(low, high); (-inf, inf) below the burn-in."""
        half = guarded_half_width(self.alpha, self.n_star, self.n, self.m2, self.largest)
        return self.mean - half, self.mean + half

    def log_e_value(self) -> float:
        """ln of the evidence against "the mean is 0"; 0.0 below the burn-in."""
        deviation = _deviation(self.n, self.m2, self.largest) if self.n else 0.0
        return log_e_value(self.mean, deviation, self.n, Tuning(self.alpha, self.n_star, BURN_IN))


def guarded_half_width(alpha: float, n_star: float, n: int, m2: float, largest: float = 1.0) -> float:
    """Half of the width after n values whose squared deviations add up to m2. See GuardedMean."""
    if n < BURN_IN:
        return math.inf
    return _deviation(n, m2, largest) * sum_width(n, best_rho(alpha, n_star), alpha) / n


def _deviation(n: int, m2: float, largest: float) -> float:
    """The standard deviation of one value, with the floor. n: > 0."""
    return math.sqrt((guarded(m2, largest) if largest else m2) / n)


def half_width(alpha: float, horizon: int, n: int, m2: float, largest: float = 1.0, last: bool | None = None) -> float:
    """Half of the width after n values whose squared deviations add up to m2. See HybridMean.

    horizon: the planned one, at which the early sequence is tuned. last: this is the last look; None if it is from the
    horizon on.
    """
    if n < BURN_IN:
        return math.inf
    deviation = math.sqrt(guarded(m2, largest) if largest else m2)
    if n >= horizon if last is None else last:
        return NormalDist().inv_cdf(1 - alpha * (1 - EARLY) / 2) * deviation / n
    early = alpha * EARLY
    return deviation * sum_width(n, best_rho(early, TIGHTEST * horizon), early) / math.sqrt(n) / n
