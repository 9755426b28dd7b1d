"""Choice of the part of the traffic that may go to the cheaper target: a tree over features, and the largest share that
is shown to lose no more than the margin.

The tree is grown on one part of the pairs and the share is chosen on another, so the choice is honest however the tree
was found. Since both targets have answered each request, the value of every route on a pair is known: no weighting by
the odds of a past decision is needed.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from gateway.core.horizon import guarded
from gateway.statistics.special import student_quantile, student_tail

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
MOST_LEAVES = 8
FEWEST_IN_LEAF = 25
THRESHOLDS = 12
"""Thresholds of one feature that are tried: quantiles of its values."""
LEAST_Z = 2.5
"""Minimum difference between the two halves of a split: fewer leaves are easier to read, and cost no guarantee."""
_ALIKE = 0.97  # of the largest gain: of splits that explain as much, the last is taken
_FEWEST_GROUPS = 10  # from which the variance between groups is estimated
FEWEST_UNITS = 3.0
"""Effective units below which nothing is shown about others like them."""


@dataclass(frozen=True, slots=True)
class SplitCondition:
    feature: int
    threshold: float


@dataclass(frozen=True, slots=True)
class GrownTree:
    """A leaf, or a node with its branches."""

    leaf: int = -1
    """Number of the leaf; -1 if the node has branches."""
    branches: tuple[SplitCondition, GrownTree, GrownTree] | None = None
    """The condition, the branch of those that are at most its threshold, and that of the others."""


@dataclass(slots=True)
class _Node:
    members: NDArray[np.bool_]
    split: tuple[int, float] | None
    """Column of the best condition, and the squares that it explains; None if no split tells two groups apart."""
    branches: tuple[_Node, _Node] | None = None


def grow_tree(
    x: Floats, y: Floats, weights: Floats, most_leaves: int = MOST_LEAVES, least_z: float = LEAST_Z
) -> GrownTree:
    """A regression tree, grown first where it explains most.

    x: shape (n, features), without NaN; of features that explain equally much, the last is preferred. y, weights: shape
    (n,). Source: Breiman et al. 1984, CART; best-first growth as Friedman 2001.
    """
    conditions = [SplitCondition(f, t) for f in range(x.shape[1]) for t in thresholds(x[:, f])]
    if not conditions:
        return GrownTree(0)
    below = np.column_stack([x[:, c.feature] <= c.threshold for c in conditions])

    def node(members: NDArray[np.bool_]) -> _Node:
        return _Node(members, _best_split(below, y, weights, members, least_z))

    root = node(np.ones(len(x), dtype=bool))
    leaves = [root]
    while len(leaves) < most_leaves:
        best = max(leaves, key=lambda leaf: -1.0 if leaf.split is None else leaf.split[1])
        if best.split is None:
            break
        side = below[:, best.split[0]]
        best.branches = node(best.members & side), node(best.members & ~side)
        leaves = [leaf for leaf in leaves if leaf is not best] + [*best.branches]
    return _numbered(root, conditions, count())


def _numbered(node: _Node, conditions: Sequence[SplitCondition], numbers: Iterator[int]) -> GrownTree:
    """The tree with its leaves numbered from left to right."""
    if node.branches is None or node.split is None:
        return GrownTree(next(numbers))
    at_most, above = (_numbered(each, conditions, numbers) for each in node.branches)
    return GrownTree(-1, (conditions[node.split[0]], at_most, above))


def thresholds(column: Floats) -> list[float]:
    """Values between those of a feature, where a tree may split."""
    distinct = np.unique(column)
    middles = (distinct[1:] + distinct[:-1]) / 2
    if len(middles) > THRESHOLDS:
        cuts = np.unique(np.quantile(column, np.linspace(0, 1, THRESHOLDS + 2)[1:-1], method="lower"))
        middles = cuts[cuts < distinct[-1]]
    return [float(each) for each in middles]


def _best_split(
    below: NDArray[np.bool_], y: Floats, weights: Floats, members: NDArray[np.bool_], least_z: float
) -> tuple[int, float] | None:
    """Finds the best split; arguments as in _Node."""
    if members.sum() < 2 * FEWEST_IN_LEAF:
        return None
    inside, w, values = below[members].astype(np.float64), weights[members], y[members]
    total, mean = w.sum(), np.average(values, weights=w)
    residual = values - mean
    n_left, w_left, s_left = inside.sum(axis=0), w @ inside, (w * residual) @ inside
    enough = (n_left >= FEWEST_IN_LEAF) & (len(values) - n_left >= FEWEST_IN_LEAF)
    w_right = total - w_left
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(enough, s_left**2 / w_left + s_left**2 / w_right, 0.0)
    best = int(np.flatnonzero(gain >= _ALIKE * gain.max())[-1])
    left = inside[:, best] > 0
    if not enough[best] or _z(values[left], values[~left]) < least_z:
        return None
    return best, float(gain[best])


def _z(a: Floats, b: Floats) -> float:
    """Distance of two means in standard errors."""
    error = math.sqrt((guarded(a.var() * len(a), 1.0) / len(a) ** 2) + guarded(b.var() * len(b), 1.0) / len(b) ** 2)
    return float(abs(a.mean() - b.mean()) / error)


def leaves_of(tree: GrownTree, x: Floats) -> Ints:
    """The leaf of each row. x: shape (n, features)."""
    if tree.branches is None:
        return np.full(len(x), tree.leaf, dtype=np.intp)
    condition, at_most, above = tree.branches
    left = x[:, condition.feature] <= condition.threshold
    return np.where(left, leaves_of(at_most, x), leaves_of(above, x))


@dataclass(frozen=True, slots=True)
class RoutePairs:
    """Pairs on which routes are compared, all of length n."""

    leaf: Ints
    difference: Floats
    """Difference of the primary: positive where the cheaper target is better."""
    weights: Floats
    """1 / the probability with which the pair was drawn."""
    cost_control: Floats
    """USD of the control's answer; NaN: unknown."""
    cost_moved: Floats
    asked: NDArray[np.bool_] | None = None
    """Pairs whose cheaper answer is paid for even where the request is not moved: a cascade asks for it first. None:
    none."""
    groups: tuple[Sequence[Hashable], ...] = ()
    """Groupings, each with the group of every pair, within which values may depend on each other; they count from ten
    groups on."""
    units: Sequence[Hashable] | None = None
    """The unit of every pair, where the pairs are to show something about other units; they count however few they
    are."""

    def __len__(self) -> int:
        return len(self.leaf)


