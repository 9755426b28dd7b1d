"""Ensembles of regression trees: their JSON, and their prediction on numpy. Nothing in a file is ever executed.

A prediction equals scikit-learn's HistGradientBoostingRegressor of the same trees, which training.py exports. All trees
go down one level at a time for all rows, so the cost of numpy's calls is shared by a batch.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
MAX_TREES = 2_000
MAX_NODES = 4_096
"""Limit of one tree."""
_HIGHEST = sys.float_info.max
_COLUMNS = ("feature", "threshold", "missing_left", "left", "right", "value")
_ROWS = 256  # evaluated at once: memory for a few numbers per tree and row


class InvalidModel(ValueError):
    """A stored model is not one; the message says where."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Nodes in an order in which children come after their parent. A leaf has left = right = 0."""

    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    """A row whose feature is at most this goes left; may be infinite."""
    missing_left: tuple[bool, ...]
    """True if a row whose feature is NaN goes left."""
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]
    """The values of the leaves."""

    @property
    def depth(self) -> int:
        """Steps from the root to the deepest leaf."""
        depths = [0] * len(self.left)
        for node, (left, right) in enumerate(zip(self.left, self.right, strict=True)):
            if left:
                depths[left] = depths[right] = depths[node] + 1
        return max(depths)


@dataclass(frozen=True)
class TreeEnsemble:
    """The sum of a baseline and of one leaf of each tree."""

    baseline: float
    trees: tuple[Tree, ...]
    width: int
    """The number of features."""

    def to_json(self) -> dict[str, Any]:
        """JSON-able; a threshold of ∞ is null."""
        return {
            "baseline": self.baseline,
            "width": self.width,
            "trees": [{name: [_finite(v) for v in getattr(tree, name)] for name in _COLUMNS} for tree in self.trees],
        }

    @classmethod
    def from_json(cls, raw: Any) -> TreeEnsemble:
        """Raises InvalidModel for anything that to_json would not have written."""
        of = _mapping(raw, "the ensemble")
        width, trees = of.get("width"), of.get("trees")
        if not isinstance(width, int) or isinstance(width, bool) or not 0 < width <= 100_000:
            raise InvalidModel(f"width: expected a number of features, got {width!r}")
        if not isinstance(trees, list) or len(trees) > MAX_TREES:
            raise InvalidModel(f"trees: expected a list of at most {MAX_TREES}")
        baseline = _number(of.get("baseline"), "baseline")
        return cls(baseline, tuple(_tree(each, width, f"trees[{i}]") for i, each in enumerate(trees)), width)

    def predict(self, x: NDArray[Any]) -> Floats:
        """Predicts rows. x: shape (n, width); NaN: missing. Returns shape (n,)."""
        values: Floats = self._forest.predict(x)[0]
        return values

    @cached_property
    def _forest(self) -> Forest:
        return Forest([self])


