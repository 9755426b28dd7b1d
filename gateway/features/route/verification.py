"""A frozen route against pairs that it was not learned from: those that came after it, or of another experiment.

The route's value on a pair is that of the target it chooses, so new pairs of the same two targets measure it, whichever
of them serves. The intervals hold at every look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gateway.core.learned_route import LearnedRoute
from gateway.features.route.model import LearningPairs
from gateway.statistics.hybrid import guarded_half_width
from gateway.statistics.moments import Moments
from gateway.statistics.route_choice import Bounded, saved_share

_TIGHTEST = 500.0  # pairs at which the interval is narrowest
State = Literal["holds", "undecided", "loses too much"]


@dataclass(frozen=True, slots=True)
class VerifiedLeaf:
    leaf: int
    """Index of the leaf; -1: requests that are unlike those that the route was learned from."""
    pairs: int
    moved: bool
    says: str
    loss: Bounded | None
    """Mean loss of the cheaper target here; None if there is no pair."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The loss of a route on new pairs."""

    state: State
    pairs: int
    share: float
    """The share of the traffic that it moves."""
    loss: Bounded
    """Loss over all traffic."""
    saved: Bounded | None
    leaves: tuple[VerifiedLeaf, ...]


def verify(route: LearnedRoute, pairs: LearningPairs, margin: float, alpha: float) -> Verification | None:
    """Measures a route on newer pairs; None if there are none."""
    if not len(pairs):
        return None
    leaf = leaves_on(route, pairs)
    moved = np.isin(leaf, [i for i, each in enumerate(route.leaves) if each.moved])
    loss = _mean(np.where(moved, -pairs.difference, 0.0), alpha)
    state: State = "holds" if loss.high <= margin else "loses too much" if loss.low > margin else "undecided"
    share = float(np.average(moved, weights=pairs.weights))
    parts = tuple(_leaf(route, i, pairs, leaf == i, alpha) for i in sorted(set(leaf.tolist())))
    return Verification(state, len(pairs), share, loss, _saved(route, pairs, leaf, alpha), parts)


def _saved(route: LearnedRoute, pairs: LearningPairs, leaf: NDArray[np.intp], alpha: float) -> Bounded | None:
    moved = np.isin(leaf, [i for i, each in enumerate(route.leaves) if each.moved])
    return saved_share(pairs.as_routed(leaf, cascade=route.cascade), moved, alpha)


def leaves_on(route: LearnedRoute, pairs: LearningPairs) -> NDArray[np.intp]:
    """The leaf of each pair, by the code that serves; -1: unlike."""
    rows = zip(pairs.x.tolist(), pairs.script.tolist(), strict=True)
    return np.array([route.leaf_of(values) if route.knows(script) else -1 for values, script in rows], dtype=np.intp)


def _leaf(route: LearnedRoute, i: int, pairs: LearningPairs, inside: NDArray[np.bool_], alpha: float) -> VerifiedLeaf:
    loss = _mean(-pairs.difference[inside], alpha) if inside.any() else None
    if i < 0:
        return VerifiedLeaf(-1, int(inside.sum()), False, "unlike the requests that it was learned from", loss)
    return VerifiedLeaf(i, int(inside.sum()), route.leaves[i].moved, route.leaves[i].says, loss)


def _mean(values: NDArray[np.float64], alpha: float) -> Bounded:
    moments = Moments()
    for value in values.tolist():
        moments = moments.add(value)
    half = guarded_half_width(alpha, _TIGHTEST, moments.n, moments.m2, 1.0)
    return Bounded(moments.mean, moments.mean - half, moments.mean + half)
