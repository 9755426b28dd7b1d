"""Sub-Bernoulli sums: the beta-binomial boundary, and the confidence sequence for a proportion that it gives."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from gateway.statistics.boundaries import best_rho, v_per_rho
from gateway.statistics.domains import at_least, between, finite, inside, not_negative, positive
from gateway.statistics.special import find_root, log_beta

_TUNING_ALPHA = 0.05  # for which the sequence of a proportion is tightest at n_opt, whatever alpha it has


@dataclass(frozen=True, slots=True)
class BetaBinomialMixture:
    """The two-sided beta-binomial mixture for S with mean-0 increments in [-g, h], and V = g h t.

    With k = g + h, a(s, v) = (r + v - g s) / (g k), b(s, v) = (r + v + h s) / (h k), B the beta function:
    ln m = v ln(k) / (g h) - (v + h s) ln(g) / (h k) - (v - g s) ln(h) / (g k) + ln B(a, b)(s, v) - ln B(a, b)(0, 0).
    Raises ValueError unless r, g and h are > 0.
    Source: Howard et al. 2021, proposition 7 (arXiv:1810.08240).
    """

    r: float  # places the v at which the bound is tightest, see tuned
    g: float
    h: float

    def __post_init__(self) -> None:
        for name, value in (("r", self.r), ("g", self.g), ("h", self.h)):
            positive(name, value)

    @classmethod
    def tuned(cls, v_opt: float, alpha: float, sides: tuple[float, float]) -> "BetaBinomialMixture":
        """Tightest near v_opt: r = max(best_rho(v_opt, alpha) - g h, g h / 1000). sides: (g, h)."""
        product = sides[0] * sides[1]
        return cls(max(best_rho(v_opt, alpha) - product, 1e-3 * product), *sides)

    def log_mixture(self, s: float, v: float) -> float:
        """ln m(s, v). v: >= 0. s: in (-(r + v) / h, (r + v) / g). Raises ValueError outside these domains."""
        g, h, total = self.g, self.h, self.g + self.h
        finite("s", s)
        weights = (not_negative("v", v) + h * s) * math.log(g) / (h * total) + (v - g * s) * math.log(h) / (g * total)
        a = (self.r + v - g * s) / (g * total)
        b = (self.r + v + h * s) / (h * total)
        start = log_beta(self.r / (g * total), self.r / (h * total))
        return v * math.log(total) / (g * h) - weights + log_beta(a, b) - start

    def bound(self, v: float, alpha: float) -> float:
        """u(v) for the upper side (swap g and h for the lower); v / g, the largest possible S, if none crosses.

        v: >= 0. alpha: in (0, 1). Raises ValueError outside these domains.
        """
        largest = not_negative("v", v) / self.g
        threshold = -math.log(inside("alpha", alpha))
        if v == 0 or self.log_mixture(largest, v) <= threshold:
            return largest
        return find_root(lambda s: self.log_mixture(s, v) - threshold, 0.0, largest)


def bernoulli_interval(successes: float, n: float, alpha: float, n_opt: float) -> tuple[float, float]:
    """Confidence sequence for the mean of values in [0, 1], a success rate above all; valid at every n at once.

    {p: m_p(successes - n p, n p (1 - p)) < 1/alpha} with the two-sided beta-binomial mixture of g = p, h = 1 - p.
    successes: sum of the values, in [0, n]. n: >= 1; of values with weights of at most 1, the sum of the weights, with
    which the interval is valid too, if wider than it need be. alpha: in (0, 1). n_opt: the n at which the interval is
    tightest, > 0. Raises ValueError outside these domains. Assumes a constant conditional mean.
    Source: Howard et al. 2021, proposition 7 and equation 22, with the sub-Bernoulli condition for [0, 1] (table 3).
    """
    at_least("n", n, 1)
    mean = between("successes", successes, 0.0, n) / n
    threshold = -math.log(inside("alpha", alpha))
    return _rate_bounds(mean, n, threshold, positive("n_opt", n_opt))


@lru_cache(maxsize=1024)  # at each look, a ramp's alarms need the bounds of the control's rate several times
def _rate_bounds(mean: float, n: float, threshold: float, n_opt: float) -> tuple[float, float]:
    excess = _rate_excess(mean, n, threshold, n_opt)
    low = find_root(excess, 0.0, mean) if mean > 0 else 0.0
    high = find_root(excess, mean, 1.0) if mean < 1 else 1.0
    return low, high


def _rate_excess(mean: float, n: float, threshold: float, n_opt: float) -> Callable[[float], float]:
    """ln m_p(n (mean - p), n p (1 - p)) - threshold as a function of p, at -threshold for p = mean.

    The same as log_mixture of BetaBinomialMixture.tuned(p (1 - p) n_opt, _TUNING_ALPHA, (p, 1 - p)), bit for bit, since
    g + h = 1: a bound needs about 40 of these values, which take a third of the time without the checks of domains.
    """
    divisor = v_per_rho(_TUNING_ALPHA)
    log, lgamma = math.log, math.lgamma

    def excess(p: float) -> float:
        if p in (mean, 0.0, 1.0):
            return -threshold if p == mean else math.inf
        q = 1.0 - p
        product = p * q
        r = max(product * n_opt / divisor - product, 1e-3 * product)
        s, v = (mean - p) * n, product * n
        weights = (v + q * s) * log(p) / q + (v - p * s) * log(q) / p
        a, b = (r + v - p * s) / p, (r + v + q * s) / q
        start_a, start_b = r / p, r / q
        start = lgamma(start_a) + lgamma(start_b) - lgamma(start_a + start_b)
        return lgamma(a) + lgamma(b) - lgamma(a + b) - weights - start - threshold

    return excess
