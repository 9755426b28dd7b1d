"""Asymptotic confidence sequences: for means without bounds (latency, cost, weighted terms), valid at every large n.

Source of all: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, "Time-uniform central limit theory and asymptotic
confidence sequences", Annals of Statistics 52(6), arXiv:2103.06476.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.evals.statistics.domains import finite, inside, not_negative, positive
from gateway.evals.statistics.moments import Moments
from gateway.evals.statistics.state import State, dump, load


@dataclass(frozen=True, slots=True)
class Tuning:
    """How an asymptotic confidence sequence is laid; chosen in the plan, never after a look at the values."""

    alpha: float = 0.05  # in (0, 1): the share of sequences that may ever miss
    n_star: float = 500.0  # the sample size at which the interval is tightest
    burn_in: float = 30.0  # below this sample size the interval is everything: the guarantee is asymptotic

    def __post_init__(self) -> None:
        inside("alpha", self.alpha)
        positive("n_star", self.n_star)
        not_negative("burn_in", self.burn_in)


def best_rho(alpha: float, n_star: float) -> float:
    """rho = sqrt((-2 ln alpha + ln(1 - 2 ln alpha)) / n_star), for which the width at n_star is smallest.

    alpha in (0, 1), n_star > 0. Source: arXiv:2103.06476, section 3.5 (the closed-form approximation).
    """
    log_inverse = -2.0 * math.log(inside("alpha", alpha))
    return math.sqrt((log_inverse + math.log1p(log_inverse)) / positive("n_star", n_star))


def sum_width(v: float, rho: float, alpha: float, two_sided: bool = True) -> float:
    """Half the width for a sum whose variances add up to v; divide by n for the mean of n.

    Two-sided: sqrt(2 (v rho^2 + 1) / rho^2 ln(sqrt(v rho^2 + 1) / alpha));
    one-sided: the same with ln(1 + sqrt(v rho^2 + 1) / (2 alpha)), where rho is tuned for 2 alpha. v >= 0, rho > 0.
    Observations of one variance sigma^2: sigma times sum_width(n) / n (rho then counts observations, v / sigma^2).
    Source: arXiv:2103.06476, equation 9 (theorem 2.2) and theorem 2.5 (variances that change), one-sided in appendix B.
    """
    inside("alpha", alpha)
    growth = not_negative("v", v) * positive("rho", rho) ** 2 + 1.0
    root = math.sqrt(growth)
    log_term = math.log(root / alpha) if two_sided else math.log1p(root / (2.0 * alpha))
    return math.sqrt(2.0 * growth * log_term) / rho


def half_width(deviation: float, n: float, tuning: Tuning, two_sided: bool = True) -> float:
    """deviation times sum_width(n) / n with the plan's rho (one-sided: tuned for 2 alpha); infinity below the burn-in.

    deviation >= 0 is that of one observation, not of the mean; an effective n need not be whole.
    """
    not_negative("deviation", deviation)
    if n < tuning.burn_in or n <= 0:
        return math.inf
    rho = best_rho(tuning.alpha if two_sided else min(2.0 * tuning.alpha, 0.999), tuning.n_star)
    return deviation * sum_width(n, rho, tuning.alpha, two_sided) / n


@dataclass(slots=True)
class AsymptoticMean:
    """A confidence sequence for the mean of values of any scale, for independent observations; one may peek.

    Under drift it covers the running average of the conditional means. Identical values give width 0: for scores in
    [0, 1] prefer EmpiricalBernstein.
    """

    alpha: float = 0.05
    n_star: float = 500.0
    burn_in: float = 30.0
    n: int = 0
    mean: float = 0.0
    m2: float = 0.0

    def __post_init__(self) -> None:
        Tuning(self.alpha, self.n_star, self.burn_in)
        Moments(self.n, self.mean, self.m2)

    def add(self, x: float) -> None:
        """Takes the next value, in order of arrival. Raises ValueError unless it is finite."""
        self._take(Moments(self.n, self.mean, self.m2).add(x))

    def merge(self, other: "AsymptoticMean") -> None:
        """Takes all of other's values; the order of arrival does not matter to the interval."""
        self._take(Moments(self.n, self.mean, self.m2).merge(Moments(other.n, other.mean, other.m2)))

    def interval(self) -> tuple[float, float]:
        """(low, high); (-inf, inf) below the burn-in."""
        deviation = math.sqrt(self.m2 / self.n) if self.n else 0.0
        half = half_width(finite("deviation", deviation), self.n, Tuning(self.alpha, self.n_star, self.burn_in))
        return self.mean - half, self.mean + half

    def state(self) -> State:
        """A JSON-able dict from which from_state continues with the same bits."""
        return dump(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "AsymptoticMean":
        """Raises ValueError if the state is of another kind."""
        return load(cls, state)

    def _take(self, moments: Moments) -> None:
        self.n, self.mean, self.m2 = moments.n, moments.mean, moments.m2
