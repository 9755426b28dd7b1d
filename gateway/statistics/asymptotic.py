"""Asymptotic confidence sequences: for means of unbounded values (latency, cost), valid at every large n.

Source of everything here: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, "Time-uniform central limit theory and
asymptotic confidence sequences", Annals of Statistics 52(6), arXiv:2103.06476.
"""

import math
from dataclasses import dataclass

from gateway.statistics.domains import finite, inside, not_negative, positive
from gateway.statistics.moments import Moments
from gateway.statistics.stored_state import Stored


@dataclass(frozen=True, slots=True)
class Tuning:
    """The free parameters of an asymptotic confidence sequence; fixed before the first look at the values.

    Raises ValueError outside the domains of its fields.
    """

    alpha: float = 0.05  # in (0, 1): the probability that the sequence ever misses the mean
    n_star: float = 500.0  # the sample size at which the interval is tightest, > 0
    burn_in: float = 30.0  # below this sample size the interval is (-inf, inf): the guarantee is asymptotic; >= 0

    def __post_init__(self) -> None:
        inside("alpha", self.alpha)
        positive("n_star", self.n_star)
        not_negative("burn_in", self.burn_in)


def best_rho(alpha: float, n_star: float) -> float:
    """Computes rho = sqrt((-2 ln alpha + ln(1 - 2 ln alpha)) / n_star), which minimises the width at n_star.

    alpha: in (0, 1). n_star: > 0. Raises ValueError outside these domains.
    Source: arXiv:2103.06476, section 3.5 (the closed-form approximation).
    """
    log_inverse = -2.0 * math.log(inside("alpha", alpha))
    return math.sqrt((log_inverse + math.log1p(log_inverse)) / positive("n_star", n_star))


def sum_width(v: float, rho: float, alpha: float) -> float:
    """Half-width for a sum of observations: sqrt(2 (v rho^2 + 1) / rho^2 ln(sqrt(v rho^2 + 1) / alpha)).

    v: sum of the observations' variances, >= 0. rho: > 0, see best_rho. alpha: in (0, 1). The unit is that of the sum;
    divide by n for the mean of n observations. For one common variance sigma^2, use sigma * sum_width(n, ...): rho then
    counts observations. Raises ValueError outside these domains.
    Source: arXiv:2103.06476, equation 9 (theorem 2.2) and theorem 2.5 (changing variances).
    """
    inside("alpha", alpha)
    growth = not_negative("v", v) * positive("rho", rho) ** 2 + 1.0
    return math.sqrt(2.0 * growth * math.log(math.sqrt(growth) / alpha)) / rho


def half_width(deviation: float, n: float, tuning: Tuning) -> float:
    """Half-width for the mean of n observations: deviation * sum_width(n) / n; infinite below the burn-in.

    deviation: standard deviation of one observation (not of the mean), >= 0. n: may be an effective sample size, so it
    need not be whole. Raises ValueError for a negative or infinite deviation.
    """
    not_negative("deviation", deviation)
    if n < tuning.burn_in or n <= 0:
        return math.inf
    return deviation * sum_width(n, best_rho(tuning.alpha, tuning.n_star), tuning.alpha) / n


def log_e_value(mean: float, deviation: float, n: float, tuning: Tuning) -> float:
    """ln of the asymptotic e-value against "the mean is 0", from the normal mixture behind half_width.

    mean, deviation: of one observation, same unit. n: effective sample size. 0.0 (no evidence) below the burn-in, and
    where nothing varies.
    """
    if n < tuning.burn_in or n <= 0 or deviation == 0:
        return 0.0
    return normal_log_mixture(n * mean / deviation, n, best_rho(tuning.alpha, tuning.n_star) ** -2)


