"""A frozen route against pairs that it was not learned from: those that came after it, or of another experiment.

The route's value on a pair is that of the target it chooses, so new pairs of the same two targets measure it, whichever
of them serves. The intervals hold at every look. A route that was learned for other users than those seen is verified
by user, too, with Student's quantile at their effective number less 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gateway.core.horizon import guarded
from gateway.core.learned_route import LearnedRoute
from gateway.features.route.model import LearningPairs
from gateway.statistics.hybrid import guarded_half_width
from gateway.statistics.moments import Moments
from gateway.statistics.route_choice import FEWEST_UNITS, Bounded, effective_units, saved_share, sums_of
from gateway.statistics.special import student_ratio

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
    terms = _Terms(alpha, pairs.units if route.evidence.get("population") == "others" else None)
    everywhere = np.ones(len(pairs), dtype=np.bool_)
    loss = terms.mean(np.where(moved, -pairs.difference, 0.0), everywhere)
    state: State = "holds" if loss.high <= margin else "loses too much" if loss.low > margin else "undecided"
    share = float(np.average(moved, weights=pairs.weights))
    parts = tuple(
        _leaf(route, i, terms.mean(-pairs.difference, leaf == i), leaf == i) for i in sorted(set(leaf.tolist()))
    )
    return Verification(state, len(pairs), share, loss, _saved(route, pairs, leaf, alpha), parts)


def _saved(route: LearnedRoute, pairs: LearningPairs, leaf: NDArray[np.intp], alpha: float) -> Bounded | None:
    moved = np.isin(leaf, [i for i, each in enumerate(route.leaves) if each.moved])
    return saved_share(pairs.as_routed(leaf, cascade=route.cascade), moved, alpha)


def leaves_on(route: LearnedRoute, pairs: LearningPairs) -> NDArray[np.intp]:
    """The leaf of each pair, by the code that serves; -1: unlike."""
    rows = zip(pairs.x.tolist(), pairs.script.tolist(), strict=True)
    return np.array([route.leaf_of(values) if route.knows(script) else -1 for values, script in rows], dtype=np.intp)


def _leaf(route: LearnedRoute, i: int, loss: Bounded | None, inside: NDArray[np.bool_]) -> VerifiedLeaf:
    if i < 0:
        return VerifiedLeaf(-1, int(inside.sum()), False, "unlike the requests that it was learned from", loss)
    return VerifiedLeaf(i, int(inside.sum()), route.leaves[i].moved, route.leaves[i].says, loss)


@dataclass(frozen=True, slots=True)
class _Terms:
    """The error of an interval, and the unit of each pair; None: pairs count alone."""

    alpha: float
    units: Sequence[str] | None

    def mean(self, values: NDArray[np.float64], inside: NDArray[np.bool_]) -> Bounded:
        moments = Moments.of(values[inside])
        half = guarded_half_width(self.alpha, _TIGHTEST, moments.n, moments.m2, 1.0)
        if self.units is not None:
            of = np.asarray(self.units, dtype=object)[inside].tolist()
            half = max(half, self._by_units(values[inside] - moments.mean, of))
        return Bounded(moments.mean, moments.mean - half, moments.mean + half)

    def _by_units(self, deviations: NDArray[np.float64], units: Sequence[str]) -> float:
        """Half of the width if the values of one unit depend on each other; infinity for too few units."""
        n, effective = len(deviations), effective_units(units, np.ones(len(deviations)))
        sums = sums_of(units, deviations)
        m2 = float(sums @ sums)
        if effective < FEWEST_UNITS:
            return math.inf
        m2 *= effective / (effective - 1)
        half = guarded_half_width(self.alpha, _TIGHTEST, n, m2, 1.0)
        z = half * n / math.sqrt(guarded(m2, 1.0))
        return half * student_ratio(z, effective - 1) if math.isfinite(half) else half
