"""Watches the leaves of the routes that serve: a share of the moved calls is also sent to the control, and a leaf that
is shown to lose too much is taken back.

The loss that each leaf may have on its own requests is the one with which all moved requests together lose the route's
margin over all traffic: the margin divided by the share that moves. The alarm of a leaf is a confidence sequence that
restarts every RESTART_PAIRS, so it holds at every look, and all leaves of a route share its alpha, over MOST_WATCHED
pairs. A leaf that was taken back stays so, for this content of the route.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from gateway.config.config import Config
from gateway.config.routes import watch_name
from gateway.config.webhook import WebhookConfig
from gateway.core.learned_route import RETURNED as SHARED_NAME
from gateway.core.learned_route import LearnedRoute, returned_to_json
from gateway.core.sequence import SequenceChanges, SequenceName
from gateway.features.isolation import Work
from gateway.features.notices.rows import WebhookDelivery, add_deliveries
from gateway.features.route.rows import watched_losses
from gateway.features.task import PeriodicWork, TaskContext, TaskWorker
from gateway.reports.number_format import rfc3339
from gateway.statistics.hybrid import guarded_half_width
from gateway.statistics.moments import Moments
from gateway.store.engine import Transaction
from gateway.store.query import Reading
from gateway.store.sequences import save, states
from gateway.stream import Corridor

log = logging.getLogger(__name__)

EVERY_S = 30.0
_LEASE = "routes"
_KEEP_S = 7 * 86_400  # gateways go on with what they know
_TIGHTEST = 100.0  # pairs at which the interval is narrowest
RESTART_PAIRS = 100


@dataclass(frozen=True, slots=True)
class WatchedLeaf:
    """The watch's evidence on one leaf."""

    leaf: int
    pairs: int
    """Pairs since the beginning that speaks most against it."""
    loss: float
    low: float
    """Lower bound of the loss, valid at every look."""
    tolerated: float

    @property
    def alarm(self) -> bool:
        return self.low > self.tolerated


def tolerated_loss(route: LearnedRoute) -> float:
    """The mean loss of a moved request with which all of them together lose the margin."""
    moved = sum(leaf.share for leaf in route.leaves if leaf.moved)
    return float(route.evidence["margin"]) / max(moved, 1e-9)


def watched_leaves(route: LearnedRoute, losses: Iterable[tuple[str, float]]) -> list[WatchedLeaf]:
    """losses: (label of the leaf, loss) of each pair, in order."""
    found: dict[int, list[float]] = {}
    for label, loss in losses:
        name, _, leaf = label.rpartition("/")
        if name == route.name and leaf.isdigit() and int(leaf) < len(route.leaves):
            found.setdefault(int(leaf), []).append(loss)
    alpha = float(route.evidence["alpha"]) / max(1, sum(leaf.moved for leaf in route.leaves))
    return [_watched(leaf, values, alpha, tolerated_loss(route)) for leaf, values in sorted(found.items())]


def _watched(leaf: int, values: Sequence[float], alpha: float, tolerated: float) -> WatchedLeaf:
    """The pairs since the beginning or since any multiple of RESTART_PAIRS, whichever speaks most against the leaf.

    After a long period without loss, a fault would hardly change the mean of all pairs. The j-th beginning has alpha /
    (j (j + 1)), which add up to alpha. Source: confidence sequences from several times on, Shin, Ramdas & Rinaldo 2022
    (arXiv:2203.03532).
    """
    found, of = [], Moments()
    for i in range(len(values) - 1, -1, -1):
        of = of.add(values[i])
        if i % RESTART_PAIRS == 0:
            j = i // RESTART_PAIRS + 1
            half = guarded_half_width(2 * alpha / (j * (j + 1)), _TIGHTEST, of.n, of.m2, 1.0)
            found.append(WatchedLeaf(leaf, of.n, of.mean, of.mean - half, tolerated))
    return max(found, key=lambda each: each.low)


def _name(digest: str) -> SequenceName:
    """Name under which the leaves of a route that were taken back are stored."""
    return SequenceName(f"route:{digest}", "", "leaves taken back", "-")


