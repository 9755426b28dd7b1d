"""Confidence sequences for quantiles (p50, p95 of latency), without an assumption on the distribution's shape."""

import math

from gateway.statistics.bernoulli import BetaBinomialMixture
from gateway.statistics.domains import at_least, inside


def quantile_ranks(n: int, p: float, alpha: float, n_opt: float) -> tuple[int, int]:
    """(ceil(n p - u_low), floor(n p + u_high) + 1): ranks of the order statistics between which q_p lies at every n.

    Ranks count from 1 in ascending order. A low rank of 0 or less, or a high rank above n, means that there is no bound
    on that side yet. The values must be independent and from one distribution. u: the two-sided beta-binomial bounds of
    S_n = #{x <= q_p} - n p, whose increments lie in [-p, 1 - p] (ties broken at random, in the proof only).
    n: >= 0; 0 gives (0, 1). p, alpha: in (0, 1). n_opt: the n at which the interval is tightest, > 0. Raises ValueError
    outside these domains.
    Source: Howard & Ramdas 2022, "Sequential estimation of quantiles with applications to A/B testing and best-arm
    identification", Bernoulli 28(3), arXiv:1906.09712, theorem 1(b).
    """
    if at_least("n", n, 0) == 0:
        return 0, 1
    v, q = inside("p", p) * (1.0 - p), 1.0 - p
    over = BetaBinomialMixture.tuned(v * n_opt, alpha, (p, q)).bound(v * n, alpha)
    under = BetaBinomialMixture.tuned(v * n_opt, alpha, (q, p)).bound(v * n, alpha)
    slack = 1e-9 * n  # outward: n p + n (1 - p) may round to just below n, which is no bound and must not become one
    return math.ceil(n * p - under - slack), math.floor(n * p + over + slack) + 1
