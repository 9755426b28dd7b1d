"""Fixed-n comparisons of two answers to the same questions: clustered and paired errors, McNemar, Wilson.

Right for one look at a number of pairs fixed beforehand. While pairs still arrive, use empirical_bernstein.py.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gateway.statistics.domains import Floats, at_least, between, inside, same_length, vector
from gateway.statistics.special import beta_cdf, student_quantile, two_sided_z


@dataclass(frozen=True, slots=True)
class MeanWithError:
    """A mean with its standard error."""

    mean: float
    se: float
    n: int
    clusters: int  # n where the values are independent


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Difference b - a over pairs, with a fixed-n interval."""

    difference: float
    se: float
    low: float
    high: float
    n: int


def mean_error(values: ArrayLike, clusters: Sequence[Hashable] | None = None) -> MeanWithError:
    """The mean with se = sqrt(sum (x - mean)^2 / (n (n - 1))), or clustered: sqrt(sum over c of (sum in c)^2) / n.

    values: shape (n,), finite, n >= 2. clusters: shape (n,), one label for each value (a conversation, a document), at
    least 2 different ones; None if the values are independent. Raises ValueError outside these domains.
    Source: Miller 2024, "Adding error bars to evals", arXiv:2411.00640, equations 1 and 4 (no small-sample factor).
    """
    x = vector("values", values, 2)
    deviations = x - x.mean()
    if clusters is None:
        return MeanWithError(float(x.mean()), _root_sum(deviations) / math.sqrt(x.size * (x.size - 1)), x.size, x.size)
    same_length("values, clusters", x, clusters)
    sums = _cluster_sums(deviations, clusters)
    at_least("number of clusters", sums.size, 2)
    return MeanWithError(float(x.mean()), _root_sum(sums) / x.size, x.size, sums.size)


def paired_difference(
    a: ArrayLike, b: ArrayLike, alpha: float, clusters: Sequence[Hashable] | None = None
) -> PairedDifference:
    """mean(b - a) +- t se: se as in mean_error over the differences, t Student's with pairs (or clusters) - 1 df.

    a, b: shape (n,), n >= 2, finite, in the same order. alpha: in (0, 1). clusters: see mean_error. Raises ValueError
    outside these domains.
    Source: Miller 2024, arXiv:2411.00640, section 4.2 (paired differences remove the questions' own variance).
    """
    first, second = vector("a", a, 2), vector("b", b, 2)
    same_length("a, b", first, second)
    result = mean_error(second - first, clusters)
    half = student_quantile(1.0 - inside("alpha", alpha) / 2.0, result.clusters - 1) * result.se
    ends = result.mean - half, result.mean + half
    return PairedDifference(result.mean, result.se, *ends, result.n)


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p of "both kinds of discordant pairs are equally likely": min(1, 2 P(Bin(b + c, 1/2) <= min(b, c))).

    b: pairs that only A got right, >= 0. c: pairs that only B got right, >= 0. Without discordant pairs p is 1.0.
    Raises ValueError for negative counts.
    Source: McNemar 1947; exact form in Agresti 2002, section 10.1.4.
    """
    n, least = at_least("b", b, 0) + at_least("c", c, 0), min(b, c)
    return min(1.0, 2.0 * beta_cdf(n - least, least + 1, 0.5)) if n else 1.0


def wilson(successes: float, n: float, alpha: float) -> tuple[float, float]:
    """Wilson's score interval for a rate: (p + z^2/2n +- z sqrt(p (1-p)/n + z^2/4n^2)) / (1 + z^2/n).

    successes: in [0, n]. n: > 0. Neither need be whole (effective sizes). alpha: in (0, 1). For one look. Raises
    ValueError outside these domains. Source: Wilson 1927, JASA 22.
    """
    p = between("successes", successes, 0.0, n) / inside("n", n, 0.0, math.inf)
    z2 = two_sided_z(alpha) ** 2
    centre = p + z2 / (2.0 * n)
    half = math.sqrt(z2 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)))
    return max(0.0, (centre - half) / (1.0 + z2 / n)), min(1.0, (centre + half) / (1.0 + z2 / n))


def _root_sum(values: Floats) -> float:
    return math.sqrt(float((values**2).sum()))


def _cluster_sums(values: Floats, clusters: Sequence[Hashable]) -> Floats:
    index_of: dict[Hashable, int] = {}
    index = np.array([index_of.setdefault(cluster, len(index_of)) for cluster in clusters])
    return np.bincount(index, weights=values).astype(np.float64)
