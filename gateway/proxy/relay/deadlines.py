"""Deadlines of calls: one ticker for all calls of a process, instead of timers for each call.

Setting, moving or ending a deadline takes a few assignments. The ticker looks at the calls in flight every 10 ms (with
10 000 of them, every 110 ms), which is also the resolution: a deadline fires up to one tick late, never early.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

TICK_S = 0.01
_TIMERS_A_TICK = 1000
"""Checking this many timers takes less than 0.1 ms. With more timers, ticks are further apart, so that they always use
less than 1 % of a core."""


class DeadlineExceeded(Exception):
    """`phase` did not come within `seconds`."""

    def __init__(self, phase: str, seconds: float, *, paused: bool = False, total: bool = False) -> None:
        super().__init__(f"no {phase} within {seconds:g} s")
        self.phase = phase
        self.seconds = seconds
        self.paused = paused
        """Whether the gateway waited for the client, which did not read, and not for an upstream."""
        self.total = total
        """The call's total deadline has passed, not the one of a phase."""


class Ticker:
    """Fires deadlines that are due. Runs only while there are some; belongs to one event loop."""

    __slots__ = ("loop", "running", "timers")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.timers: dict[Deadlines, None] = {}
        """Deadlines that have not fired. A dict, because an item is set and deleted without a call."""
        self.running = False
        """Whether a tick is due."""

    def add(self, timer: Deadlines) -> None:
        self.timers[timer] = None
        if not self.running:
            self.running = True
            self.loop.call_later(TICK_S, self._tick)

    def remove(self, timer: Deadlines) -> None:
        self.timers.pop(timer, None)

    def _tick(self) -> None:
        now = self.loop.time()
        for timer in [t for t in self.timers if t.at <= now]:
            timer.fire()
        self.running = bool(self.timers)
        if self.running:
            self.loop.call_later(TICK_S * (1 + len(self.timers) // _TIMERS_A_TICK), self._tick)


class Deadlines:
    """Cancels a task when the current phase, or the call as a whole, takes too long.

    Used as a context manager by the code that runs in `task`. After a cancellation of its own, `fired` is set, and the
    handler that catches the CancelledError calls `take_error()`.
    """

    __slots__ = ("_loop", "_paused", "_phase", "_seconds", "_task", "_ticker", "_total_at", "_total_s", "at", "fired")

    def __init__(self, total_s: float, ticker: Ticker, task: asyncio.Task[Any] | None = None) -> None:
        """task: the task to cancel; None: the current one (which before Python 3.12 costs two system calls)."""
        task = task or asyncio.current_task()
        if task is None:
            raise RuntimeError("Deadlines need a running task to cancel")
        self._task = task
        self._loop = ticker.loop
        self._ticker = ticker
        self._total_s = total_s
        self._total_at = self.at = self._loop.time() + total_s
        self._phase = "end of the call"
        self._seconds = total_s
        self._paused = True
        self.fired = False

    def start_phase(self, name: str, seconds: float) -> None:
        """Starts a phase: `name` must come within `seconds`."""
        at = self._loop.time() + seconds
        self._phase, self._seconds, self._paused = name, seconds, False
        self.at = at if at < self._total_at else self._total_at

    def pause(self) -> None:
        """Suspends the phase: only the total applies. The client may be slow, which is not the upstream's fault."""
        self.at = self._total_at
        self._paused = True

    def resume(self) -> None:
        """Restarts the phase with its full time, also after a pause."""
        at = self._loop.time() + self._seconds
        self._paused = False
        self.at = at if at < self._total_at else self._total_at

    @property
    def remaining_s(self) -> float:
        """Seconds until the total deadline."""
        return self._total_at - self._loop.time()

    @property
    def expired(self) -> bool:
        """The total deadline has passed: nothing more may be attempted."""
        return self._loop.time() >= self._total_at

    def take_error(self) -> DeadlineExceeded:
        """Turns the cancellation by this object into an error. Call it once, in the handler that caught it.

        A new phase may be started afterwards; the total does not fire a second time.
        """
        self.fired = False
        self._task.uncancel()
        if self.expired:
            return DeadlineExceeded("end of the call", self._total_s, paused=self._paused, total=True)
        self.at = self._total_at
        self._ticker.add(self)
        return DeadlineExceeded(self._phase, self._seconds)

    def fire(self) -> None:
        """Called by the ticker."""
        self._ticker.remove(self)
        self.fired = True
        self._task.cancel()

    def __enter__(self) -> Self:
        ticker = self._ticker
        if ticker.running:
            ticker.timers[self] = None
        else:
            ticker.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        timers = self._ticker.timers
        if self in timers:
            del timers[self]
