"""Watches the leaves of the routes that serve: a share of the moved calls is also sent to the control, and a leaf that
is shown to lose too much is taken back.

watch/alarm.py has the rule. A leaf that was taken back stays so, for this content of the route.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
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
from gateway.features.route.rows import watched_pairs
from gateway.features.route.watch.alarm import WatchedLeaf, watched_leaves
from gateway.features.task import PeriodicWork, TaskContext, TaskWorker
from gateway.reports.number_format import rfc3339
from gateway.store.engine import Transaction
from gateway.store.query import Reading
from gateway.store.sequences import save, states
from gateway.stream import Corridor

log = logging.getLogger(__name__)

EVERY_S = 30.0
_LEASE = "routes"
_KEEP_S = 7 * 86_400  # gateways go on with what they know


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
                watched_leaves(route, watched_pairs(c, watch_name(route.name), str(route.evidence["primary"]))),
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
