"""An alarm for a mean that moves past a limit, started again at intervals, so that a quiet past hides nothing.

Against "the mean is at most 0" each value multiplies an e-value; the e-values begun so far are added up (Shiryaev and
Roberts), so that one that begins when the change does need not first make up for the time before it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.statistics.domains import Floats, positive, vector

BETS = np.array([(0.1, 3.0), (0.25, 3.0), (0.5, 3.0), (1.0, 4.0), (1.5, 4.0), (0.3, 10.0), (0.6, 10.0)])
"""(size, cap) of each bet: small sizes find small changes, large caps let few values suffice for large ones."""


_MOST = 50.0  # size times bound: a price of exp(50) / b^2 is as good as any larger one


def capped_log_gains(z: ArrayLike, bets: Floats = BETS) -> Floats:
    """ln of each bet's e-value for each value: shape (n, k).

    For a bet (l, c) it is l min(z, c) - ln((exp(l c) + c^2 exp(-l / c)) / (1 + c^2)), which has an expectation of at
    most 1 where min(z, c) has a mean of at most 0 and a second moment of at most 1, whatever its distribution. One
    value adds at most ln(1 + c^2). z: shape (n,), finite. bets: shape (k, 2), positive. Raises ValueError outside these
    domains.
    Source: Bennett 1962, "Probability inequalities for the sum of independent random variables", JASA 57(297), equation
    7; Hoeffding 1963, theorem 3, has the two-point distribution that attains it.
    """
    x, (size, cap) = vector("z", z, 0), np.asarray(bets, dtype=np.float64).T
    if not ((size > 0) & (cap > 0)).all():
        raise ValueError(f"bets: {bets}, expected sizes and caps above 0")
    return np.asarray(size * np.minimum(x[:, None], cap) - _capped_price(size, cap))


def bounded_log_gains(z: ArrayLike, shares: ArrayLike, bounds: ArrayLike, sizes: ArrayLike, cap: float) -> Floats:
    """ln of each bet's e-value for each value, as capped_log_gains, of values that are sums of small terms in parts.

    For a bet l it is l min(z, cap) - min(sum over parts p of share_p (exp(l b_p) - 1 - l b_p) / b_p^2, the price of
    capped_log_gains). It has an expectation of at most 1 where z has a mean of at most 0, a variance of at most 1, and
    is a sum of independent terms; those of part p have share_p of the variance, and exceed their means by at most b_p:
    the logarithms of the generating functions of independent terms add up, and the cap lowers the expectation. Both
    prices hold, and neither depends on z, so the smaller one holds. Dependence between parts is not in it: where a
    level that users have also moves the variance of their calls, such as that of a rate, the sum is an approximation.

    z: any shape. shares, bounds: shape (*z.shape, parts), the shares at least 0 with a sum of at most 1, the bounds
    above 0. sizes: shape (k,), above 0. cap: above 0. Returns shape (*z.shape, k). Raises ValueError outside these
    domains.
    Source: Bennett 1962, "Probability inequalities for the sum of independent random variables", JASA 57(297), section
    2.
    """
    x, share, b, size = (np.asarray(values, dtype=np.float64) for values in (z, shares, bounds, sizes))
    if not ((b > 0).all() and (size > 0).all() and cap > 0):
        raise ValueError(f"bounds {b.min(initial=1.0)}, sizes {size}, cap {cap}: expected values above 0")
    if not ((share >= 0).all() and (share.sum(axis=-1) <= 1.0 + 1e-9).all()):
        raise ValueError(f"shares {share}: expected parts of at most 1")
    lb = np.minimum(size * b[..., None], _MOST)
    price = (share[..., None] * (np.expm1(lb) - lb) / b[..., None] ** 2).sum(axis=-2)
    price = np.minimum(price, _capped_price(size, np.float64(cap)))
    return np.asarray(size * np.minimum(x, cap)[..., None] - price)


def _capped_price(size: Floats, cap: Floats | np.float64) -> Floats:
    square = cap**2
    return np.asarray(np.log((np.exp(size * cap) + square * np.exp(-size / cap)) / (1.0 + square)))


def restarted_log_evidence(log_gains: Floats, starts: NDArray[np.bool_]) -> Floats:
    """ln of the e-detector after each value, shape (n, k): the sum of the e-values that have begun so far.

    log_gains: shape (n, k), in order. starts: shape (n,), true where a further e-value begins with this value. The mean
    over the bets of its exponential, M, is an e-detector: stopped when M reaches A, the expected number of starts until
    a false alarm is at least A, and the probability of one within s starts at most s / A.
    Source: Shin, Ramdas & Rinaldo 2022, "E-detectors: a nonparametric framework for sequential change detection",
    arXiv:2203.03532, definitions 2.2 and 2.5 and theorem 2.4 (Shiryaev-Roberts e-detectors, mixed as in section 4).
    """
    after = np.cumsum(log_gains, axis=0)
    begun = np.where(np.asarray(starts)[:, None], log_gains - after, -np.inf)
    return np.asarray(after + np.logaddexp.accumulate(begun, axis=0))


def log_mean(log_evidence: Floats) -> Floats:
    """ln of the mean over the bets, shape (n,)."""
    return np.asarray(np.logaddexp.reduce(log_evidence, axis=1) - math.log(log_evidence.shape[1]))


def log_limit(run_length: float, shares: float = 1.0) -> float:
    """The value of log_mean from which on the alarm rings. run_length: starts until a false alarm, on average at least.
    shares: number of e-detectors among which the error is divided. Raises ValueError unless both are above 0."""
    return math.log(positive("run_length", run_length)) + math.log(positive("shares", shares))