@dataclass(frozen=True, slots=True)
class Bounded:
    """An estimate with an interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RoutePoint:
    """One route of the nested family."""

    leaves: tuple[int, ...]
    """The leaves that it moves."""
    share: float
    """The share of the traffic that it moves."""
    loss: Bounded
    """Mean loss of the primary over all traffic, with a band that holds for all points of a curve together."""
    saved: Bounded | None
    """The share of the control's cost that it saves; None if costs are unknown."""
    p: float
    """P-value of "it loses more than the margin"."""


@dataclass(frozen=True, slots=True)
class RouteCurve:
    """The family by share moved, and the chosen member."""

    points: tuple[RoutePoint, ...]
    chosen: int | None
    """Index of the largest share that is shown to lose less than the margin; None if there is none."""


def choose_route(
    pairs: RoutePairs, order: Sequence[int], margin: float, alpha: float, movable: int | None = None
) -> RouteCurve:
    """Tests the routes that move the first leaves of `order`, from the smallest share to the largest, at level alpha
    each, until one is not shown to lose less than the margin.

    order: leaves, the safest first, found on other pairs. movable: leaves at its beginning of which any may be moved;
    None: all. Points beyond are in the curve, and are not chosen. The probability that the chosen route loses more than
    the margin is at most alpha. Source: fixed-sequence testing in Learn then Test, Angelopoulos et al. 2021
    (arXiv:2110.01052), section 3. The p-value is that of a normal mean with a floor for unseen values, and with units
    also that of Student's t over those whose requests are moved, on their effective number less 1.
    """
    points = [_point(pairs, tuple(order[: k + 1]), margin, alpha / max(1, len(order))) for k in range(len(order))]
    most = len(points) if movable is None else movable
    passed = min(most, next((i for i, each in enumerate(points) if each.p > alpha), most))
    return RouteCurve(tuple(points), passed - 1 if passed else None)


