"""Confidence sequences and a two-sample test for quantiles (p50, p95 of latency), with no assumption on their shape.

Source of all: Howard & Ramdas 2022, "Sequential estimation of quantiles with applications to A/B testing and best-arm
identification", Bernoulli 28(3), arXiv:1906.09712.
"""

import math
from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gateway.evals.statistics.bernoulli import BetaBinomialMixture
from gateway.evals.statistics.domains import Floats, at_least, finite, inside, positive, vector
from gateway.evals.statistics.special import find_root, zeta
from gateway.evals.statistics.state import State, dump, load


@dataclass(slots=True)
class QuantileSequence:
    """A confidence sequence for the p-quantile of independent values of one distribution, valid at every n at once.

    The values at quantile_ranks; infinite where there is none. Keeps every value. p, alpha in (0, 1); n_opt > 0 (where
    it is tightest); else ValueError. Source: theorem 1(b).
    """

    p: float = 0.5
    alpha: float = 0.05
    n_opt: float = 500.0
    values: list[float] = field(default_factory=list)  # ascending

    def __post_init__(self) -> None:
        inside("p", self.p)
        inside("alpha", self.alpha)
        positive("n_opt", self.n_opt)
        if any(later < earlier for earlier, later in zip(self.values, self.values[1:], strict=False)):
            raise ValueError(f"values: {self.values[:3]!r}... are not in ascending order")

    def add(self, x: float) -> None:
        """Takes one more value. Raises ValueError unless it is finite."""
        insort(self.values, finite("x", x))

    def merge(self, other: "QuantileSequence") -> None:
        """Takes all of other's values; their order does not matter."""
        self.values = sorted([*self.values, *other.values])

    def interval(self) -> tuple[float, float]:
        """(low, high), each one of the values or infinite."""
        n = len(self.values)
        low, high = quantile_ranks(n, self.p, self.alpha, self.n_opt)
        return self.values[low - 1] if low >= 1 else -math.inf, self.values[high - 1] if high <= n else math.inf

    def state(self) -> State:
        """A JSON-able dict from which from_state continues with the same bits."""
        return dump(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "QuantileSequence":
        """Raises ValueError if the state is of another kind."""
        return load(cls, state)


def quantile_ranks(n: int, p: float, alpha: float, n_opt: float) -> tuple[int, int]:
    """(ceil(n p - u_low), floor(n p + u_high) + 1): the order statistics, from 1, between which q_p lies at every n.

    u: the two-sided beta-binomial bounds of S_n = #{x <= q_p} - n p, whose increments lie in [-p, 1 - p] (ties broken
    at random, which only the proof does). A low rank of 0 or less, and a high one above n, mean: no bound. n >= 0.
    Source: theorem 1(b).
    """
    if at_least("n", n, 0) == 0:
        return 0, 1
    v, q = inside("p", p) * (1.0 - p), 1.0 - p
    over = BetaBinomialMixture.tuned(v * n_opt, alpha, (p, q)).bound(v * n, alpha)
    under = BetaBinomialMixture.tuned(v * n_opt, alpha, (q, p)).bound(v * n, alpha)
    slack = 1e-9 * n  # outward: n p + n (1 - p) may round to just below n, which is no bound and must not become one
    return math.ceil(n * p - under - slack), math.floor(n * p + over + slack) + 1


def empirical_process_bound(n: float, alpha: float, n_min: float, scale: float = 0.85) -> float:
    """w with P(exists n >= n_min: sup_x |F_n(x) - F(x)| > w) <= alpha: all quantiles at all times. inf for n < n_min.

    w = A sqrt((ln(1 + ln(n / n_min)) + C) / n), A = scale > 1/sqrt(2); C is the smallest with min over eta of
    4 exp(-g^2 C) (1 + 1 / ((g^2 - 1) ln eta)) <= alpha, where g = sqrt(2/eta) (A - sqrt(2 (eta - 1) / C)) > 1.
    n, n_min > 0; alpha in (0, 1). Source: theorem 2.
    """
    inside("alpha", alpha)
    inside("scale", scale, math.sqrt(0.5), math.inf)
    if positive("n", n) < positive("n_min", n_min):
        return math.inf
    high = 1.0
    while _process_error(high, scale) > alpha:
        high *= 2.0
    c = find_root(lambda x: min(_process_error(x, scale), 1e3) - alpha, high / 1e3, high)
    return scale * math.sqrt((math.log1p(math.log(n / n_min)) + c) / n)


def _process_error(c: float, scale: float) -> float:
    """The smallest error bound over eta, by grids that close in; it has one minimum in eta. inf: no eta is allowed."""
    low, high = 1.0, 2.0 * scale**2
    best = math.inf
    for _ in range(14):
        eta = np.linspace(low, high, 42)[1:-1]
        with np.errstate(divide="ignore", over="ignore"):
            reach = scale - np.sqrt(2.0 * (eta - 1.0) / c)
            square = np.where(reach > 0, 2.0 / eta * reach**2, 0.0)
            error = 4.0 * np.exp(-square * c) * (1.0 + 1.0 / ((square - 1.0) * np.log(eta)))
        error = np.where(square > 1.0, error, np.inf)
        at = int(np.argmin(error))
        best = min(best, float(error[at]))
        # With no eta allowed the minimum, if any, is near 1, where the allowed ones begin.
        step = (high - low) / 41.0
        low, high = max(1.0, low + (at - 1) * step), min(high, low + (at + 3) * step)
    return best


def double_stitching_bound(p: float, n: float, alpha: float, n_opt: float, delta: float = 0.5) -> float:
    """u with P(exists n, p: #{x <= q_p} - n p >= u) <= alpha: all quantiles at all times, tighter in the tails.

    With m = max(n, n_opt), s = 1.4, eta = 2: j = sqrt(m / n_opt) |logit p| / (2 delta) + 1,
    l = s ln ln(eta m / n_opt) + s ln j + ln(2 zeta(s) (2 zeta(s) + 1) / (alpha ln(eta)^s)), c = (1 - 2 p) / 3,
    r = p, for p < 1/2 min(1/2, expit(logit p + 2 delta sqrt(eta n_opt / m))), k1 and k2 as in StitchedBoundary:
    u = delta sqrt(eta m r (1 - r) / n_opt) + sqrt(k1^2 r (1 - r) m l + (k2 c l)^2) + k2 c l. Low side: 1 - p.
    p, alpha in (0, 1); n, n_opt, delta > 0. Source: theorem 3.
    """
    s, eta = 1.4, 2.0
    logit = math.log(inside("p", p) / (1.0 - p))
    epochs = max(positive("n", n), positive("n_opt", n_opt)) / n_opt
    shifted = 1.0 / (1.0 + math.exp(-logit - 2.0 * positive("delta", delta) * math.sqrt(eta / epochs)))
    r = p if p >= 0.5 else min(0.5, shifted)
    variance = r * (1.0 - r) * epochs * n_opt
    j = math.sqrt(epochs) * abs(logit) / (2.0 * delta) + 1.0
    error = 2.0 * zeta(s) * (2.0 * zeta(s) + 1.0) / inside("alpha", alpha)
    ell = s * math.log(math.log(eta * epochs) / math.log(eta) * j) + math.log(error)
    k1 = (eta**0.25 + eta**-0.25) / math.sqrt(2.0)
    linear = (math.sqrt(eta) + 1.0) / 2.0 * (1.0 - 2.0 * p) / 3.0 * ell
    return delta * math.sqrt(eta * variance / n_opt) + math.sqrt(k1**2 * variance * ell + linear**2) + linear


def quantile_ab_p(a: ArrayLike, b: ArrayLike, p: float, n_opt: float) -> float:
    """A p-value for "a and b have the same p-quantile", valid whenever one looks, for the values up to then.

    exp(-min over x of (G_a(x) + G_b(x))), at most 1, where G(x) is the smallest two-sided beta-binomial ln m of any
    fraction between the shares of values < x and <= x. a, b: shapes (n,), (m,), finite; p in (0, 1); n_opt > 0.
    Source: theorem 5 with the mixture of proposition 7 in arXiv:1810.08240, tuned for alpha = 0.05.
    """
    v = inside("p", p) * (1.0 - p)
    mixture = BetaBinomialMixture.tuned(v * positive("n_opt", n_opt), 0.05, (p, 1.0 - p))
    arms = vector("a", a), vector("b", b)
    at = np.unique(np.concatenate(arms))
    evidence = sum(_evidence_at(mixture, np.sort(arm), at) for arm in arms)
    return min(1.0, math.exp(-float(np.min(evidence))))


def _evidence_at(mixture: BetaBinomialMixture, arm: Floats, at: Floats) -> Floats:
    """G at each x of `at`; arm ascending. ln m is smallest where the share is p, up to the mixture's slight tilt."""
    n, v = arm.size, mixture.g * mixture.h * arm.size
    below, through = np.searchsorted(arm, at, "left"), np.searchsorted(arm, at, "right")
    log_m = np.array([mixture.log_mixture(k - n * mixture.g, v) for k in range(at_least("n", n, 1) + 1)])
    lowest = _lowest_share(mixture, n, v)
    inner = np.where((below <= lowest) & (lowest <= through), mixture.log_mixture(lowest - n * mixture.g, v), np.inf)
    return np.asarray(np.minimum(np.minimum(log_m[below], log_m[through]), inner), dtype=np.float64)


def _lowest_share(mixture: BetaBinomialMixture, n: int, v: float) -> float:
    """The (not whole) number of successes out of n at which ln m is smallest, by golden section: ln m is convex."""
    low, high, golden = 0.0, float(n), (math.sqrt(5.0) - 1.0) / 2.0
    while high - low > 1e-6:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if mixture.log_mixture(left - n * mixture.g, v) < mixture.log_mixture(right - n * mixture.g, v):
            high = right
        else:
            low = left
    return 0.5 * (low + high)