def normal_log_mixture(s: float, v: float, rho: float) -> float:
    """Two-sided normal mixture: ln m = ln(rho / (v + rho)) / 2 + s^2 / (2 (v + rho)).

    s: a sub-Gaussian sum. v: its variance, >= 0. rho: > 0, the v at which the mixture is tightest. Raises ValueError
    outside these domains. Source: Howard et al. 2021, arXiv:1810.08240, proposition 5 (equation 14).
    """
    total = not_negative("v", v) + positive("rho", rho)
    return 0.5 * math.log(rho / total) + finite("s", s) ** 2 / (2.0 * total)


@dataclass(slots=True)
class AsymptoticMean(Stored):
    """A confidence sequence for the mean of independent values on any scale; peeking is allowed.

    Under drift it covers the running average of the conditional means. Identical values give width 0, so scores in
    [0, 1] need EmpiricalBernstein or GuardedMean instead. alpha, n_star, burn_in: see Tuning. Raises ValueError outside
    their domains.
    Source: Waudby-Smith et al. 2024, Annals of Statistics 52(6), arXiv:2103.06476, equation 9.
    """

    alpha: float = 0.05  # in (0, 1)
    n_star: float = 500.0  # the number of values at which the interval is tightest, > 0
    burn_in: float = 30.0  # below this number of values the interval is (-inf, inf); >= 0
    n: int = 0  # values so far
    mean: float = 0.0  # of them
    m2: float = 0.0  # sum of their squared deviations from the mean

    def __post_init__(self) -> None:
        Tuning(self.alpha, self.n_star, self.burn_in)
        Moments(self.n, self.mean, self.m2)

    def add(self, x: float) -> None:
        """Takes the next value, in order of arrival. Raises ValueError unless it is finite."""
        moments = Moments(self.n, self.mean, self.m2).add(x)
        self.n, self.mean, self.m2 = moments.n, moments.mean, moments.m2

    def interval(self) -> tuple[float, float]:
        """(low, high); (-inf, inf) below the burn-in."""
        half = half_width(self._deviation(), self.n, self._tuning())
        return self.mean - half, self.mean + half

    def log_e_value(self) -> float:
        """ln of the evidence against "the mean is 0"; 0.0 below the burn-in and where all values are equal."""
        return log_e_value(self.mean, self._deviation(), self.n, self._tuning())

    def _tuning(self) -> Tuning:
        return Tuning(self.alpha, self.n_star, self.burn_in)

    def _deviation(self) -> float:
        return finite("deviation", math.sqrt(self.m2 / self.n) if self.n else 0.0)


SKEW_FROM = 300.0  # values from which a SkewedMean claims anything
SKEW_TERMS = 50.0  # values for each unit of squared skewness, before its end on the long tail's side counts


@dataclass(slots=True)
class SkewedMean(AsymptoticMean):
    """AsymptoticMean for values with a long tail (cost, tokens, latency), whose early sample has not seen the tail yet.

    The end on the side of the longer tail is infinite until n >= 50 skewness^2 of the values so far: there the mean is
    missed, while the other end errs less than it may. Both are infinite below the burn-in. Raises ValueError outside
    the domains of its fields.
    Source: the Berry-Esseen bound of a mean's distance from the normal law, of order skewness / sqrt(n) (Johnson 1978,
    JASA 73(363) corrects t by it); 50 and the burn-in are chosen by simulation (tests/statistics/test_asymptotic.py).
    """

    m3: float = 0.0  # sum of the cubes of their deviations from the mean

    def add(self, x: float) -> None:
        """Takes the next value, in order of arrival. Raises ValueError unless it is finite."""
        step = (finite("x", x) - self.mean) / (self.n + 1)
        self.m3 += step**3 * self.n * (self.n + 1) * (self.n - 1) - 3 * step * self.m2
        AsymptoticMean.add(self, x)

    def interval(self) -> tuple[float, float]:
        """(low, high); either may be infinite."""
        low, high = AsymptoticMean.interval(self)
        if self.m2**3 >= SKEW_TERMS * self.m3**2:  # n >= 50 skewness^2, by sums
            return low, high
        return (low, math.inf) if self.m3 > 0 else (-math.inf, high)
