"""Repairs the counters of limits after the stream server has lost its data, from the usage in the store.

Running gateways report the amounts that they have spent themselves. Only the store knows the amounts of those that
ended since the beginning of a window.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from gateway.config.derive import directory_of
from gateway.core.chunked import chunked
from gateway.core.errors import CannotRun, StreamDown
from gateway.core.keys import Directory
from gateway.features.hooks import Figures, Hooks
from gateway.features.task import TaskContext
from gateway.features.usage.rows import SpentFloor, limited_scopes, spent_floors
from gateway.store.query import Reading
from gateway.store.store import QueryMistake, Store, StoreDown
from gateway.stream.leases import LeaseServer
from gateway.stream.shared_state import SharedState

log = logging.getLogger(__name__)

ROUNDS = 6
"""Repairs after a loss, because tallies of the time before it may still have to be read."""
EVERY_S = 5.0
"""Seconds between looks whether the stream server has lost the counters of limits."""
_MARK = "limits-repaired"
_MARK_S = 10 * 366 * 86_400
_AT_ONCE = 100


def limit_hooks(context: TaskContext) -> Hooks:
    counters = LeaseServer(context.corridor.client, context.config.stream.name, "consumer")
    static = directory_of(context.config)
    return Hooks(figures=(looks_of(LimitRepair(context.store, context.corridor.state, counters, static, time.time)),))


def looks_of(repair: LimitRepair) -> Figures:
    """Looks between batches, when tallies that were read are stored; nothing of it is shown."""

    async def look(_: Store) -> None:
        await repair.look()

    return Figures("limits", EVERY_S, look)


class LimitRepair:
    """The repair of one stream server. A mark that is kept there tells whether it has lost its data."""

    def __init__(
        self,
        store: Store,
        state: SharedState,
        counters: LeaseServer,
        static: Directory,
        clock: Callable[[], float],
    ) -> None:
        """static: the keys, teams and organizations of gateway.yaml. clock: Unix seconds."""
        self._store = store
        self._state = state
        self._counters = counters
        self._static = static
        self._clock = clock
        self._failing = False

    async def look(self) -> None:
        """Repairs if the server has lost its data, or has been repaired less than ROUNDS times since. A failed repair
        is tried again at the next look: scoring does not depend on it."""
        try:
            await self._repair()
        except QueryMistake:
            raise
        except (StreamDown, StoreDown, CannotRun) as error:
            if not self._failing:
                log.warning("limits cannot be compared with the usage in the store; tried again: %s", error)
            self._failing = True
        else:
            self._failing = False

    async def _repair(self) -> None:
        mark = await self._state.recall(_MARK)
        done = int(mark) if mark is not None and mark.isdigit() else 0
        if done >= ROUNDS:
            return
        floors = await self._store.look(self._floors)
        for chunk in chunked(floors, _AT_ONCE):
            await asyncio.gather(*(self._counters.raise_spent(f.name, f.amount, f.expires_ms) for f in chunk))
        if floors and not done:
            log.warning("the stream server has no counters of limits: %d count what the store knows", len(floors))
        await self._state.remember(_MARK, str(done + 1), _MARK_S)

    def _floors(self, reading: Reading) -> list[SpentFloor]:
        now = self._clock()
        return spent_floors(reading, limited_scopes(reading, self._static, now), now)
