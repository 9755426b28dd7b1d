"""How far raters (judges, people) agree beyond chance: Cohen, Fleiss, Randolph, Krippendorff."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from gateway.evals.statistics.domains import Floats, at_least, counts, one_of
from gateway.evals.statistics.special import two_sided_z

Weighting = Literal["none", "linear", "quadratic"]
Level = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True, slots=True)
class Kappa:
    """Agreement beyond chance: 1 perfect, 0 as by chance."""

    kappa: float
    ase: float  # asymptotic standard error, for the interval
    low: float
    high: float
    ase0: float  # standard error under kappa = 0, for the test
    z: float  # kappa / ase0


def cohen_kappa(table: ArrayLike, alpha: float = 0.05, weighting: Weighting = "none") -> Kappa:
    """(p_o - p_e) / (1 - p_e) of two raters, p_o = sum w p, p_e = sum w row column; w = 1 on the diagonal, else
    0, 1 - |i - j| / (k - 1) (linear) or 1 - (i - j)^2 / (k - 1)^2 (quadratic).

    table: counts, shape (k, k), k >= 2, [i, j]: items called i by the first rater, j by the second; in order.
    Raises ValueError if both always give one and the same category (p_e = 1).
    Source: Cohen 1960 and 1968; standard errors from Fleiss, Cohen & Everitt 1969, equations 8 and 9.
    """
    p = counts("table", table)
    if p.shape[0] != p.shape[1] or p.shape[0] < 2:
        raise ValueError(f"table: shape {p.shape}, expected (k, k) with k >= 2")
    n, p = float(p.sum()), p / p.sum()
    w, by_chance = _agreement_weights(p.shape[0], weighting), np.outer(p.sum(axis=1), p.sum(axis=0))
    expected = float((w * by_chance).sum())
    if math.isclose(expected, 1.0):
        raise ValueError(f"table: agreement by chance is {expected!r}, so kappa is undefined")
    kappa = (float((w * p).sum()) - expected) / (1.0 - expected)
    means = (w @ p.sum(axis=0))[:, None] + (w.T @ p.sum(axis=1))[None, :]
    scale = math.sqrt(n) * (1.0 - expected)
    square = float((p * (w - means * (1.0 - kappa)) ** 2).sum()) - (kappa - expected * (1.0 - kappa)) ** 2
    square0 = float((by_chance * (w - means) ** 2).sum()) - expected**2
    ase, ase0 = math.sqrt(max(square, 0.0)) / scale, math.sqrt(max(square0, 0.0)) / scale
    half = two_sided_z(alpha) * ase
    return Kappa(kappa, ase, kappa - half, kappa + half, ase0, kappa / ase0 if ase0 else math.inf)


def fleiss_kappa(table: ArrayLike) -> float:
    """(P - P_e) / (1 - P_e) of m raters: P the mean share of agreeing pairs of raters, P_e = sum of squared shares.

    table: counts, shape (subjects, categories), every row summing to the same m >= 2.
    Raises ValueError if all ratings are one category. Source: Fleiss 1971.
    """
    ratings, observed = _pair_agreement(table)
    expected = float(((ratings.sum(axis=0) / ratings.sum()) ** 2).sum())
    if math.isclose(expected, 1.0):
        raise ValueError(f"table: agreement by chance is {expected!r}, so kappa is undefined")
    return (observed - expected) / (1.0 - expected)


def randolph_kappa(table: ArrayLike) -> float:
    """As fleiss_kappa with P_e = 1 / categories: chance does not know the marginals. Source: Randolph 2005."""
    ratings, observed = _pair_agreement(table)
    expected = 1.0 / at_least("categories", ratings.shape[1], 2)
    return (observed - expected) / (1.0 - expected)


def krippendorff_alpha(ratings: Sequence[Sequence[float | None]], level: Level = "nominal") -> float:
    """1 - D_o / D_e for any number of raters, with gaps.

    ratings: one sequence a rater, one entry a unit; None: not rated. D: the mean of delta^2 over pairs of ratings
    within units, and over all pairs. delta^2: 0 or 1 (nominal), (sum of n_g from c to k - (n_c + n_k) / 2)^2 (ordinal),
    (c - k)^2 (interval). Raises ValueError if no unit has two ratings or all ratings are equal.
    Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability".
    """
    one_of("level", level, ("nominal", "ordinal", "interval"))
    data = np.array([[math.nan if x is None else float(x) for x in rater] for rater in ratings], dtype=np.float64)
    if data.ndim != 2:
        raise ValueError(f"ratings: shape {data.shape}, expected (raters, units)")
    units = [unit[~np.isnan(unit)] for unit in data.T]
    units = [unit for unit in units if unit.size >= 2]
    at_least("units with two ratings", len(units), 1)
    values, places = np.unique(np.concatenate(units), return_inverse=True)
    at_least("different ratings", values.size, 2)
    together, start = np.zeros((values.size, values.size)), 0
    for unit in units:
        seen = np.bincount(places[start : start + unit.size], minlength=values.size)
        together += (np.outer(seen, seen) - np.diag(seen)) / (unit.size - 1)
        start += unit.size
    totals = together.sum(axis=1)
    distance, n = _distances(values, totals, level), float(totals.sum())
    by_chance = (np.outer(totals, totals) - np.diag(totals)) / (n - 1.0)
    return 1.0 - float((together * distance).sum()) / float((by_chance * distance).sum())


def _agreement_weights(k: int, weighting: Weighting) -> Floats:
    one_of("weighting", weighting, ("none", "linear", "quadratic"))
    apart = np.abs(np.subtract.outer(np.arange(k), np.arange(k))) / (k - 1.0)
    if weighting == "none":
        return np.eye(k)
    return np.asarray(1.0 - (apart if weighting == "linear" else apart**2), dtype=np.float64)


def _pair_agreement(table: ArrayLike) -> tuple[Floats, float]:
    ratings = counts("table", table)
    raters = ratings.sum(axis=1)
    if raters.min() != raters.max() or raters[0] < 2:
        raise ValueError(f"table: {raters.min():g} to {raters.max():g} ratings a subject, expected one number >= 2")
    m = float(raters[0])
    return ratings, float(((ratings**2).sum(axis=1) - m).mean()) / (m * (m - 1.0))


def _distances(values: Floats, totals: Floats, level: Level) -> Floats:
    if level == "nominal":
        return 1.0 - np.eye(values.size)
    # Ordinal: the count of ratings below a category and half of those in it; differences are the sums of the formula.
    places = values if level == "interval" else np.cumsum(totals) - totals / 2.0
    return np.asarray(np.subtract.outer(places, places) ** 2, dtype=np.float64)
