"""Counts the origins of the answers of each hour that is over, in one of the consumers, and stores an event for each
new one. Nothing of it is on the path of a request, and each stored call is read once."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from gateway.features.models.origins import KEPT_H, NewValue, new_values
from gateway.features.models.rows import (
    HOUR_S,
    hour_counts,
    newest_stored_hour,
    received_bounds,
    store_counts,
    stored_counts,
)
from gateway.features.task import PeriodicWork, TaskContext, TaskWorker
from gateway.reports import number_format as say
from gateway.store.engine import Transaction
from gateway.store.events import DeploymentEvent, add_events
from gateway.store.query import Reading

EVERY_S = 60.0
SETTLED_S = 300.0
"""Seconds after an hour until its calls are stored, while the consumer keeps up."""
LATEST_S = 20 * 3600.0
"""Seconds after an hour at which it is counted in any case."""
_SHARE = 0.02  # of the time, that counting may take
_LEASE = "model hours"
_MOST = 80  # characters of a value in a text
_NAMES = {"model": "model returned", "fingerprint": "fingerprint"}


class ModelHourKeeper:
    """Counts hours in their order, from the oldest that is not counted yet."""

    def __init__(self, worker: TaskWorker) -> None:
        self._worker, self._store, self._clock = worker, worker.store, worker.clock

    def periodic(self) -> PeriodicWork:
        trouble = "the models behind names are not watched now"
        return PeriodicWork(self.count_next, EVERY_S, trouble, pause_s=pause_s)

    async def count_next(self) -> bool:
        """Counts one hour. False if none is due, or another consumer does it."""
        if not await self._worker.leads(_LEASE, 3 * EVERY_S):
            return False
        now = self._clock()
        hour = await self._store.look(lambda connection: due_hour(connection, newest_stored_hour(connection), now))
        if hour is None:
            return False
        counts = await self._store.look(lambda connection: hour_counts(connection, hour))

        def store(connection: Transaction) -> None:
            store_counts(connection, hour, counts, hour - KEPT_H)
            add_events(connection, list(_events(connection, hour)) if counts else [])

        await self._store.run(store)
        return True


def due_hour(connection: Reading, stored: int | None, now: float) -> int | None:
    """The first hour after the newest stored one, once its calls are stored; None if there is none."""
    bounds = received_bounds(connection)
    if bounds is None:
        return None
    oldest, newest = bounds
    first = max(int(oldest // HOUR_S), int(now // HOUR_S) - KEPT_H)
    hour = first if stored is None else max(first, stored + 1)
    settled_at = (hour + 1) * HOUR_S + SETTLED_S
    settled = now >= settled_at and (newest >= settled_at or now >= settled_at + LATEST_S)
    return hour if settled else None


def _events(connection: Reading, hour: int) -> Iterator[DeploymentEvent]:
    history = stored_counts(connection, hour - KEPT_H)
    return (model_event(found) for found in new_values(history, hour))


def model_event(found: NewValue) -> DeploymentEvent:
    series = found.series
    subject = f"{series.alias} {series.target}"
    digest = sha256("\0".join((*series, found.value)).encode()).hexdigest()[:16]
    before = f", before {found.before[:_MOST]}" if found.before else ""
    name = f"{_NAMES[series.kind]} {found.value[:_MOST]}{before}"
    text = f"{series.alias}, {series.target}: {name}; {say.share(found.share)} of a day's calls"
    at = float((found.hour + 1) * HOUR_S)
    return DeploymentEvent(f"model:{series.kind}:{digest}:{found.first_hour}", at, "model", subject, text)


def pause_s(counted: bool | None, took_s: float) -> float:
    """Seconds until the next hour is counted."""
    return took_s / _SHARE if counted else EVERY_S


def model_hours_task(context: TaskContext) -> PeriodicWork:
    return ModelHourKeeper(context.worker).periodic()
