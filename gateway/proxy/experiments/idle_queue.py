"""Runs work that no client waits for, in short turns between calls, so that no answer waits long behind it.

A turn starts GATHER_S after the first task was queued, so that several share the cost of waking up, and then as soon as
no call is in flight, at the latest after PATIENCE_S. It lasts TURN_S; the rest waits for the next turn, so that the
event loop can run in between. If more than half of CAPACITY waits, a turn continues until that is no longer so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger(__name__)

GATHER_S = 0.01
PATIENCE_S = 0.03  # if answers take seconds, there is always a call in flight
NEXT_S = 0.001  # a timer lets the loop run first what is ready; most loops have no shorter one
TURN_S = 0.0001
CAPACITY = 256

IdleTask = Callable[[], object]


@dataclass
class IdleQueue:
    """A bounded queue of tasks that run while no call is in flight."""

    busy: Callable[[], bool]
    """Whether a call is in flight."""
    clock: Callable[[], float] = time.monotonic
    call_later: Callable[[float, Callable[[], None]], Any] | None = None
    """None stands for the running loop's."""
    _tasks: deque[tuple[float, IdleTask]] = field(default_factory=deque, init=False)
    _turning: bool = field(default=False, init=False)

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def full(self) -> bool:
        return len(self._tasks) >= CAPACITY

    def later(self, task: IdleTask) -> bool:
        """Queues a task. False if the queue is full, and the task was not taken."""
        if self.full:
            return False
        self._tasks.append((self.clock(), task))
        if len(self._tasks) == 1 and not self._turning:
            self._turn_in(GATHER_S)
        return True

    def do(self, task: IdleTask) -> None:
        """Queues a task that must not be lost; if the queue is full, runs it at once."""
        if not self.later(task):
            _run(task)

    def empty(self) -> None:
        """Runs all queued tasks now, including those that they queue."""
        while self._tasks:
            _run(self._tasks.popleft()[1])

    def _turn_in(self, seconds: float) -> None:
        self._turning = True
        (self.call_later or asyncio.get_running_loop().call_later)(seconds, self._turn)

    def _turn(self) -> None:
        tasks, began = self._tasks, self.clock()
        if tasks and (not self.busy() or began - tasks[0][0] >= PATIENCE_S):
            while tasks and (len(tasks) > CAPACITY // 2 or self.clock() - began < TURN_S):
                _run(tasks.popleft()[1])
        self._turning = False
        if tasks:
            self._turn_in(NEXT_S)


def _run(task: IdleTask) -> None:
    try:
        task()
    except Exception:  # the queue must survive: the other tasks are not at fault
        log.exception("a background task of a call failed; the next one runs")
