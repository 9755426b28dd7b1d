"""Types of learned routes: the pairs, the terms, and the result of learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.core.learned_route import STREAM, Kind, LearnedRoute, Node, RouteLeaf, RouteTarget
from gateway.core.plan import UNITS_FIRST_RULES, Plan, Population
from gateway.statistics.dependence import BLOCK_S
from gateway.statistics.route_choice import RouteCurve, RoutePairs

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LearningPairs:
    """The pairs of an experiment, in order of time. All of length n."""

    x: Floats
    """Shape (n, number of FEATURES), or of CASCADE_FEATURES where a cascade is learned."""
    script: NDArray[np.intp]
    """Indexes in SCRIPTS."""
    difference: Floats
    weights: Floats
    cost_control: Floats
    cost_moved: Floats
    received: Floats
    place: NDArray[np.intp]
    units: tuple[str, ...]
    """The end user of each request, else its conversation, else its key."""
    named: bool = True
    """Some request names its user or conversation."""
    unreadable: int = 0
    """Pairs left out since the request's content is not recorded, or was cut."""

    def __len__(self) -> int:
        return len(self.difference)

    def part(self, of: slice) -> LearningPairs:
        return LearningPairs(
            self.x[of],
            self.script[of],
            self.difference[of],
            self.weights[of],
            self.cost_control[of],
            self.cost_moved[of],
            self.received[of],
            self.place[of],
            self.units[of],
            self.named,
        )

    @property
    def plain(self) -> NDArray[np.bool_]:
        """Pairs of calls without `stream: true`."""
        return self.x[:, STREAM] <= 0.5

    def as_routed(self, leaf: NDArray[np.intp], *, cascade: bool = False, others: bool = False) -> RoutePairs:
        """leaf: of each pair. cascade: the cheaper answer is paid for in any leaf of plain calls. others: the pairs are
        to show something about other units."""
        groups = (self.units, tuple((self.received // BLOCK_S).astype(int).tolist()))
        asked = self.plain & (leaf >= 0) if cascade else None
        units = self.units if others else None
        return RoutePairs(leaf, self.difference, self.weights, self.cost_control, self.cost_moved, asked, groups, units)


@dataclass(frozen=True, slots=True)
class RouteTerms:
    """Terms of a route that is to be learned."""

    name: str
    plan: Plan
    plan_hash: str
    candidate: str
    """The arm that is the cheaper target."""
    control: RouteTarget
    moved: RouteTarget
    margin: float
    alpha: float = 0.05
    kind: Kind = "tree"
    cascade: bool = False
    """The cheaper target is asked first, and its answer decides as well."""

    def population(self, pairs: LearningPairs) -> Population | None:
        """The population that a route is shown for: as the plan says, else other units where some are named. None: a
        plan of older rules has none."""
        if self.plan.rules < UNITS_FIRST_RULES:
            return None
        return self.plan.population or ("others" if pairs.named else "these")


@dataclass(frozen=True, slots=True)
class LearnedChoice:
    """A route with the curve that it was chosen from. route: None if no share may be moved."""

    route: LearnedRoute | None
    curve: RouteCurve
    leaves: tuple[RouteLeaf, ...]
    """The leaves, moved or not."""
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups that the older pairs have shown, before it is known which may be moved."""

    trees: tuple[Node, ...]
    says: tuple[str, ...]
    """One entry for each leaf."""
    of: Callable[[Floats], NDArray[np.intp]]
    """Features, shape (n, features) → leaves."""
    baseline: float = 0.0
    cuts: tuple[float, ...] = ()
    kept: frozenset[int] = frozenset()
    """Groups that cannot move, whatever the pairs say: the streams of a cascade."""
