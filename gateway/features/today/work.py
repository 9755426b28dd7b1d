"""Stores the sums of each hour that is over, in one of the consumers, so that Today knows the usual level."""

from __future__ import annotations

from gateway.features.task import PeriodicWork, TaskContext, TaskWorker
from gateway.features.today.changes import DAYS, HOURS
from gateway.features.today.rows import HOUR_S, hour_sums, store_hour, stored_begins

EVERY_S = 60.0
SETTLED_H = 20
"""Hours after which an hour's scores have arrived. Exchanges are kept for a day at least."""
_SHARE = 0.02  # of the time, that reading hours may take
_LEASE = "hour history"


class HourHistoryKeeper:
    """Stores hours that are missing, the newest first."""

    def __init__(self, worker: TaskWorker, days: int = DAYS) -> None:
        """days: as many are kept."""
        self._worker, self._store, self._clock = worker, worker.store, worker.clock
        self._hours = HOURS * days

    def periodic(self) -> PeriodicWork:
        trouble = "the sums of past hours are not stored now"
        return PeriodicWork(self.store_one, EVERY_S, trouble, pause_s=_pause_s)

    async def store_one(self) -> bool:
        """Stores the newest hour that is missing. False if none is, or another consumer does it."""
        now = self._clock()
        if not await self._worker.leads(_LEASE, 3 * EVERY_S):
            return False
        newest = now // HOUR_S * HOUR_S - HOUR_S * SETTLED_H
        oldest = newest - HOUR_S * self._hours
        there = await self._store.look(lambda c: stored_begins(c, oldest))
        missing = next((b for i in range(self._hours) if (b := newest - HOUR_S * i) not in there), None)
        if missing is None:
            return False
        sums = await self._store.look(lambda c: hour_sums(c, missing))
        await self._store.run(lambda c: store_hour(c, missing, sums, oldest))
        return True


def _pause_s(stored: bool | None, took_s: float) -> float:
    """Seconds until the next hour is stored."""
    return took_s / _SHARE if stored else EVERY_S


def hour_history_task(context: TaskContext) -> PeriodicWork:
    return HourHistoryKeeper(context.worker).periodic()