class Forest:
    """Ensembles over the same features, evaluated together. Raises ValueError where these differ in number."""

    def __init__(self, ensembles: Sequence[TreeEnsemble]) -> None:
        [self.width] = {each.width for each in ensembles}
        trees = [tree for each in ensembles for tree in each.trees]
        self._baselines = np.array([each.baseline for each in ensembles])
        self._ends = np.cumsum([len(each.trees) for each in ensembles])[:-1]
        self._depth = max((tree.depth for tree in trees), default=0)
        orders = [_paired(tree) for tree in trees]
        starts = np.cumsum([0, *map(len, orders)], dtype=np.intp)
        self._roots: Ints = starts[:-1]
        nodes: list[tuple[int, float, int, float]] = []
        for tree, order, at in zip(trees, orders, starts, strict=False):
            nodes += self._nodes(tree, order, int(at))
        feature, threshold, second, value = zip(*nodes, strict=True) if nodes else ((), (), (), ())
        self._feature, self._second = np.array(feature, dtype=np.intp), np.array(second, dtype=np.intp)
        self._threshold, self._value = np.array(threshold, dtype=np.float64), np.array(value, dtype=np.float64)

    def _nodes(self, tree: Tree, order: Sequence[int], start: int) -> Iterator[tuple[int, float, int, float]]:
        """Yields of each node the column of its feature, its threshold, its second child and its value. Where a missing
        value goes left, it is read from a second copy of the features, in which NaN is −∞; every other comparison with
        NaN is false, and goes right. A leaf sends every row left, to itself."""
        place = {node: start + at for at, node in enumerate(order)}
        for node in order:
            if tree.left[node]:
                column = tree.feature[node] + self.width * tree.missing_left[node]
                yield column, tree.threshold[node], place[tree.right[node]], tree.value[node]
            else:
                yield self.width, math.inf, place[node] + 1, tree.value[node]

    def predict(self, x: NDArray[Any]) -> Floats:
        """Predicts rows. x: shape (n, width); NaN: missing. Returns shape (number of ensembles, n)."""
        if x.ndim != 2 or x.shape[1] != self.width:
            raise ValueError(f"expected rows of {self.width} features, got an array of shape {x.shape}")
        out = np.empty((len(self._baselines), len(x)))
        for at in range(0, len(x), _ROWS):
            values = self._leaves(x[at : at + _ROWS])
            parts = np.split(values, self._ends, axis=0)
            out[:, at : at + _ROWS] = [part.sum(axis=0) for part in parts]
        out += self._baselines[:, None]
        return out

    def _leaves(self, x: NDArray[Any]) -> Floats:
        """The value of the leaf of each tree and row; shape (trees, n)."""
        twice = np.empty((2 * self.width, len(x)))
        twice[: self.width] = x.T
        twice[self.width :] = np.where(np.isnan(x.T), -np.inf, x.T)
        flat, row, feature, roots = twice.ravel(), np.arange(len(x)), self._feature * len(x), self._roots
        goes_left = twice[self._feature[roots]] <= self._threshold[roots, None]
        node = self._second[roots, None] - goes_left
        for _ in range(1, self._depth):
            at = feature.take(node)
            at += row
            goes_left = flat.take(at) <= self._threshold.take(node)
            node = self._second.take(node)
            node -= goes_left  # the first child comes before the second
        values: Floats = self._value.take(node)
        return values


def _paired(tree: Tree) -> list[int]:
    """The nodes, from the root on, in an order in which the two children of a node are neighbours."""
    order = [0]
    for node in order:  # grows meanwhile
        if tree.left[node]:
            order += tree.left[node], tree.right[node]
    return order


def _tree(raw: Any, width: int, at: str) -> Tree:
    of = _mapping(raw, at)
    columns = [of.get(name) for name in _COLUMNS]
    sizes = {len(each) if isinstance(each, list) else -1 for each in columns}
    if len(sizes) != 1 or not 0 < (size := sizes.pop()) <= MAX_NODES:
        raise InvalidModel(f"{at}: expected {', '.join(_COLUMNS)}: lists of one length, from 1 to {MAX_NODES}")
    feature, threshold, missing, left, right, value = columns
    for node in range(size):
        _check_node(feature[node], missing[node], (left[node], right[node]), node, (size, width), f"{at}[{node}]")  # type: ignore[index]
    children = [child for child in (*(left or ()), *(right or ())) if child]
    if len(set(children)) != len(children):
        raise InvalidModel(f"{at}: a node is the child of two others")
    limits = tuple(math.inf if v is None else _number(v, f"{at}.threshold") for v in threshold or ())
    values = tuple(_number(v, f"{at}.value") for v in value or ())
    return Tree(tuple(feature or ()), limits, tuple(missing or ()), tuple(left or ()), tuple(right or ()), values)


def _check_node(
    feature: Any, missing: Any, children: tuple[Any, Any], node: int, most: tuple[int, int], at: str
) -> None:
    """Checks that children come after their parent: then every path ends. most: numbers of nodes and of features."""
    size, width = most
    if type(feature) is not int or not 0 <= feature < width:
        raise InvalidModel(f"{at}.feature: expected a number below {width}, got {feature!r}")
    if type(missing) is not bool:
        raise InvalidModel(f"{at}.missing_left: expected true or false, got {missing!r}")
    if children == (0, 0) and all(type(child) is int for child in children):
        return
    if any(type(child) is not int or not node < child < size for child in children):
        raise InvalidModel(f"{at}: its children {children!r} do not come after it")


def _mapping(raw: Any, at: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise InvalidModel(f"{at}: expected an object, got {type(raw).__name__}")
    return raw


def _number(raw: Any, at: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise InvalidModel(f"{at}: expected a finite number, got {raw!r}")
    return float(raw)


def _finite(value: Any) -> Any:
    """JSON has no infinity. −∞ becomes the lowest number, which no feature is."""
    return value if not isinstance(value, float) or math.isfinite(value) else None if value > 0 else -_HIGHEST
