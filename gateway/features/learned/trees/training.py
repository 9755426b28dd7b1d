"""Trains a model on the past only, in order of time. Pure but for scikit-learn, which nothing else of the package uses.

g is fitted by squared error, weighted by 1 / π, so that it is best for all recorded exchanges and not for the judged
ones. r̂ is fitted on the squared errors of models that had seen only earlier exchanges: errors on rows that a model was
fitted on would promise a precision that it does not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.core.errors import CannotRun
from gateway.core.extras import install_command
from gateway.features.learned.card import CardEvidence
from gateway.features.learned.inclusion import Floats, scale_for
from gateway.features.learned.model import PredictorModel
from gateway.features.learned.trees.ensembles import Tree, TreeEnsemble
from gateway.features.learned.trees.features import FeatureExtractor

BLOCKS = 4  # of time; each but the first is predicted by a model of those before it
BINS = 63
MAX_WEIGHT = 20.0  # 1 / the smallest π
STEPS = BLOCKS + 2
"""The number of progress reports of `train`."""
_BOOSTING = {
    "max_bins": BINS,
    "learning_rate": 0.1,
    "min_samples_leaf": 20,
    "l2_regularization": 1.0,
    "early_stopping": False,
    "random_state": 0,
}
_VALUE = {"max_iter": 60, "max_depth": 5, "max_leaf_nodes": 16}
_RESIDUAL = {"max_iter": 30, "max_depth": 4, "max_leaf_nodes": 12}


@dataclass(frozen=True)
class TrainingRows:
    """Exchanges with a value of the target, in order of arrival. All of length n."""

    x: NDArray[np.float32]
    """Shape (n, number of features)."""
    h: Floats
    """The target's values, in [0, 1]."""
    pi: Floats
    """The probabilities with which they were drawn; 1 where the target is given by people."""
    received: Floats
    """Unix seconds."""

    def __len__(self) -> int:
        return len(self.h)

    def part(self, of: slice) -> TrainingRows:
        return TrainingRows(self.x[of], self.h[of], self.pi[of], self.received[of])


@dataclass(frozen=True)
class HeldOut:
    """The newest block, predicted by models that had seen only earlier exchanges. All of shape (n,) but x."""

    rows: TrainingRows
    g: Floats
    residual: Floats
    """Values of r̂, fitted on earlier blocks only."""
    mean: float
    """The weighted mean of h over the earlier blocks: the prediction without features."""
    before: TrainingRows
    """The data on which g was fitted."""


@dataclass(frozen=True)
class TrainingResult:
    model: PredictorModel
    held_out: HeldOut


@dataclass(frozen=True, slots=True)
class Design:
    """The purpose of a model."""

    target: str
    share: float
    """The mean of π."""
    pi_min: float
    names: tuple[str, ...] = FeatureExtractor.names


def train(
    design: Design, rows: TrainingRows, window: NDArray[np.float32], step: Callable[[], None] = lambda: None
) -> TrainingResult:
    """Trains a model. window: features of the newest exchanges, judged or not, over which the mean of π is to be the
    share; shape (m, number of features). step: called after each of STEPS parts. Raises CannotRun without scikit-learn.
    """
    fit = _Fitting(rows, step)
    edges = [round(len(rows) * i / BLOCKS) for i in range(BLOCKS + 1)]
    g = np.full(len(rows), np.nan)
    for low, high in pairwise(edges[1:]):
        g[low:high] = np.clip(fit.of(slice(0, low), rows.h, _VALUE).predict(rows.x[low:high]), 0.0, 1.0)
    errors = (rows.h - g) ** 2
    first, last = edges[1], edges[-2]
    of_past = fit.of(slice(first, last), errors, _RESIDUAL)
    held = rows.part(slice(last, None))
    before = rows.part(slice(0, last))
    mean = float(np.average(before.h, weights=1.0 / before.pi))
    held_out = HeldOut(held, g[last:], of_past.predict(held.x), mean, before)
    value = fit.of(slice(None), rows.h, _VALUE)
    residual = fit.of(slice(first, None), errors, _RESIDUAL)
    unscaled = PredictorModel(design.target, design.names, value, residual, 0.0)
    expected = unscaled.predict(window)[1] if len(window) else np.array([])
    scale = scale_for(expected, design.share, design.pi_min)
    return TrainingResult(replace(unscaled, scale=scale), held_out)


