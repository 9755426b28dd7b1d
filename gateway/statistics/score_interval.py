"""The difference of two models' scores on the same items: the interval of `gateway compare`, for one look.

Right for a number of items fixed beforehand. While items still arrive, use hybrid.py or empirical_bernstein.py.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from gateway.statistics.domains import Floats, at_least, inside, positive, same_length, vector
from gateway.statistics.paired import mean_error
from gateway.statistics.special import find_root, normal_quantile, student_quantile

SPARSE = 10  # with fewer clusters that differ, a standard error is unreliable
FEW_CLUSTERS = 10  # with fewer, the interval of few differences has Student's quantile
FEW_YES_OR_NO = 30  # with fewer yes-or-no items, a standard error from the differences alone is too small


@dataclass(frozen=True, slots=True)
class ScoreDifference:
    """The mean difference with its interval."""

    difference: float  # mean(b - a), in the unit of the score
    low: float
    high: float
    clusters: int  # n where the items are independent
    method: Literal["paired t", "Agresti-Min", "Tango"]


def score_difference(
    a: ArrayLike, b: ArrayLike, scale: float, alpha: float = 0.05, clusters: Sequence[Hashable] | None = None
) -> ScoreDifference:
    """mean(b - a) with the interval that suits the scores: Tango's for yes-or-no items, else paired t or Agresti-Min.

    Student's t over G clusters (items, where they are independent) with G - 1 degrees of freedom, and the clustered
    standard error times sqrt(G / (G - 1)): for independent items it is the paired t test. Where the differences have no
    spread, where fewer than 10 clusters differ and most do not, and for fewer than 10 different or 30 yes-or-no
    clusters, it is few_differences, with Student's quantile below 10 clusters. Where all items (or clusters of one
    size) differ by 0 or the whole scale, it is Tango's score interval, with the same quantile.
    a, b: shape (n,), finite, in the same order, one score for each item (the mean of its runs). scale: the highest
    minus the lowest possible score, > 0, in the unit of the scores. alpha: in (0, 1), two-sided. clusters: shape (n,),
    one label for each item; None if the items are independent. At least 2 clusters. Raises ValueError outside these
    domains.
    Source: Miller 2024, arXiv:2411.00640, section 4.2; the factor is that of Liang & Zeger 1986, Biometrika 73(1);
    few_differences; Tango 1998, Statistics in Medicine 17(8), equations 24 to 26.
    """
    first, second = vector("a", a, 2), vector("b", b, 2)
    same_length("a, b", first, second)
    labels = list(range(first.size)) if clusters is None else clusters
    same_length("a, clusters", first, labels)
    d, means = second - first, cluster_means(second - first, labels)
    groups = at_least("number of clusters", means.size, 2)
    value, student = float(d.mean()), student_quantile(1 - inside("alpha", alpha) / 2, groups - 1)
    few = student if groups < FEW_CLUSTERS else normal_quantile(1 - alpha / 2)
    if yes_or_no(means, positive("scale", scale)) and len(set(Counter(labels).values())) == 1:
        low, high = paired_proportions(int((means > 0).sum()), int((means < 0).sum()), groups, few)
        return ScoreDifference(value, scale * low, scale * high, groups, "Tango")
    if not _sparse(means, positive("scale", scale)):
        half = student * mean_error(d, labels).se * math.sqrt(groups / (groups - 1))
        return ScoreDifference(value, value - half, value + half, groups, "paired t")
    low, high = _added_ties(means, scale, few)
    return ScoreDifference(value, min(low, value), max(high, value), groups, "Agresti-Min")


def yes_or_no(differences: Floats, scale: float) -> bool:
    """Whether each difference is 0 or the whole scale, as between two yes-or-no scores."""
    return bool(np.isin(np.abs(differences), (0.0, scale)).all())


def paired_proportions(better: int, worse: int, n: int, quantile: float) -> tuple[float, float]:
    """Tango's score interval for the difference of two proportions over n pairs: (low, high), both in [-1, 1].

    better, worse: pairs that only the second, or only the first, gets right. quantile: of the two-sided error. It holds
    where all pairs that differ do so on one side: the variance is that under the bound, not the observed one.
    Source: Tango 1998, Statistics in Medicine 17(8), equations 24 to 26.
    """
    value = (better - worse) / n
    low = -1.0 if worse == n else find_root(lambda x: _tango(better, worse, n, x) - quantile, -1.0, value)
    high = 1.0 if better == n else find_root(lambda x: _tango(better, worse, n, x) + quantile, value, 1.0)
    return low, high


def _tango(better: int, worse: int, n: int, difference: float) -> float:
    """Distance of the observed difference from this one in standard errors under it."""
    gap = better - worse - n * difference
    b = (2 * n - better + worse) * difference - better - worse
    only_first = (math.sqrt(max(0.0, b * b + 8 * n * worse * difference * (1 - difference))) - b) / (4 * n)
    variance = n * (2 * only_first + difference * (1 - difference))
    if abs(gap) < 1e-9 or variance <= 0:
        return math.copysign(math.inf, gap) if abs(gap) >= 1e-9 else 0.0
    return gap / math.sqrt(variance)


def few_differences(differences: ArrayLike, scale: float, alpha: float = 0.05) -> tuple[float, float]:
    """(low, high) for a mean difference that few items show; never an empty interval, also if none differs.

    One difference of +scale, one of -scale, each with weight one half, and one of 0 are added: d = sum / (m + 2), se =
    sqrt(sum of squares + scale^2 - sum^2 / (m + 2)) / (m + 2), m items, and the interval is d +- z(1 - alpha/2) se.
    differences: shape (m,), m >= 1, finite, one for each independent item (or cluster: its mean). scale: the largest
    possible difference, > 0. alpha: in (0, 1), two-sided, for one look. Raises ValueError outside these domains.
    Source: Agresti & Min 2005, "Simple improved confidence intervals for comparing matched proportions", Statistics in
    Medicine 24(5), section 3, whose interval it is for yes-or-no pairs.
    """
    quantile = normal_quantile(1.0 - inside("alpha", alpha) / 2.0)
    return _added_ties(vector("differences", differences), positive("scale", scale), quantile)


def cluster_means(values: Floats, clusters: Sequence[Hashable]) -> Floats:
    """The mean of each cluster, in the order of first appearance."""
    positions: dict[Hashable, int] = {}
    index = np.array([positions.setdefault(c, len(positions)) for c in clusters], dtype=np.intp)
    totals = np.bincount(index, weights=values, minlength=len(positions))
    return np.asarray(totals / np.bincount(index, minlength=len(positions)), dtype=np.float64)


def _added_ties(means: Floats, scale: float, quantile: float) -> tuple[float, float]:
    total, m = float(means.sum()), means.size + 2
    half = quantile * math.sqrt(float((means**2).sum()) + scale**2 - total**2 / m) / m
    return max(-scale, total / m - half), min(scale, total / m + half)


def _sparse(means: Floats, scale: float) -> bool:
    if float(np.ptp(means)) <= 1e-12 * scale:
        return True
    differ = int(np.count_nonzero(means))
    if np.isin(np.abs(means), (0.0, scale)).all():
        return differ < SPARSE or means.size < FEW_YES_OR_NO
    return differ < SPARSE and 2 * differ <= means.size
