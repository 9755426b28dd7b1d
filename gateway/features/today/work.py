"""Stores the sums of each hour that is over, in one of the consumers, so that Today knows the usual level."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.features.task import TaskContext
from gateway.features.today.changes import DAYS, HOURS
from gateway.features.today.rows import HOUR_S, hour_sums, store_hour, stored_begins
from gateway.store.plans import hold_lease
from gateway.store.store import Store, StoreDown, WriteRejected

log = logging.getLogger(__name__)

EVERY_S = 60.0
SETTLED_H = 20
"""Hours after which an hour's scores have arrived. Exchanges are kept for a day at least."""
_SHARE = 0.02  # of the time, that reading hours may take
_LEASE = "hour history"


class HourHistoryKeeper:
    """Stores hours that are missing, the newest first."""

    def __init__(
        self,
        store: Store,
        holder: str,
        clock: Callable[[], float] = time.time,
        every_s: float = EVERY_S,
        days: int = DAYS,
    ) -> None:
        """holder: this consumer's name. clock: Unix seconds. days: as many are kept."""
        self._store = store
        self._holder = holder
        self._clock = clock
        self._every_s = every_s
        self._hours = HOURS * days

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            began, stored = time.monotonic(), False
            try:
                stored = await self.store_one()
            except (StoreDown, WriteRejected) as error:
                log.warning("the sums of past hours are not stored now; tried again in %g s: %s", self._every_s, error)
            took_s = time.monotonic() - began
            await asyncio.sleep(took_s / _SHARE if stored else self._every_s)

    async def store_one(self) -> bool:
        """Stores the newest hour that is missing. False: none is, or another consumer does it."""
        now = self._clock()
        if not await self._store.run(lambda c: hold_lease(c, _LEASE, self._holder, now, 3 * self._every_s)):
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


def hour_history_task(context: TaskContext) -> Coroutine[Any, Any, None]:
    return HourHistoryKeeper(context.store, context.name).run()