def evidence_of(held_out: HeldOut) -> CardEvidence:
    """The evidence from which the card of the model is made."""
    rows = held_out.rows
    return CardEvidence(rows.h, held_out.g, held_out.residual, rows.pi, held_out.mean, rows.x, held_out.before.x)


def boosted(x: Floats, y: Floats, weights: Floats, settings: Mapping[str, Any]) -> TreeEnsemble:
    """Fits scikit-learn's HistGradientBoostingRegressor with these settings. Raises CannotRun without scikit-learn."""
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError as error:
        raise CannotRun(f"boosted trees need scikit-learn: {install_command('learn')}") from error
    regressor = HistGradientBoostingRegressor(**settings)
    with threadpool_limits(1, user_api="openmp"):  # on a busy machine, several threads wait for each other
        regressor.fit(x, y, sample_weight=weights)
    return exported(regressor)


class _Fitting:
    """Fits trees to parts of the same rows. Their features are replaced by the numbers of bins once, for all fits:
    scikit-learn would compute weighted quantiles of each feature for each fit, which takes longer than the trees."""

    def __init__(self, rows: TrainingRows, step: Callable[[], None]) -> None:
        self._weights = np.minimum(1.0 / rows.pi, MAX_WEIGHT)
        self._edges = [bin_edges(column) for column in rows.x.T]
        self._codes = np.column_stack([codes_of(x, e) for x, e in zip(rows.x.T, self._edges, strict=True)])
        self._step = step

    def of(self, part: slice, y: Floats, sizes: Mapping[str, int]) -> TreeEnsemble:
        codes = self._codes[part]
        known = np.where(np.isnan(codes).all(axis=0), 0.0, codes)  # scikit-learn takes no column without a value
        coded = boosted(known, y[part], self._weights[part], {**_BOOSTING, **sizes})
        self._step()
        return replace(coded, trees=tuple(_decoded(tree, self._edges) for tree in coded.trees))


def bin_edges(column: NDArray[np.float32]) -> Floats:
    """The values, ascending, at most BINS − 1, between which the trees may split."""
    known = column[~np.isnan(column)].astype(np.float64)
    distinct = np.unique(known)
    if len(distinct) > BINS:
        distinct = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:], method="lower"))
    return distinct[:-1]


def codes_of(column: NDArray[np.float32], edges: Floats) -> Floats:
    """The number of edges below each value: at most c exactly where the value is at most edges[c]. NaN stays."""
    return np.where(np.isnan(column), np.nan, np.searchsorted(edges, column, side="left"))


def _decoded(tree: Tree, edges: Sequence[Floats]) -> Tree:
    """Turns the codes in a tree into values."""
    nodes = zip(tree.feature, tree.threshold, tree.left, strict=True)
    limits = (float(edges[f][int(t)]) if left and math.isfinite(t) else t for f, t, left in nodes)
    return replace(tree, threshold=tuple(limits))


def exported(regressor: Any) -> TreeEnsemble:
    """The trees of a fitted HistGradientBoostingRegressor without categories."""
    trees = tuple(_tree(predictor.nodes) for [predictor] in regressor._predictors)
    return TreeEnsemble(float(regressor._baseline_prediction.ravel()[0]), trees, int(regressor.n_features_in_))


def _tree(nodes: NDArray[Any]) -> Tree:
    inner = nodes["is_leaf"] == 0
    return Tree(
        tuple(np.where(inner, nodes["feature_idx"], 0).tolist()),
        tuple(np.where(inner, nodes["num_threshold"], 0.0).tolist()),
        tuple((inner & (nodes["missing_go_to_left"] == 1)).tolist()),
        tuple(np.where(inner, nodes["left"], 0).tolist()),
        tuple(np.where(inner, nodes["right"], 0).tolist()),
        tuple(np.where(inner, 0.0, nodes["value"]).tolist()),
    )
