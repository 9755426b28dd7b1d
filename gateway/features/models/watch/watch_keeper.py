"""Takes each hour that is over into the watches of all targets, in one of the consumers, and stores an event for each
change. Nothing of it is on the path of a request, and each stored call is read once."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from gateway.features.models.rows import (
    HOUR_S,
    forget_watches,
    newest_watched_hour,
    store_watch,
    store_watch_hour,
    stored_watch_hours,
    stored_watches,
    watched_calls,
)
from gateway.features.models.watch.cells import BASELINE_H
from gateway.features.models.watch.hourly_calls import HourOfTarget, TargetKey, hours_of_targets
from gateway.features.models.watch.monitor import WatchErrors
from gateway.features.models.watch.sentences import change_text
from gateway.features.models.watch.target_watch import (
    ModelChange,
    TargetWatch,
    advanced,
    watch_from_json,
    watch_to_json,
)
from gateway.features.models.work import EVERY_S, due_hour, pause_s
from gateway.features.task import PeriodicWork, TaskContext, TaskWorker
from gateway.store.engine import Transaction
from gateway.store.events import DeploymentEvent, add_events
from gateway.store.query import Reading

_LEASE = "model watch"
_NOBODY = TargetKey("", "", "")
Advanced = dict[TargetKey, tuple[HourOfTarget, TargetWatch, ModelChange | None]]


class WatchKeeper:
    """Takes hours in their order, from the oldest stored call on."""

    def __init__(self, worker: TaskWorker) -> None:
        self._worker, self._store, self._clock = worker, worker.store, worker.clock

    def periodic(self) -> PeriodicWork:
        return PeriodicWork(self.take_next, EVERY_S, "models are not watched now", pause_s=pause_s)

    async def take_next(self) -> bool:
        """Takes one hour. False if none is due, or another consumer does it."""
        if not await self._worker.leads(_LEASE, 3 * EVERY_S):
            return False
        now = self._clock()
        hour = await self._store.look(lambda connection: due_hour(connection, newest_watched_hour(connection), now))
        if hour is None:
            return False
        found = await self._store.look(lambda connection: _advanced(connection, hour))

        def store(connection: Transaction) -> None:
            stored = newest_watched_hour(connection)
            if stored is None or stored < hour:
                _store(connection, hour, found)

        await self._store.run(store)
        return True


def _advanced(connection: Reading, hour: int) -> Advanced:
    hours = hours_of_targets(hour, watched_calls(connection, hour))
    states = {target: watch_from_json(text) for target, text in stored_watches(connection).items()}
    errors = _shared_errors({**dict.fromkeys(hours, TargetWatch(hour)), **states})
    found: Advanced = {}
    for target, newest in hours.items():
        earlier = stored_watch_hours(connection, target, hour - BASELINE_H + 1)
        state, change = advanced(states.get(target), [*earlier, newest], errors)
        found[target] = newest, state, change
    return found


def _shared_errors(states: Mapping[TargetKey, TargetWatch]) -> WatchErrors:
    return WatchErrors(len(states), sum(len(state.series) for state in states.values()))


def _store(connection: Transaction, hour: int, found: Advanced) -> None:
    for target, (newest, state, change) in found.items():
        store_watch_hour(connection, target, newest)
        store_watch(connection, target, hour, watch_to_json(state))
        if change is not None:
            add_events(connection, [change_event(target, change)])
    store_watch(connection, _NOBODY, hour, "{}")
    forget_watches(connection, hour - BASELINE_H + 1)


def change_event(target: TargetKey, change: ModelChange) -> DeploymentEvent:
    subject = f"{target.alias} {target.target}"
    digest = sha256("\0".join(target).encode()).hexdigest()[:16]
    text = f"{target.alias}, {target.target}: {change_text(change)}"
    return DeploymentEvent(
        f"model:watch:{digest}:{change.hour}", float((change.hour + 1) * HOUR_S), "model", subject, text
    )


def model_watch_task(context: TaskContext) -> PeriodicWork:
    return WatchKeeper(context.worker).periodic()