def _point(pairs: RoutePairs, leaves: tuple[int, ...], margin: float, alpha: float) -> RoutePoint:
    """alpha: of the interval of this point, two-sided."""
    moved = np.isin(pairs.leaf, leaves)
    loss, errors = mean_and_errors(np.where(moved, -pairs.difference, 0.0), pairs, moved)
    half = max(error.quantile(1 - alpha / 2) * error.se for error in errors)
    weakest = max if loss < margin else min  # the evidence of the error that says least
    return RoutePoint(
        leaves,
        float(np.average(moved, weights=pairs.weights)),
        Bounded(loss, loss - half, loss + half),
        saved_share(pairs, moved, alpha),
        weakest(error.p_value(margin - loss) for error in errors),
    )


@dataclass(frozen=True, slots=True)
class MeanError:
    """A standard error with its degrees of freedom."""

    se: float
    df: float = math.inf

    def quantile(self, p: float) -> float:
        return NormalDist().inv_cdf(p) if math.isinf(self.df) else student_quantile(p, self.df)

    def p_value(self, gap: float) -> float:
        """P(a mean so far below its bound), where it is the bound. gap: the bound less the mean."""
        if not self.se:
            return float(gap <= 0)
        t = gap / self.se
        return NormalDist().cdf(-t) if math.isinf(self.df) else student_tail(t, self.df)


def mean_and_errors(values: Floats, pairs: RoutePairs, moved: NDArray[np.bool_]) -> tuple[float, list[MeanError]]:
    """The weighted mean, and its standard errors if values are independent, and if they depend on each other within any
    of the groupings."""
    w = pairs.weights / pairs.weights.sum()
    mean = float(w @ values)
    terms = w * (values - mean)
    floor = float(w.max()) ** 2  # of one unseen value, as large as the largest possible
    errors = [MeanError(math.sqrt(guarded(float(terms @ terms) / floor, 1.0) * floor))]
    for groups in pairs.groups:
        sums = sums_of(groups, terms)
        if len(sums) >= _FEWEST_GROUPS:
            errors.append(MeanError(math.sqrt(float(sums @ sums) * len(sums) / (len(sums) - 1))))
    if pairs.units is not None:
        sums, n = sums_of(pairs.units, terms), effective_units(pairs.units, np.where(moved, w, 0.0))
        known = n >= FEWEST_UNITS
        errors.append(MeanError(math.sqrt(float(sums @ sums) * n / (n - 1)), n - 1) if known else MeanError(math.inf))
    return mean, errors


def effective_units(units: Sequence[Hashable], weights: Floats) -> float:
    """The number of equally heavy units that would say as much: (sum w)^2 / sum w^2 over units; 0.0 without weight.

    Source: Kish 1965, Survey Sampling, section 11.7.
    """
    sums = sums_of(units, weights)
    squares = float(sums @ sums)
    return float(sums.sum()) ** 2 / squares if squares else 0.0


def sums_of(groups: Sequence[Hashable], values: Floats) -> Floats:
    """The sum of the values of each group."""
    _, at = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    return np.asarray(np.bincount(at, weights=values), dtype=np.float64)


def saved_share(pairs: RoutePairs, moved: NDArray[np.bool_], alpha: float) -> Bounded | None:
    """The share of the control's cost that moving these pairs saves, by the delta method; None if costs are unknown."""
    known = np.isfinite(pairs.cost_control) & np.isfinite(pairs.cost_moved)
    w = np.where(known, pairs.weights, 0.0)
    total = float(w @ np.where(known, pairs.cost_control, 0.0))
    if total <= 0:
        return None
    saved = np.where(known & moved, pairs.cost_control - pairs.cost_moved, 0.0)
    if pairs.asked is not None:
        saved = np.where(known & pairs.asked & ~moved, -pairs.cost_moved, saved)
    share = float(w @ saved) / total
    terms = w * (saved - share * np.where(known, pairs.cost_control, 0.0)) / total
    half = NormalDist().inv_cdf(1 - alpha / 2) * math.sqrt(float(terms @ terms))
    return Bounded(share, share - half, share + half)
