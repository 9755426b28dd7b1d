"""Prediction-powered means as their authors define them: the estimate that the program's own are compared with."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from gateway.statistics.domains import Floats, inside, same_length, vector
from gateway.statistics.special import normal_quantile, two_sided_z


@dataclass(frozen=True, slots=True)
class Labelled:
    """The truth y and the judge's f on the same n >= 2 answers, and the judge's alone on N >= 2 others."""

    y: Floats
    f: Floats
    f_unlabelled: Floats

    @classmethod
    def of(cls, y: ArrayLike, f: ArrayLike, f_unlabelled: ArrayLike) -> "Labelled":
        """Shapes (n,), (n,), (N,), all finite; else ValueError."""
        labelled = cls(vector("y", y, 2), vector("f", f, 2), vector("f_unlabelled", f_unlabelled, 2))
        same_length("y, f", labelled.y, labelled.f)
        return labelled


@dataclass(frozen=True, slots=True)
class PoweredMean:
    """The mean of y over all answers, corrected by the labelled ones."""

    mean: float
    se: float
    low: float
    high: float
    weight: float  # lambda: 0 ignores the judge, 1 is plain PPI


def best_weight(data: Labelled, ddof: int = 1) -> float:
    """lambda = cov(y, f) / ((1 + n / N) var(f)), var over both sets together, clipped to [0, 1]; 0 if f never varies.

    Source: Angelopoulos, Duchi & Zrnic 2023, "PPI++", arXiv:2311.01453, section 6 and example 6.1.
    """
    variance = float(np.concatenate((data.f, data.f_unlabelled)).var(ddof=ddof))
    if variance == 0:
        return 0.0
    n = data.y.size
    covariance = float(((data.y - data.y.mean()) * (data.f - data.f.mean())).sum()) / (n - ddof)
    return min(1.0, max(0.0, covariance / ((1.0 + n / data.f_unlabelled.size) * variance)))


def powered_mean(
    data: Labelled,
    alpha: float = 0.05,
    weight: float | None = None,
    ddof: int = 1,
    side: Literal["two", "greater"] = "two",
) -> PoweredMean:
    """lambda mean_N(f) + mean_n(y - lambda f) +- z se, se^2 = lambda^2 var_N(f) / N + var_n(y - lambda f) / n.

    weight: lambda; None: best_weight. side "greater": a lower bound only, high is infinite. ddof: 1, or 0 as in the
    authors' package. The labelled answers must be a random choice from all. For one look.
    Source: Angelopoulos et al. 2023, "Prediction-powered inference", Science 382, arXiv:2301.09633, algorithm 1; PPI++.
    """
    inside("alpha", alpha)
    lam = best_weight(data, ddof) if weight is None else weight
    rest = data.y - lam * data.f
    mean = lam * float(data.f_unlabelled.mean()) + float(rest.mean())
    n, n_unlabelled = data.y.size, data.f_unlabelled.size
    se = math.sqrt(lam**2 * float(data.f_unlabelled.var(ddof=ddof)) / n_unlabelled + float(rest.var(ddof=ddof)) / n)
    if side == "greater":
        return PoweredMean(mean, se, mean - normal_quantile(1.0 - alpha) * se, math.inf, lam)
    half = two_sided_z(alpha) * se
    return PoweredMean(mean, se, mean - half, mean + half, lam)
