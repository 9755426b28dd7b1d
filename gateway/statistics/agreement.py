"""Agreement of raters (judges, people) beyond chance: Cohen's kappa of two, Krippendorff's alpha of any number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gateway.statistics.domains import Floats, at_least, counts
from gateway.statistics.special import two_sided_z


@dataclass(frozen=True, slots=True)
class Kappa:
    """Agreement beyond chance: 1 is perfect, 0 is what chance alone gives."""

    kappa: float
    ase: float  # asymptotic standard error
    low: float
    high: float


def cohen_kappa(table: ArrayLike, alpha: float = 0.05) -> Kappa:
    """(p_o - p_e) / (1 - p_e) of two raters: p_o the observed share of agreement, p_e that expected by chance.

    table: counts, shape (k, k), k >= 2; [i, j] is the number of items that the first rater called i and the second j.
    alpha: in (0, 1); the interval is kappa +- z(1 - alpha/2) ase, for one look. Raises ValueError outside these domains
    and if both raters always give the same single category (p_e = 1).
    Source: Cohen 1960; standard error from Fleiss, Cohen & Everitt 1969, equation 8.
    """
    p = counts("table", table)
    if p.shape[0] != p.shape[1] or p.shape[0] < 2:
        raise ValueError(f"table: shape {p.shape}, expected (k, k) with k >= 2")
    n, p = float(p.sum()), p / p.sum()
    agreed, by_chance = np.eye(p.shape[0]), np.outer(p.sum(axis=1), p.sum(axis=0))
    expected = float(np.trace(by_chance))
    if math.isclose(expected, 1.0):
        raise ValueError(f"table: agreement by chance is {expected!r}, so kappa is undefined")
    kappa = (float(np.trace(p)) - expected) / (1.0 - expected)
    marginals = p.sum(axis=0)[:, None] + p.sum(axis=1)[None, :]
    square = float((p * (agreed - marginals * (1.0 - kappa)) ** 2).sum()) - (kappa - expected * (1.0 - kappa)) ** 2
    ase = math.sqrt(max(square, 0.0)) / (math.sqrt(n) * (1.0 - expected))
    half = two_sided_z(alpha) * ase
    return Kappa(kappa, ase, kappa - half, kappa + half)


def krippendorff_alpha(ratings: Sequence[Sequence[float | None]]) -> float:
    """1 - D_o / D_e at the interval level, for any number of raters, with gaps.

    D_o is the mean of (c - k)^2 over the pairs of ratings within units, D_e that over all pairs of ratings.
    ratings: one sequence for each rater, with one entry for each unit; None if not rated. Units with fewer than two
    ratings are ignored. Raises ValueError if no unit has two ratings or all ratings are equal.
    Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability".
    """
    data = np.array([[math.nan if x is None else float(x) for x in rater] for rater in ratings], dtype=np.float64)
    if data.ndim != 2:
        raise ValueError(f"ratings: shape {data.shape}, expected (raters, units)")
    units = [unit[~np.isnan(unit)] for unit in data.T]
    units = [unit for unit in units if unit.size >= 2]
    at_least("units with two ratings", len(units), 1)
    pooled = np.concatenate(units)
    at_least("different ratings", np.unique(pooled).size, 2)
    # Over ordered pairs of m values, sum (c - k)^2 = 2 m sum (c - mean)^2, and each unit's pairs weigh 1 / (m - 1).
    return 1.0 - sum(_spread(unit) for unit in units) / _spread(pooled)


def _spread(values: Floats) -> float:
    return values.size / (values.size - 1) * float(((values - values.mean()) ** 2).sum())
