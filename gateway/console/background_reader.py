"""Values of the store for pages: one that takes long is read in the background, and kept until it is read again."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.console.errors import StoreAway
from gateway.core.errors import CannotRun
from gateway.runtime.tasks import Tasks
from gateway.store.query import Reading, reading

T = TypeVar("T")
MOST_KEPT = 64
OLDEST_S = 600.0
"""An older value is not given."""
FRESH_S = 2.0


@dataclass(frozen=True, slots=True)
class KeptValue(Generic[T]):
    value: T
    at: float
    """Unix time when reading it began."""
    took_s: float


class BackgroundReader:
    """Values of one process by key. While reading a new value takes long, the old one is given."""

    def __init__(self, tasks: Tasks, fresh_s: float = FRESH_S, patience: float = 10.0) -> None:
        """fresh_s, patience: a value is not read again before it is fresh_s old, nor before it is `patience` times as
        old as reading it took."""
        self._tasks = tasks
        self._fresh_s = fresh_s
        self._patience = patience
        self._kept: OrderedDict[Hashable, KeptValue[Any]] = OrderedDict()
        self._reading: dict[Hashable, asyncio.Task[KeptValue[Any] | CannotRun]] = {}

    async def get(
        self, key: Hashable, store_url: str, read: Callable[[Reading], T], wait_s: float
    ) -> KeptValue[T] | None:
        """The value; None if it is still being read, and no kept value is new enough.

        read: runs in a thread. wait_s: longest wait for a value. Raises StoreAway.
        """
        kept = self._kept.get(key)
        if kept is not None and time.time() - kept.at <= max(self._fresh_s, self._patience * kept.took_s):
            return kept
        if key not in self._reading:
            self._reading[key] = self._tasks.start(self._read(key, store_url, read), "console page")
        usable = kept is not None and time.time() - kept.at <= OLDEST_S
        if usable and kept is not None and kept.took_s > wait_s / 2:
            return kept
        done, _ = await asyncio.wait({task := self._reading[key]}, timeout=wait_s)
        if not done:
            return kept if usable else None
        outcome = task.result()
        if isinstance(outcome, CannotRun):
            raise StoreAway(f"the store cannot be used: {outcome}", retry_after_s=2)
        return outcome

    async def _read(self, key: Hashable, store_url: str, read: Callable[[Reading], T]) -> KeptValue[T] | CannotRun:
        try:
            outcome = await asyncio.to_thread(_read_now, store_url, read)
        except CannotRun as error:
            return error
        finally:
            self._reading.pop(key, None)
        self._kept[key] = outcome
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return outcome


def _read_now(store_url: str, read: Callable[[Reading], T]) -> KeptValue[T]:
    began, started = time.time(), time.perf_counter()
    with reading(store_url) as connection:
        value = read(connection)
    return KeptValue(value, began, time.perf_counter() - started)
