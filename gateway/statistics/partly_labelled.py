"""Means over traffic of quantities that are linear in people's verdicts, of which only a part is known.

Scores that every answer has predict the verdicts, so that labels need only correct the prediction: where scores tell
good answers from bad ones, a tenth of the labels gives the same interval.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.domains import Floats, positive, same_length

LEAST = 30.0  # effective labels below which there is no interval
_FOLDS = 5
_RIDGE = 1.0  # labels' worth of pull of the coefficients towards the mean of the verdicts


@dataclass(frozen=True, slots=True)
class PartlyLabelled:
    """Answers of which people labelled some, as arrays of shape (n,) but for scores."""

    scores: Floats
    """Values in [0, 1] by which verdicts are predicted, shape (n, k)."""
    people: Floats
    """Verdicts in [0, 1]; NaN without a label."""
    weight: Floats
    """The number of calls that each stands for, > 0."""
    label_weight: Floats
    """The same for a labelled one among the labelled, > 0."""
    units: Sequence[str]
    """The conversation of each."""
    clusters: NDArray[np.intp] = field(init=False)
    """The number of the conversation of each, from 0 on."""
    predicted: tuple[Floats, Floats] = field(init=False)
    """The predicted verdicts: of a labelled answer, by labels of other conversations alone, and for all together."""

    def __post_init__(self) -> None:
        """Raises ValueError for arrays of different lengths and weights that are not positive."""
        same_length(
            "scores, people, weights, units", self.scores, self.people, self.weight, self.label_weight, self.units
        )
        for name, weights in (("weight", self.weight), ("label_weight", self.label_weight)):
            positive(f"smallest {name}", float(weights.min()) if weights.size else 1.0)
        numbers: dict[str, int] = {}
        clusters = np.array([numbers.setdefault(unit, len(numbers)) for unit in self.units], dtype=np.intp)
        object.__setattr__(self, "clusters", clusters)
        folds = np.array([zlib.crc32(unit.encode()) % _FOLDS for unit in numbers], dtype=np.intp)
        object.__setattr__(self, "predicted", self._predicted(folds[clusters]))

    @property
    def labelled(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.people)

    def _predicted(self, fold: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Ridge regressions on the scores, one for each of five folds of conversations, cross-fitted."""
        n = len(self.units)
        design = np.column_stack([np.ones(n), self.scores])
        there = self.labelled
        by_fold = np.zeros((_FOLDS, n))
        for k in range(_FOLDS):
            by_fold[k] = _ridge(design, self.people, self.label_weight, there & (fold != k))
        share = np.bincount(fold[there], self.label_weight[there], minlength=_FOLDS)
        together = share / share.sum() if share.sum() > 0 else np.full(_FOLDS, 1.0 / _FOLDS)
        return by_fold[fold, np.arange(n)], np.asarray(together @ by_fold)


def _ridge(design: Floats, y: Floats, weight: Floats, among: NDArray[np.bool_]) -> Floats:
    """Predictions in [0, 1] for all rows from some; one half without any."""
    if not among.any():
        return np.full(len(design), 0.5)
    x, w = design[among], weight[among] / weight[among].mean()
    mean = float(w @ y[among] / w.sum())
    penalty = _RIDGE * np.eye(x.shape[1])
    penalty[0, 0] = 1e-9
    centred = np.linalg.solve(x.T @ (w[:, None] * x) + penalty, x.T @ (w * (y[among] - mean)))
    return np.asarray(np.clip(mean + design @ centred, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class LinearMean:
    """An estimate, and the influence of each answer on it, shape (n,), 0 for those that it is not of."""

    value: float
    influence: Floats
    size: float
    """Effective labels; effective answers if it needs no label."""

    def __sub__(self, other: LinearMean) -> LinearMean:
        return LinearMean(self.value - other.value, self.influence - other.influence, min(self.size, other.size))

    def interval(self, clusters: NDArray[np.intp], tightest: float, alpha: float = 0.05) -> tuple[float, float] | None:
        """(low, high), valid at every look. None below 30 effective labels, or answers where none is needed.

        A confidence sequence over the information 1 / se^2. The standard error is over conversations, with G / (G - 1);
        1 / size is added in quadrature, since equal labels prove no certainty. clusters: as in PartlyLabelled.
        tightest: the standard error at which the interval is tightest, > 0. alpha: in (0, 1). Raises ValueError outside
        these domains. Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, arXiv:2103.06476, theorem 2.5 and
        section 3 (cross-fitted predictions).
        """
        groups = np.count_nonzero(np.bincount(clusters, self.influence != 0.0))
        if self.size < LEAST or groups < LEAST:
            return None
        squares = float((np.bincount(clusters, self.influence) ** 2).sum())
        se = math.hypot(math.sqrt(squares * groups / (groups - 1)), 1.0 / self.size)
        information = (positive("tightest", tightest) / se) ** 2
        half = half_width(tightest, information, Tuning(alpha, 1.0, 0.0))
        return self.value - half, self.value + half


def linear_mean(
    sample: PartlyLabelled, known: Floats, slope: Floats | None = None, among: NDArray[np.bool_] | None = None
) -> LinearMean | None:
    """The mean of known + slope * verdict over the traffic, or over some of it.

    The mean over all of known + slope * predicted, plus that over the labels of slope * (verdict - predicted), each
    weighted (Hajek), with predictions by labels of other conversations. known, slope: shape (n,); None for a slope of
    0. among: None for all. None without an answer, or without a label where one is needed.
    Source: Angelopoulos, Duchi & Zrnic 2023, arXiv:2311.01453; Zrnic & Candes 2024, "Cross-prediction-powered
    inference", PNAS 121(15).
    """
    here = np.ones(len(known), dtype=np.bool_) if among is None else among
    if not here.any():
        return None
    if slope is None:
        value, influence = _mean(known, sample.weight, here)
        return LinearMean(value, influence, _effective(sample.weight[here]))
    labelled = here & sample.labelled
    if not labelled.any():
        return None
    apart, together = sample.predicted
    value, influence = _mean(known + slope * together, sample.weight, here)
    errors = slope * np.where(labelled, sample.people - apart, 0.0)
    correction, of_labels = _mean(errors, sample.label_weight, labelled)
    return LinearMean(value + correction, influence + of_labels, _effective(sample.label_weight[labelled]))


def _mean(values: Floats, weight: Floats, among: NDArray[np.bool_]) -> tuple[float, Floats]:
    """(weighted mean, each value's influence on it)."""
    share = np.where(among, weight, 0.0)
    share = share / share.sum()
    mean = float(share @ values)
    return mean, share * (values - mean)


def _effective(weight: Floats) -> float:
    return float(weight.sum() ** 2 / (weight**2).sum())
