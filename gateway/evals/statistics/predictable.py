"""Predictable plug-in confidence sequences in closed form, for a constant mean in [0, 1]: cheap, wider than betting.

Source: Waudby-Smith & Ramdas 2024, arXiv:2010.09686, section 3. Both take all values at once and give the interval
after each, as arrays (low, high) of shape (n,), clipped to [0, 1]; not intersected.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from gateway.evals.statistics.betting import TRUNCATION
from gateway.evals.statistics.domains import Floats, between, inside, vector


def plug_in_bernstein(values: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    """sum(l x) / sum(l) +- (ln(2/alpha) + sum(v psi(l))) / sum(l), psi(l) = -ln(1 - l) - l, v_t = (x_t - mean_{t-1})^2.

    l_t = min(sqrt(2 ln(2/alpha) / (sigma^2_{t-1} t ln(1 + t))), 1/2), sigma^2 as in betting.bet; mean_0, a free choice,
    is 0 for the low end and 1 for the high. values: shape (n,), in [0, 1], in order of arrival; alpha in (0, 1).
    Source: theorem 2, equations 13 to 15.
    """
    x = _unit_vector(values)
    log_term = math.log(2.0 / inside("alpha", alpha))
    t = np.arange(1, x.size + 1)
    mu = (0.5 + np.cumsum(x)) / (t + 1)
    variance = (0.25 + np.cumsum((x - mu) ** 2)) / (t + 1)
    before = np.concatenate(([0.25], variance[:-1]))
    size = np.minimum(np.sqrt(2.0 * log_term / (before * t * np.log1p(t))), TRUNCATION)
    psi = -np.log1p(-size) - size
    means = (np.cumsum(x) / t)[:-1]

    def numerator(first: float) -> Floats:
        return log_term + np.cumsum((x - np.concatenate(([first], means))) ** 2 * psi)

    return _around(x, size, numerator(0.0), numerator(1.0))


def plug_in_hoeffding(values: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    """sum(l x) / sum(l) +- (ln(2/alpha) + sum(l^2) / 8) / sum(l), l_t = min(sqrt(8 ln(2/alpha) / (t ln(1 + t))), 1).

    values: shape (n,), in [0, 1], in order of arrival; alpha in (0, 1). Source: proposition 1, equations 11 and 12.
    """
    x = _unit_vector(values)
    log_term = math.log(2.0 / inside("alpha", alpha))
    t = np.arange(1, x.size + 1)
    size = np.minimum(np.sqrt(8.0 * log_term / (t * np.log1p(t))), 1.0)
    numerator = log_term + np.cumsum(size**2) / 8.0
    return _around(x, size, numerator, numerator)


def _unit_vector(values: ArrayLike) -> Floats:
    x = vector("values", values)
    between("smallest value", float(x.min()))
    between("largest value", float(x.max()))
    return x


def _around(x: Floats, size: Floats, below: Floats, above: Floats) -> tuple[Floats, Floats]:
    weight = np.cumsum(size)
    centre = np.cumsum(size * x) / weight
    return np.clip(centre - below / weight, 0.0, 1.0), np.clip(centre + above / weight, 0.0, 1.0)