def returned_leaves(connection: Reading, digest: str) -> frozenset[int]:
    """The leaves of this content of a route that were taken back."""
    name = _name(digest)
    return frozenset(states(connection, name.plan).get(name, {}).get("leaves", ()))


def keep_returned(connection: Transaction, digest: str, leaves: frozenset[int], now: float) -> None:
    state: Mapping[str, Any] = {"leaves": sorted(leaves)}
    save(connection, SequenceChanges({_name(digest): (len(leaves), state)}, [], {}, []), now)


def leaf_notices(
    webhooks: Mapping[str, WebhookConfig], route: LearnedRoute, leaf: WatchedLeaf, now: float
) -> list[WebhookDelivery]:
    """The webhooks about a leaf that was taken back, for the receivers of the route's watch; sent like a ramp's."""
    watch, event = watch_name(route.name), f"route_{route.digest}_{leaf.leaf}"
    data: dict[str, Any] = {
        "id": event,
        "route": route.name,
        "digest": route.digest,
        "experiment": watch,
        "model": route.alias,
    }
    data |= {"leaf": leaf.leaf, "says": route.leaves[leaf.leaf].says, "pairs": leaf.pairs}
    data |= {"loss": leaf.loss, "low": leaf.low, "tolerated": leaf.tolerated}
    at = rfc3339(now)
    body = orjson.dumps({"type": "route.leaf_returned", "timestamp": at, "data": data}).decode()
    wanted = [name for name, webhook in webhooks.items() if webhook.wants(watch)]
    return [WebhookDelivery(event, name, watch, body, now, now) for name in wanted]


class RouteWatch:
    """Looks at the leaves of all routes, in one of the consumers."""

    def __init__(self, worker: TaskWorker, config: Config, corridor: Corridor) -> None:
        self._worker, self._store, self._clock = worker, worker.store, worker.clock
        self._routes, self._webhooks = [each.route for each in config.routes.values()], config.webhooks
        self._corridor = corridor
        self._returned: dict[str, frozenset[int]] = {}  # by digest, as of each route's newest look

    def periodic(self) -> PeriodicWork:
        return PeriodicWork(self.look, EVERY_S, "routes are not watched now")

    async def look(self) -> Mapping[str, frozenset[int]] | None:
        """Publishes the leaves that were taken back, by digest. None if another consumer does it."""
        if not await self._worker.leads(_LEASE, 3 * EVERY_S):
            return None
        for route in self._routes:
            work = Work(f"route {route.name}")
            returned = await self._worker.isolated.attempt(work, partial(self._look_at, route))
            if returned is None:  # what was taken back stays so
                returned = self._returned.get(route.digest) or await self._stored(route)
            self._returned[route.digest] = returned
        await self._corridor.state.remember(SHARED_NAME, returned_to_json(self._returned), _KEEP_S)
        return dict(self._returned)

    async def _stored(self, route: LearnedRoute) -> frozenset[int]:
        return await self._store.look(lambda connection: returned_leaves(connection, route.digest))

    async def _look_at(self, route: LearnedRoute) -> frozenset[int]:
        known, leaves = await self._store.look(
            lambda c: (
                returned_leaves(c, route.digest),
                watched_leaves(route, watched_losses(c, watch_name(route.name), str(route.evidence["primary"]))),
            )
        )
        alarms = [each for each in leaves if each.alarm and each.leaf not in known]
        now, all_ = self._clock(), known | {each.leaf for each in alarms}
        for each in alarms:
            log.warning(
                "route %s: leaf %d (%s) is taken back: it loses %.3f, at least %.3f, and %.3f is tolerated",
                *(route.name, each.leaf, route.leaves[each.leaf].says, each.loss, each.low, each.tolerated),
                extra={"pairs": each.pairs, "digest": route.digest},
            )
        if not alarms:
            return known
        notices = [notice for each in alarms for notice in leaf_notices(self._webhooks, route, each, now)]

        def keep(connection: Transaction) -> None:
            keep_returned(connection, route.digest, all_, now)
            add_deliveries(connection, notices)

        await self._store.run(keep)
        return all_


def watch_task(context: TaskContext) -> PeriodicWork | None:
    """The task; None if no target is a learned route."""
    if not context.config.routes:
        return None
    return RouteWatch(context.worker, context.config, context.corridor).periodic()
