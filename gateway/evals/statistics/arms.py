"""Two independent arms of a split: difference and relative lift, with a fixed-n interval or one valid at any time."""

import math
from dataclasses import dataclass
from typing import Literal

from gateway.evals.statistics.asymptotic import Tuning, half_width
from gateway.evals.statistics.domains import inside
from gateway.evals.statistics.moments import Moments
from gateway.evals.statistics.special import student_quantile, student_tail

Side = Literal["two", "greater"]  # greater: a lower bound only, for the claim "b is greater"


@dataclass(frozen=True, slots=True)
class Contrast:
    """An estimated effect of b against a."""

    estimate: float
    se: float
    df: float  # Welch-Satterthwaite degrees of freedom
    n: int  # both arms together


@dataclass(frozen=True, slots=True)
class Interval:
    """low <= effect <= high; p tests "no effect" with the same error (1.0 where none is defined)."""

    low: float
    high: float
    p: float


def difference(a: Moments, b: Moments) -> Contrast:
    """mean_b - mean_a, se^2 = s_a^2 / n_a + s_b^2 / n_b (sample variances).

    Raises ValueError if an arm has fewer than 2 values or neither varies.
    Source: Welch 1947, Biometrika 34 (degrees of freedom).
    """
    return _contrast(b.mean - a.mean, a, b)


def lift(a: Moments, b: Moments) -> Contrast:
    """(mean_b - mean_a) / |mean_a|, se^2 = s_b^2 / (n_b mean_a^2) + mean_b^2 s_a^2 / (n_a mean_a^4): the delta method.

    The degrees of freedom are those of the difference.
    Raises ValueError if mean_a = 0, an arm has fewer than 2 values, or neither varies.
    Source: Deng, Knoblich & Lu 2018, arXiv:1803.06336, section 2.
    """
    if a.mean == 0:
        raise ValueError(f"mean of a: {a.mean!r} gives no relative lift")
    ratio = b.mean / a.mean
    return _contrast((b.mean - a.mean) / abs(a.mean), a, b, (ratio / a.mean, 1.0 / a.mean))


def fixed_interval(contrast: Contrast, alpha: float, side: Side = "two") -> Interval:
    """Welch's t interval and p: right for one look at a sample size fixed beforehand, and for that only."""
    inside("alpha", alpha)
    t = contrast.estimate / contrast.se
    if side == "greater":
        low = contrast.estimate - student_quantile(1.0 - alpha, contrast.df) * contrast.se
        return Interval(low, math.inf, student_tail(t, contrast.df))
    half = student_quantile(1.0 - alpha / 2.0, contrast.df) * contrast.se
    p = 2.0 * student_tail(abs(t), contrast.df)
    return Interval(contrast.estimate - half, contrast.estimate + half, p)


def sequential_interval(contrast: Contrast, tuning: Tuning, side: Side = "two") -> tuple[float, float]:
    """(low, high), an asymptotic confidence sequence: valid at every n at once.

    The deviation of one observation is se sqrt(n), n that of both arms. Source: asymptotic.sum_width.
    """
    half = half_width(contrast.se * math.sqrt(contrast.n), contrast.n, tuning, side == "two")
    return contrast.estimate - half, math.inf if side == "greater" else contrast.estimate + half


def _squares(arm: Moments) -> float:
    return arm.variance(ddof=1) / arm.n


def _contrast(estimate: float, a: Moments, b: Moments, slopes: tuple[float, float] = (1.0, 1.0)) -> Contrast:
    """slopes: how fast the estimate moves with each arm's mean (their signs do not matter)."""
    square_a, square_b = _squares(a), _squares(b)
    if square_a + square_b == 0:
        raise ValueError(f"neither arm varies: {a.m2!r} and {b.m2!r} squared deviations")
    df = (square_a + square_b) ** 2 / (square_a**2 / (a.n - 1) + square_b**2 / (b.n - 1))
    se = math.sqrt(slopes[0] ** 2 * square_a + slopes[1] ** 2 * square_b)
    return Contrast(estimate, se, df, a.n + b.n)
