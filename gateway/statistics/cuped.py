"""CUPED for splits: what was known of a unit before the experiment takes its share of the variance away."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gateway.statistics.domains import Floats, same_length, vector
from gateway.statistics.moments import Moments


@dataclass(frozen=True, slots=True)
class Contrast:
    """The estimated effect of arm b against arm a."""

    estimate: float
    se: float
    df: float  # Welch-Satterthwaite degrees of freedom
    n: int  # values in both arms together


def difference(a: Moments, b: Moments) -> Contrast:
    """mean_b - mean_a, se^2 = s_a^2 / n_a + s_b^2 / n_b (sample variances).

    Raises ValueError if an arm has fewer than 2 values or neither arm varies.
    Source: Welch 1947, Biometrika 34 (degrees of freedom).
    """
    square_a, square_b = (arm.variance(ddof=1) / arm.n for arm in (a, b))
    if square_a + square_b == 0:
        raise ValueError(f"neither arm varies: {a.m2!r} and {b.m2!r} squared deviations")
    df = (square_a + square_b) ** 2 / (square_a**2 / (a.n - 1) + square_b**2 / (b.n - 1))
    return Contrast(b.mean - a.mean, math.sqrt(square_a + square_b), df, a.n + b.n)


@dataclass(frozen=True, slots=True)
class Adjusted:
    """Values with the same mean and less variance."""

    values: Floats  # y - theta (x - mean x), shape (n,)
    theta: float  # 0.0 if x does not vary
    variance_ratio: float  # var(values) / var(y) = 1 - corr^2; 1.0 if y or x does not vary


def adjust(y: ArrayLike, x: ArrayLike) -> Adjusted:
    """y - theta (x - mean x), theta = cov(y, x) / var(x).

    y: outcomes, x: the same units' covariate from before the assignment, which the arm cannot have touched; shapes
    (n,), n >= 2, finite; else ValueError. Source: Deng, Xu, Kohavi & Walker 2013, WSDM, equations 2 to 4.
    """
    outcomes, before = vector("y", y, 2), vector("x", x, 2)
    same_length("y, x", outcomes, before)
    apart = before - before.mean()
    spread = float((apart**2).sum())
    theta = float((apart * (outcomes - outcomes.mean())).sum()) / spread if spread > 0 else 0.0
    values = outcomes - theta * apart
    total = float(outcomes.var())
    return Adjusted(values, theta, float(values.var()) / total if total > 0 else 1.0)


def adjusted_difference(y_a: ArrayLike, x_a: ArrayLike, y_b: ArrayLike, x_b: ArrayLike) -> Contrast:
    """difference of b and a after one adjustment over both arms together (one theta, one mean of x).

    Shapes (n_a,), (n_a,), (n_b,), (n_b,), each >= 2. Source: as adjust; the shared theta keeps the estimate unbiased.
    """
    first, second = vector("y_a", y_a, 2), vector("y_b", y_b, 2)
    x_first, x_second = vector("x_a", x_a, 2), vector("x_b", x_b, 2)
    same_length("y_a, x_a", first, x_first)
    same_length("y_b, x_b", second, x_second)
    values = adjust(np.concatenate((first, second)), np.concatenate((x_first, x_second))).values
    return difference(Moments.of(values[: first.size]), Moments.of(values[first.size :]))
