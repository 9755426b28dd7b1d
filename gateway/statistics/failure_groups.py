"""Groups of failing calls: rates with intervals where calls depend on each other, the groups that stand out, and the
time of their onset.

Groups are found on one half of the calls, and all figures about them come from the other half, so that the search does
not bias its findings. Calls that depend on each other are in one half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.statistics.domains import inside
from gateway.statistics.paired import wilson
from gateway.statistics.special import normal_quantile, student_quantile

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Truths = NDArray[np.bool_]
FEW_CLUSTERS = 10
"""Number of clusters below which Student's quantiles widen an interval by much, and reports say so."""
FEWEST_BESIDE = 5
"""Calls on either side of a change."""


@dataclass(frozen=True, slots=True)
class ClusteredRate:
    """A weighted rate with its interval."""

    value: float
    low: float
    high: float
    n: int
    """Calls."""
    clusters: int

    @property
    def few(self) -> bool:
        return self.clusters < FEW_CLUSTERS


def clustered_rate(hits: Truths, weights: Floats, clusters: Ints, alpha: float) -> ClusteredRate:
    """The rate of hits, for one look.

    hits, weights, clusters: shape (n,); weights positive; calls of one cluster depend on each other. alpha: in (0, 1).
    The interval is Wilson's for the equivalent number of independent calls, by the variance between clusters, and fewer
    by (z / t)² for Student's t with one degree of freedom less than there are clusters. That number never exceeds the
    effective number of calls. Without calls it is [0, 1], as it is with one cluster. Raises ValueError outside these
    domains. Source: Korn & Graubard 1998, Survey Methodology 24(2), with Wilson's interval in place of Clopper and
    Pearson's.
    """
    inside("alpha", alpha)
    if not len(hits):
        return ClusteredRate(0.0, 0.0, 1.0, 0, 0)
    total = float(weights.sum())
    p = min(1.0, float(weights @ hits) / total)
    index = np.unique(clusters, return_inverse=True)[1]
    count = int(index.max()) + 1
    if count < 2:
        return ClusteredRate(p, 0.0, 1.0, len(hits), count)
    size = _effective(total, weights)
    variance = float((np.bincount(index, weights * (hits - p)) ** 2).sum()) * count / (count - 1) / total**2
    if variance > 0:
        size = min(size, p * (1.0 - p) / variance)
    else:  # all hit, or none: clusters that agree within themselves say no more than one call each
        size = min(size, _effective(total, np.bincount(index, weights).astype(np.float64)))
    size *= (normal_quantile(1.0 - alpha / 2.0) / student_quantile(1.0 - alpha / 2.0, count - 1)) ** 2
    low, high = wilson(p * size, size, alpha)
    return ClusteredRate(p, low, high, len(hits), count)


def _effective(total: float, weights: Floats) -> float:
    """Kish's effective number."""
    return total * total / float((weights**2).sum())


@dataclass(frozen=True, slots=True)
class GroupEstimate:
    """Estimates for a group, from the second half of the calls."""

    group: int
    rate: ClusteredRate
    """Rate of failures among its calls."""
    beside: ClusteredRate
    """Rate of failures among all other calls."""
    share: ClusteredRate
    """Share of its failures among all failures."""


def standing_groups(
    group: Ints,
    failed: Truths,
    weights: Floats,
    clusters: Ints,
    candidates: Sequence[int],
    alpha: float,
    *,
    tested_at: float | None = None,
) -> list[GroupEstimate]:
    """Selects the candidates that fail more often than all other calls, the largest share of the failures first.

    group: of each call, found on other calls. tested_at: None: alpha. The lower end of a group's rate must exceed the
    upper end of the other calls' rate, each at half of tested_at by the number of candidates. So where nothing
    distinguishes any calls, a group is named with a probability of at most tested_at, however many there are. The
    intervals that are shown are of 1 - alpha.
    """
    found, level = [], alpha if tested_at is None else tested_at
    for number in candidates:
        inner = group == number
        rate, beside = (_rate(failed, weights, clusters, of, level / len(candidates)) for of in (inner, ~inner))
        if rate.low > beside.high:
            shown, others = (_rate(failed, weights, clusters, of, alpha) for of in (inner, ~inner))
            share = _rate(inner, weights, clusters, failed, alpha)
            found.append(GroupEstimate(number, shown, others, share))
    return sorted(found, key=lambda each: (-each.share.value, each.group))


def _rate(hits: Truths, weights: Floats, clusters: Ints, among: Truths, alpha: float) -> ClusteredRate:
    return clustered_rate(hits[among], weights[among], clusters[among], alpha)


def onset(at: Floats, failed: Truths, alpha: float = 0.05) -> float | None:
    """The time of the first call after failures became more frequent. None if no such change is shown.

    at: shape (n,), rising. The split of the calls at which the likelihood of two rates exceeds that of one rate most,
    where the second rate is higher. It must exceed it by log(splits / alpha): by the bound exp(-x) on the tail of the
    log-likelihood ratio at one split, summed over all, a change is named in error with a probability of at most alpha,
    if calls are independent.
    """
    inside("alpha", alpha)
    n = len(at)
    before = np.arange(FEWEST_BESIDE, n - FEWEST_BESIDE + 1)
    if not len(before):
        return None
    failures = np.concatenate(([0.0], np.cumsum(failed, dtype=np.float64)))
    left, total = failures[before], float(failures[-1])
    right, after = total - left, n - before
    gain = _fit(left, before) + _fit(right, after) - _fit(np.array([total]), np.array([n]))[0]
    gain[right * before <= left * after] = -math.inf
    best = int(gain.argmax())
    return float(at[before[best]]) if gain[best] > math.log(len(before) / alpha) else None


def _fit(hits: Floats, n: NDArray[np.int_]) -> Floats:
    """The largest log-likelihood of n calls with this number of hits."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.nan_to_num(hits * np.log(hits / n)) + np.nan_to_num((n - hits) * np.log1p(-hits / n))
    found: Floats = terms
    return found
