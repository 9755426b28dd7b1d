"""Asyncio tasks that are held until they end. The only module that calls asyncio.create_task."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Tasks:
    """Holds tasks until they end: the event loop keeps only weak references, so an unreferenced task may vanish.

    A task that fails is logged and dropped. `aclose` cancels the tasks that still run and waits for them to end.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def start(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(coroutine, name=name)  # noqa: TID251 - the one place
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def repeat(self, look: Callable[[], Awaitable[None]], every_s: float, name: str) -> None:
        """Calls `look` now and again, `every_s` after the end of each call, until the tasks are closed."""
        self.start(_repeat(look, every_s), name)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task %s failed", task.get_name(), exc_info=error)

    async def aclose(self) -> None:
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _repeat(look: Callable[[], Awaitable[None]], every_s: float) -> None:
    while True:
        await look()
        await asyncio.sleep(every_s)


def cancel_on_signal(task: asyncio.Task[Any]) -> None:
    """Cancels the task at the first SIGINT or SIGTERM, so that its contexts close in order; a second one kills."""
    _listen(task.cancel)


@contextmanager
def on_first_signal(act: Callable[[], object]) -> Iterator[None]:
    """Calls `act` at the first SIGINT or SIGTERM within the context; a second one kills the process."""
    release = _listen(act)
    try:
        yield
    finally:
        release()


def _listen(act: Callable[[], object]) -> Callable[[], None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def release() -> None:
        for each in signals:
            loop.remove_signal_handler(each)

    def first() -> None:
        release()
        act()

    for each in signals:
        loop.add_signal_handler(each, first)
    return release
