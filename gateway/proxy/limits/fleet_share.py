"""A worker's part of the calls in flight that a vendor allows all gateways together, while more calls want a place.

Every worker says how many calls it has in flight and waiting, by class and by owner of a weight (a team, or a key).
From that each computes the same: classes are served in their order, within a class the owners by weight, none more than
it wants (max-min fairness; Bertsekas & Gallager, Data Networks, 1992, section 6.5.2), and each worker has as much of an
owner's places as it has of its calls. Pure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

Demand = Mapping[tuple[int, str], int]
"""Calls in flight and waiting, by rank of their class and owner of their weight."""

TURN_S = 4.0
"""Seconds after which parts of a place go to other workers. A place that moves is idle for about half a second."""
_GOLDEN = (math.sqrt(5) - 1) / 2


def parts_of(places: int, weights: Mapping[str, float], demands: Mapping[str, Demand]) -> dict[str, float] | None:
    """The places that each worker should have. None if there are enough for all calls.

    weights: by owner; 1 of those that are not there. demands: by worker.
    """
    total: Counter[tuple[int, str]] = Counter()
    for demand in demands.values():
        total.update(demand)
    if total.total() <= places:
        return None
    left, given = float(places), dict[tuple[int, str], float]()
    for rank in sorted({rank for rank, _ in total}):
        wanted = {owner: n for (of, owner), n in total.items() if of == rank and n > 0}
        by_owner = _by_weight(left, wanted, weights)
        given |= {(rank, owner): n for owner, n in by_owner.items()}
        left -= sum(by_owner.values())
    return {
        worker: sum(given.get(of, 0.0) * n / total[of] for of, n in demand.items() if n > 0)
        for worker, demand in demands.items()
    }


def _by_weight(places: float, wanted: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, float]:
    """Places by weight, none more than it wants."""
    given, left = dict[str, float](), sum(weights.get(owner, 1.0) for owner in wanted)
    for owner in sorted(wanted, key=lambda name: wanted[name] / weights.get(name, 1.0)):
        weight = weights.get(owner, 1.0)
        given[owner] = min(float(wanted[owner]), places * weight / left) if left > 0 else 0.0
        places, left = places - given[owner], left - weight
    return given


def whole_places(parts: Mapping[str, float], turn: int) -> dict[str, int]:
    """Whole places whose sum is that of the parts, and that are right on average over many turns."""
    shift = turn * _GOLDEN % 1.0
    found, reached = {}, shift
    for worker in sorted(parts):
        before, reached = reached, reached + parts[worker]
        found[worker] = math.floor(reached + 1e-9) - math.floor(before + 1e-9)
    return found


class FleetShare:
    """The places of one worker at one upstream."""

    def __init__(self, places: int, weights: Mapping[str, float]) -> None:
        self._places, self._weights = places, weights
        self.most: int | None = None
        """The calls that this worker may have in flight; None: as many as it gets."""
        self.scale: Mapping[str, float] = {}
        """The part of each owner's calls that are at this worker, by which its weight counts here."""

    def heard(self, worker: str, demands: Mapping[str, Demand], now_s: float) -> None:
        """now_s: on the clock of the stream server, so that all workers are at the same turn."""
        parts = parts_of(self._places, self._weights, demands)
        self.most = None if parts is None else whole_places(parts, int(now_s / TURN_S)).get(worker)
        self.scale = {} if parts is None else _scale(demands.get(worker, {}), demands.values())

    def forget(self) -> None:
        """Forgets what was known of other workers."""
        self.most, self.scale = None, {}


def _scale(own: Demand, demands: Iterable[Demand]) -> dict[str, float]:
    by_owner: Counter[str] = Counter()
    for demand in demands:
        for (_, owner), n in demand.items():
            by_owner[owner] += n
    here: Counter[str] = Counter()
    for (_, owner), n in own.items():
        here[owner] += n
    return {owner: n / by_owner[owner] for owner, n in here.items() if n > 0}
