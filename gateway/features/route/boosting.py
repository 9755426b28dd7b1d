"""Groups by boosted trees: bands of the difference that scikit-learn's gradient boosting expects of a request."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gateway.core.learned_route import Node
from gateway.features.learned.trees.ensembles import Tree
from gateway.features.learned.trees.training import boosted
from gateway.features.route.model import Floats, Groups, LearningPairs
from gateway.reports.number_format import number

TREES = 100
DEPTH = 6
_BOOSTING = {
    "max_iter": TREES,
    "max_depth": DEPTH,
    "max_leaf_nodes": 12,
    "learning_rate": 0.05,
    "min_samples_leaf": 30,
    "l2_regularization": 10.0,
    "max_bins": 63,
    "early_stopping": False,
    "random_state": 0,
}


def boosted_groups(older: LearningPairs, bands: int) -> Groups:
    """Raises CannotRun without scikit-learn. bands: of the expected difference, with equally many pairs each."""
    ensemble = boosted(older.x, older.difference, older.weights, _BOOSTING)
    expected = ensemble.predict(older.x)
    cuts = _cuts(expected, bands)

    def of(x: Floats) -> NDArray[np.intp]:
        return np.searchsorted(cuts, ensemble.predict(x), side="left")

    return Groups(tuple(map(_node, ensemble.trees)), _said(cuts), of, ensemble.baseline, cuts)


def _cuts(expected: Floats, bands: int) -> tuple[float, ...]:
    """Places cuts between two expected values, so that the order in which trees are added up puts no request into
    another band."""
    values = np.unique(expected)
    at = np.searchsorted(values, np.quantile(expected, np.linspace(0, 1, bands + 1)[1:-1]), side="right")
    inner = np.unique(at[(at > 0) & (at < len(values))])
    return tuple(float(each) for each in (values[inner - 1] + values[inner]) / 2)


def _said(cuts: tuple[float, ...]) -> tuple[str, ...]:
    lows, highs = (None, *cuts), (*cuts, None)
    return tuple(_band(low, high) for low, high in zip(lows, highs, strict=True))


def _band(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "every request"
    if low is None:
        return f"expected difference up to {number(high, 3, signed=True)}"
    return f"expected difference above {number(low, 3, signed=True)}" + (
        "" if high is None else f", up to {number(high, 3, signed=True)}"
    )


def _node(tree: Tree, at: int = 0) -> Node:
    if not tree.left[at]:
        return (-1, tree.value[at])
    return (tree.feature[at], tree.threshold[at], _node(tree, tree.left[at]), _node(tree, tree.right[at]))
