"""Sums what guards decided by the hour, in one of the consumers, and watches whether hits or scores have changed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial

from gateway.features.guards.hourly.hours import DAY_S, HOUR_S
from gateway.features.guards.hourly.usual_range import (
    READ_S,
    DriftState,
    GuardDrift,
    advanced,
    config_of,
    drift_of,
    drift_sentence,
)
from gateway.features.guards.hourly.usual_range import SETTLED_S as DRIFT_SETTLED_S
from gateway.features.guards.rows import (
    KEPT_S,
    SETTLED_S,
    decided_hours,
    first_decision,
    forget_hours,
    read_times,
    save_watch,
    store_hour,
    stored_hours,
    unsampled_strata,
    watched,
)
from gateway.features.isolation import Work
from gateway.features.labels.rows import OF_GUARD, version_of
from gateway.features.task import PeriodicWork, TaskContext, TaskWorker
from gateway.store.engine import Transaction
from gateway.store.events import DeploymentEvent, add_events
from gateway.store.query import Reading

log = logging.getLogger(__name__)

EVERY_S = 30.0
_SHARE = 0.02  # of the time, that reading decisions may take
_LEASE = "guard hours"
_ARRIVES_S = 2 * DRIFT_SETTLED_S  # after its end, an hour is read again for so long, since its calls arrive
_AT_ONCE = 48  # hours of one guard in one look


class GuardWatch:
    """Keeps the table `guard_hours`, and the drift alarm of each guard."""

    def __init__(self, worker: TaskWorker, guards: Sequence[str]) -> None:
        self._worker, self._store, self._clock = worker, worker.store, worker.clock
        self._guards = guards

    def periodic(self) -> PeriodicWork:
        return PeriodicWork(self.look, EVERY_S, "guards are not watched now", at_most=_SHARE)

    async def look(self) -> list[GuardDrift]:
        """Sums what is new. Returns the alarms that began with this look; none, if another consumer does it."""
        now = self._clock()
        if not await self._worker.leads(_LEASE, 3 * EVERY_S):
            return []
        attempt = self._worker.isolated.attempt
        looks = [await attempt(Work(f"guard {guard}"), partial(self._look_at, guard)) for guard in self._guards]
        began = [found for found in looks if found is not None]
        await self._store.run(lambda c: forget_hours(c, now - KEPT_S))
        return began

    async def _look_at(self, guard: str) -> GuardDrift | None:
        now = self._clock()
        wanted = await self._store.look(lambda c: wanted_hours(c, guard, now))
        for begin in wanted:
            of = (await self._store.look(lambda c, b=begin: decided_hours(c, guard, b, b + HOUR_S))).get(begin, [])  # type: ignore[misc]
            await self._store.run(lambda c, b=begin, of=of: store_hour(c, guard, b, of, now))  # type: ignore[misc]
        if len(wanted) == _AT_ONCE:
            return None  # older hours come with the next looks, and the usual range is theirs
        before, after, unsampled = await self._store.look(lambda c: _watched_at(c, guard, now))
        drift = drift_of(guard, after)
        begins = drift is not None and drift.alarm and (before is None or before.since is None)

        def save(connection: Transaction) -> None:
            save_watch(connection, guard, after, unsampled, now)
            add_events(connection, drift_events([drift] if drift is not None and drift.alarm else []))

        await self._store.run(save)
        if drift is None or not begins:
            return None
        log.warning("guard %s has changed: %s", guard, drift_sentence(drift), extra={"guard": guard})
        return drift


def _watched_at(
    connection: Reading, guard: str, now: float
) -> tuple[DriftState | None, DriftState | None, tuple[str, ...]]:
    """(the drift alarm as it was, as it is now, the strata of which no call was drawn)."""
    before, version = watched(connection, guard)[0], version_of(connection, OF_GUARD + guard)
    if version is None:
        return before, before, ()
    hours = stored_hours(connection, guard, now - READ_S)
    after = advanced(before, config_of(version.version, version.config_hash), hours, now)
    return before, after, unsampled_strata(connection, version, now - DAY_S)


def wanted_hours(connection: Reading, guard: str, now: float) -> list[float]:
    """The hours to be read now, the newest first: those that are not settled, and those that nobody has read. now: Unix
    seconds."""
    first = first_decision(connection, guard)
    if first is None:
        return []
    oldest = max(first, now - KEPT_S) // HOUR_S * HOUR_S
    read_at, newest = read_times(connection, guard, oldest), now // HOUR_S * HOUR_S
    count = int((newest - oldest) // HOUR_S) + 1
    hours = [newest - i * HOUR_S for i in range(count)]
    return [begin for begin in hours if _due(begin, read_at.get(begin), now)][:_AT_ONCE]


def _due(begin: float, read_at: float | None, now: float) -> bool:
    end = begin + HOUR_S
    return read_at is None or read_at < end + _ARRIVES_S or (read_at < end + SETTLED_S <= now)


def drift_events(found: Iterable[GuardDrift]) -> list[DeploymentEvent]:
    """Alarms as lines on charts."""
    return [
        DeploymentEvent(each.id, each.since or 0.0, "guard", each.guard, f"guard {each.guard}: {drift_sentence(each)}")
        for each in found
    ]


def guards_task(context: TaskContext) -> PeriodicWork | None:
    """The task; None if no guard is configured."""
    if not context.config.guards:
        return None
    return GuardWatch(context.worker, tuple(context.config.guards)).periodic()
