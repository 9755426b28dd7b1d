"""Rates of a detector from calls that were recorded with known, unequal probability: the share of hits, and the recall.

Each call stands for w = 1 / π calls. Intervals are for one look, and wider where hits come together: in bursts, or from
the same conversation. Its precision is failure_groups.clustered_rate of the labelled calls with a hit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.statistics.domains import inside, not_negative, positive
from gateway.statistics.paired import wilson
from gateway.statistics.special import student_quantile, two_sided_z


@dataclass(frozen=True, slots=True)
class ShareEstimate:
    """A share of calls with its interval; all three numbers in [0, 1]."""

    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class WeightSums:
    """Sums over calls of one kind. Raises ValueError for negative sums."""

    weight: float = 0.0  # of w: the number of calls that they stand for
    squares: float = 0.0  # of w^2

    def __post_init__(self) -> None:
        not_negative("weight", self.weight)
        not_negative("squares", self.squares)

    def __add__(self, other: WeightSums) -> WeightSums:
        return WeightSums(self.weight + other.weight, self.squares + other.squares)

    @property
    def se(self) -> float:
        """The standard error of `weight` as an estimate of the number of calls: sqrt(sum of w^2 (1 - 1 / w))."""
        return math.sqrt(max(0.0, self.squares - self.weight))


@dataclass(frozen=True, slots=True)
class ClusterSums:
    """Sums over clusters of calls that depend on each other: conversations, or blocks of time."""

    n: int = 0
    """Clusters."""
    hits: float = 0.0
    """Sum of a^2, where a is the weight of a cluster's calls of one kind."""
    products: float = 0.0
    """Sum of a b, where b is the weight of all its calls."""
    calls: float = 0.0
    """Sum of b^2."""

    def with_cluster(self, a: float, b: float) -> ClusterSums:
        return ClusterSums(self.n + 1, self.hits + a * a, self.products + a * b, self.calls + b * b)

    def __add__(self, other: ClusterSums) -> ClusterSums:
        return ClusterSums(
            self.n + other.n, self.hits + other.hits, self.products + other.products, self.calls + other.calls
        )


def share_of_calls(
    these: WeightSums, others: WeightSums, alpha: float = 0.05, clusterings: Iterable[ClusterSums] = ()
) -> ShareEstimate:
    """The share p = W1 / (W1 + W0) of calls that are `these`, from sums alone.

    Wilson's interval at n = p (1 - p) W^2 / ((1 - p)^2 S1 + p^2 S0), W the weight and S the sums of squares, or at
    Kish's W^2 / S if all calls are of one kind. clusterings: of all these calls, each in another way. Every one of at
    least two clusters bounds n by p (1 - p) / V, V the variance of p between its clusters, times (z / t)^2 for
    Student's t; so the interval is the widest of them. Where all calls are of one kind, V is 0, and only the finest
    clusters bound n, by Kish's number. these, others: not both empty. alpha: in (0, 1). Raises ValueError outside these
    domains.
    Source: Saerndal, Swensson & Wretman 1992, result 5.7.1 (linearisation); Dean & Pagano 2015, J. Surv. Stat.
    Methodol. 3, section 2 (the size); Korn & Graubard 1998, Survey Methodology 24(2) (clusters).
    """
    whole = these + others
    p = min(1.0, these.weight / positive("weight", whole.weight))
    squares = (1.0 - p) ** 2 * these.squares + p * p * others.squares
    n = p * (1.0 - p) * whole.weight**2 / squares if squares > 0 else whole.weight**2 / whole.squares
    some = [clusters for clusters in clusterings if clusters.n >= 2]
    if some and 0.0 < p < 1.0:
        n = min(n, *(_independent(clusters, p, whole.weight, alpha) for clusters in some))
    elif some:
        n = min(n, max(whole.weight**2 / clusters.calls for clusters in some))
    return ShareEstimate(p, *wilson(p * n, n, alpha))


def _independent(of: ClusterSums, p: float, weight: float, alpha: float) -> float:
    """The number of independent calls that would say as much as these clusters."""
    spread = max(0.0, of.hits - 2.0 * p * of.products + p * p * of.calls) * of.n / (of.n - 1)
    narrower = (two_sided_z(alpha) / student_quantile(1.0 - alpha / 2.0, of.n - 1)) ** 2
    return math.inf if spread <= 0 else narrower * p * (1.0 - p) * weight**2 / spread


@dataclass(frozen=True, slots=True)
class PartSums:
    """Calls of one kind (those with a hit, nearly one, or none), and the share of them that should have had one."""

    calls: WeightSums
    wanted: ShareEstimate


def recall(hits: PartSums, others: Iterable[PartSums], alpha: float = 0.05) -> ShareEstimate | None:
    """The share of the calls that should have a hit that has one: A / (A + B), A = W p over hits, B = sum of W m over
    the other kinds. None if none of the labelled calls should have had a hit.

    The interval of B / A is MOVER's from those of A and B. Each is W times its share, with the distances of the share's
    interval and z s / W of the weight added in quadrature, s its standard error. hits.wanted is the precision. alpha:
    in (0, 1), that of the shares. Raises ValueError outside these domains.
    Source: Donner & Zou 2012, Statistical Methods in Medical Research 21(4), equations 5 and 6 (sums and ratios of
    independent estimates).
    """
    z = two_sided_z(inside("alpha", alpha))
    a, a_low, a_high = _number([hits], z)
    b, b_low, b_high = _number(others, z)
    if a + b <= 0:
        return None
    low = _recall_at(_ratio(b, b_high, a, a_low, upper=True)) if a > 0 else 0.0
    high = _recall_at(_ratio(b, b_low, a, a_high, upper=False)) if a > 0 else a_high / (a_high + b_low)
    share = a / (a + b)
    return ShareEstimate(share, min(low, share), max(high, share))


def _recall_at(ratio: float) -> float:
    return 0.0 if math.isinf(ratio) else 1.0 / (1.0 + ratio)


def _number(parts: Iterable[PartSums], z: float) -> tuple[float, float, float]:
    """The number of calls that should have a hit, with its interval."""
    value = below = above = 0.0
    for part in parts:
        weight, s, error = part.calls.weight, part.wanted, z * part.calls.se
        value += weight * s.share
        below += (weight * (s.share - s.low)) ** 2 + (s.share * error) ** 2
        above += (weight * (s.high - s.share)) ** 2 + (s.high * error) ** 2
    return value, max(0.0, value - math.sqrt(below)), value + math.sqrt(above)


def _ratio(b: float, b_end: float, a: float, a_end: float, *, upper: bool) -> float:
    """The end of MOVER's interval of b / a. b_end, a_end: the ends that make the ratio large, or small."""
    product, weight = b * a, a_end * (2.0 * a - a_end)
    square = max(0.0, product**2 - b_end * (2.0 * b - b_end) * weight)
    if weight <= 0:  # the far end of a lies beyond 2 a, or at 0
        return math.inf if upper else b_end / a_end
    return max(0.0, (product + (1 if upper else -1) * math.sqrt(square)) / weight)
