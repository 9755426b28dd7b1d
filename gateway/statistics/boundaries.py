"""Uniform boundaries: curves u(v) that a martingale S crosses at any time with probability at most alpha.

S is sub-psi with variance process V: P(exists t: S_t >= u(V_t)) <= alpha. A mixture gives ln m(s, v), a log
supermartingale and therefore also a log e-value, and the bound u(v) = sup{s: m(s, v) < 1 / alpha}.
The mixture for Bernoulli increments is in bernoulli.py, the one for Gaussian sums in asymptotic.py.
Source: Howard, Ramdas, McAuliffe & Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences",
Annals of Statistics 49(2), arXiv:1810.08240.
"""

import math
from dataclasses import dataclass

from gateway.statistics.domains import finite, inside, not_negative, positive
from gateway.statistics.special import find_root, gamma_p


def best_rho(v_opt: float, alpha: float, two_sided: bool = True) -> float:
    """Computes rho = v_opt / (2 ln(1/a) + ln(1 + 2 ln(1/a))), for which the normal mixture's bound is tightest at
    v_opt.

    a = alpha for two sides, 2 alpha for one. v_opt: > 0. alpha: in (0, 1), below 1/2 for one side. Raises ValueError
    outside these domains.
    Source: Howard et al. 2021, section 3.5 (the closed-form approximation of the Lambert W expression).
    """
    return positive("v_opt", v_opt) / v_per_rho(alpha, two_sided)


def v_per_rho(alpha: float, two_sided: bool = True) -> float:
    """The divisor in best_rho, which alpha alone decides; the same domain."""
    log_inverse = -2.0 * math.log(inside("alpha", alpha if two_sided else 2.0 * alpha))
    return log_inverse + math.log1p(log_inverse)


@dataclass(frozen=True, slots=True)
class GammaExponentialMixture:
    """A boundary for sub-exponential S of scale c, such as sums of terms bounded above by c about their mean.

    With a = rho / c^2, b = (v + rho) / c^2, x = (c s + v + rho) / c^2, P the regularised lower incomplete gamma:
    ln m = a ln a - ln Gamma(a) - ln P(a, a) + ln Gamma(b) + ln P(b, x) - b ln x + x - a.
    Raises ValueError unless rho > 0 and c > 0. Source: Howard et al. 2021, proposition 9.
    """

    rho: float  # places the v at which the bound is tightest, see best_rho
    c: float  # scale, in the unit of S

    def __post_init__(self) -> None:
        positive("rho", self.rho)
        positive("c", self.c)

    def log_mixture(self, s: float, v: float) -> float:
        """ln m(s, v). v: >= 0. s: > -(v + rho) / c. Raises ValueError outside these domains."""
        return self._constant() + self._varying(finite("s", s), not_negative("v", v))

    def bound(self, v: float, alpha: float) -> float:
        """u(v), in the unit of S. v: >= 0. alpha: in (0, 1). Raises ValueError outside these domains."""
        threshold = -math.log(inside("alpha", alpha)) - self._constant()
        high = 4.0 * (math.sqrt(not_negative("v", v) + self.rho) + self.c)
        while self._varying(high, v) < threshold:
            high *= 2.0
        return find_root(lambda s: self._varying(s, v) - threshold, 0.0, high)

    def _constant(self) -> float:
        a = self.rho / self.c**2
        return a * math.log(a) - math.lgamma(a) - math.log(gamma_p(a, a)) - a

    def _varying(self, s: float, v: float) -> float:
        b = (v + self.rho) / self.c**2
        x = positive("s + (v + rho) / c", s + (v + self.rho) / self.c) / self.c
        return math.lgamma(b) + math.log(gamma_p(b, x)) - b * math.log(x) + x
