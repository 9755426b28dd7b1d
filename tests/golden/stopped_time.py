"""Time as a recording decides it: the clock stands still, and the work of a consumer takes one step at a time.

`Clock.install` must run before the package is imported, since its functions have the clock as a default.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any

START = 1_790_000_000.0
"""Unix seconds: a Monday, 2026-09-21, 14:13 UTC."""
_LONG_S = 0.9
"""Sleeps that are shorter are those of one step."""


class Clock:
    """Unix time of a recording, in seconds."""

    def __init__(self) -> None:
        self.now = START

    def install(self) -> None:
        time.time = lambda: self.now  # type: ignore[assignment]
        time.time_ns = lambda: int(self.now * 1e9)  # type: ignore[assignment]

    def forward(self, seconds: float) -> float:
        self.now += seconds
        return self.now


class StoppedSleeps:
    """asyncio.sleep in which periodic work stays after each step, until `step` lets it take the next one."""

    def __init__(self) -> None:
        self._sleep = asyncio.sleep
        self._stopped: dict[asyncio.Task[Any], asyncio.Event] = {}

    def install(self) -> None:
        asyncio.sleep = self.sleep  # type: ignore[assignment]

    async def sleep(self, delay: float, result: Any = None) -> Any:
        task = asyncio.current_task()
        if delay < _LONG_S or task is None:
            return await self._sleep(delay, result)
        event = self._stopped[task] = asyncio.Event()
        try:
            await event.wait()
        finally:
            self._stopped.pop(task, None)
        return result

    async def step(self, names: Collection[str]) -> None:
        """Lets the tasks of these names take one step, and waits until it is done."""
        for task, event in list(self._stopped.items()):
            if task.get_name() in names:
                del self._stopped[task]
                event.set()
        await self.settled(names)

    async def settled(self, names: Collection[str]) -> None:
        """Waits until the tasks of these names have taken their step."""
        while any(
            task.get_name() in names and not task.done() and task not in self._stopped for task in asyncio.all_tasks()
        ):
            await self._sleep(0.002)
