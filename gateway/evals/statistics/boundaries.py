"""Uniform boundaries: curves u(v) that a martingale S crosses anywhere on its way with probability alpha at most.

S is sub-psi with variance process V (Howard et al. 2021, "Time-uniform, nonparametric, nonasymptotic confidence
sequences", Annals of Statistics 49(2), arXiv:1810.08240): P(exists t: S_t >= u(V_t)) <= alpha. Each mixture gives
ln m(s, v), a log supermartingale (so also a log e-value), and the bound u(v) = sup{s: m(s, v) < 1 / alpha}.
The one for Bernoulli increments is in bernoulli.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from gateway.evals.statistics.domains import finite, inside, not_negative, positive
from gateway.evals.statistics.special import find_root, gamma_p, gamma_q, normal_cdf, zeta


def best_rho(v_opt: float, alpha: float, two_sided: bool = True) -> float:
    """The rho for which the normal mixture's bound is tightest at v = v_opt: v / (2 ln(1/a) + ln(1 + 2 ln(1/a))).

    a = alpha for two sides, 2 alpha for one. v_opt > 0; alpha in (0, 1), below 1/2 for one side.
    Source: Howard et al. 2021, section 3.5 (the closed-form approximation of the Lambert W expression).
    """
    positive("v_opt", v_opt)
    log_inverse = -2.0 * math.log(inside("alpha", alpha if two_sided else 2.0 * alpha))
    return v_opt / (log_inverse + math.log1p(log_inverse))


def solve_bound(log_mixture: Callable[[float], float], alpha: float, start: float) -> float:
    """The s >= 0 with log_mixture(s) = ln(1 / alpha), log_mixture increasing there; start > 0 is a guess at it."""
    threshold = -math.log(inside("alpha", alpha))
    high = positive("start", start)
    while log_mixture(high) < threshold:
        high *= 2.0
    return find_root(lambda s: log_mixture(s) - threshold, 0.0, high)


@dataclass(frozen=True, slots=True)
class NormalMixture:
    """For sub-Gaussian S. rho > 0 places the tightest v, see best_rho.

    Two-sided (on |S|): ln m = ln(rho / (v + rho)) / 2 + s^2 / (2 (v + rho));
    one-sided: ln m = ln(4 rho / (v + rho)) / 2 + s^2 / (2 (v + rho)) + ln Phi(s / sqrt(v + rho)).
    Source: Howard et al. 2021, propositions 5 and 6 (equations 14 and 15).
    """

    rho: float
    two_sided: bool = True

    def __post_init__(self) -> None:
        positive("rho", self.rho)

    def log_mixture(self, s: float, v: float) -> float:
        """ln m(s, v). v >= 0. One-sided and s below -37 standard deviations: -inf."""
        total = not_negative("v", v) + self.rho
        log_m = 0.5 * math.log(self.rho / total) + finite("s", s) ** 2 / (2.0 * total)
        if self.two_sided:
            return log_m
        below = normal_cdf(s / math.sqrt(total))
        return log_m + math.log(2.0) + math.log(below) if below else -math.inf

    def bound(self, v: float, alpha: float) -> float:
        """u(v): sqrt((v + rho) (ln((v + rho) / rho) + 2 ln(1/alpha))) for two sides, its root for one."""
        total = not_negative("v", v) + self.rho
        wide = math.sqrt(total * (math.log(total / self.rho) - 2.0 * math.log(inside("alpha", alpha))))
        return wide if self.two_sided else solve_bound(lambda s: self.log_mixture(s, v), alpha, wide)


@dataclass(frozen=True, slots=True)
class GammaExponentialMixture:
    """For sub-exponential S of scale c, such as sums of terms bounded above by c about their mean.

    With a = rho / c^2, b = (v + rho) / c^2, x = (c s + v + rho) / c^2, P the regularised lower incomplete gamma:
    ln m = a ln a - ln Gamma(a) - ln P(a, a) + ln Gamma(b) + ln P(b, x) - b ln x + x - a.
    rho > 0, c > 0. Source: Howard et al. 2021, proposition 9.
    """

    rho: float
    c: float

    def __post_init__(self) -> None:
        positive("rho", self.rho)
        positive("c", self.c)

    def log_mixture(self, s: float, v: float) -> float:
        """ln m(s, v). v >= 0, s > -(v + rho) / c."""
        return self._constant() + self._varying(finite("s", s), not_negative("v", v))

    def bound(self, v: float, alpha: float) -> float:
        """u(v). v >= 0, alpha in (0, 1)."""
        constant, start = self._constant(), math.sqrt(not_negative("v", v) + self.rho)
        return solve_bound(lambda s: constant + self._varying(s, v), alpha, 4.0 * (start + self.c))

    def _constant(self) -> float:
        a = self.rho / self.c**2
        return a * math.log(a) - math.lgamma(a) - math.log(gamma_p(a, a)) - a

    def _varying(self, s: float, v: float) -> float:
        b = (v + self.rho) / self.c**2
        x = positive("s + (v + rho) / c", s + (v + self.rho) / self.c) / self.c
        return math.lgamma(b) + math.log(gamma_p(b, x)) - b * math.log(x) + x


@dataclass(frozen=True, slots=True)
class GammaPoissonMixture:
    """For sub-Poisson S of scale c: sums of terms at most c, V their conditional variances (Bennett).

    With a = rho / c^2, b = (v + rho) / c^2, d = s / c + b, Q the regularised upper incomplete gamma:
    ln m = a ln a - ln Gamma(a) - ln Q(a, a) + ln Gamma(d) + ln Q(d, b) - d ln b + v / c^2.
    rho > 0, c > 0. Source: Howard et al. 2021, proposition 10.
    """

    rho: float
    c: float

    def __post_init__(self) -> None:
        positive("rho", self.rho)
        positive("c", self.c)

    def log_mixture(self, s: float, v: float) -> float:
        """ln m(s, v). v >= 0, s > -(v + rho) / c."""
        a = self.rho / self.c**2
        b = (not_negative("v", v) + self.rho) / self.c**2
        d = positive("s / c + (v + rho) / c^2", finite("s", s) / self.c + b)
        constant = a * math.log(a) - math.lgamma(a) - math.log(gamma_q(a, a))
        return constant + math.lgamma(d) + math.log(gamma_q(d, b)) - d * math.log(b) + v / self.c**2

    def bound(self, v: float, alpha: float) -> float:
        """u(v). v >= 0, alpha in (0, 1)."""
        start = 4.0 * (math.sqrt(not_negative("v", v) + self.rho) + self.c)
        return solve_bound(lambda s: self.log_mixture(s, v), alpha, start)


@dataclass(frozen=True, slots=True)
class StitchedBoundary:
    """Polynomial stitching, for sub-gamma S of scale c (c < 0: lighter than Gaussian): the iterated-logarithm rate.

    l = s ln ln(eta v / v_min) + ln(zeta(s) / (alpha ln(eta)^s)), k1 = (eta^(1/4) + eta^(-1/4)) / sqrt(2),
    k2 = (sqrt(eta) + 1) / 2: u(v) = sqrt(k1^2 v l + (k2 c l)^2) + k2 c l, with max(v, v_min) for v.
    v_min > 0, s > 1, eta > 1. Source: Howard et al. 2021, theorem 1 and equation 10.
    """

    v_min: float
    c: float = 0.0
    s: float = 1.4
    eta: float = 2.0

    def __post_init__(self) -> None:
        positive("v_min", self.v_min)
        finite("c", self.c)
        inside("s", self.s, 1.0, math.inf)
        inside("eta", self.eta, 1.0, math.inf)

    def bound(self, v: float, alpha: float) -> float:
        """u(v). v >= 0, alpha in (0, 1)."""
        v = max(not_negative("v", v), self.v_min)
        log_eta = math.log(self.eta)
        epochs = self.s * math.log(math.log(self.eta * v / self.v_min) / log_eta)
        ell = epochs + math.log(zeta(self.s) / inside("alpha", alpha))
        k1 = (self.eta**0.25 + self.eta**-0.25) / math.sqrt(2.0)
        linear = (math.sqrt(self.eta) + 1.0) / 2.0 * self.c * ell
        return math.sqrt(k1**2 * v * ell + linear**2) + linear
