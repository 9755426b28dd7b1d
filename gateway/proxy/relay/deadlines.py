"""The limits of time of calls: one ticker for all of a process, instead of timers for each call.

Setting, moving and ending a limit is a few assignments. The ticker looks at the calls under way every 10 ms, which is
also how exact a limit is: it passes up to one tick late, never early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

TICK_S = 0.01


class DeadlineExceeded(Exception):
    """A limit of time passed. phase: which one; seconds: how long it was. at_rest: nothing was awaited from an
    upstream, but from the client, which did not read."""

    def __init__(self, phase: str, seconds: float, *, at_rest: bool = False) -> None:
        super().__init__(f"no {phase} within {seconds:g} s")
        self.phase = phase
        self.seconds = seconds
        self.at_rest = at_rest


class TimerEntry(Protocol):
    """What a ticker fires, once the loop's time has reached `at`."""

    at: float

    def fire(self) -> None: ...


class Ticker:
    """Fires what is due. Runs only while something waits; belongs to one event loop."""

    __slots__ = ("_due", "_loop", "_running")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: set[TimerEntry] = set()
        self._running = False

    @property
    def waiting(self) -> int:
        return len(self._due)

    def add(self, due: TimerEntry) -> None:
        self._due.add(due)
        if not self._running:
            self._running = True
            self._loop.call_later(TICK_S, self._tick)

    def remove(self, due: TimerEntry) -> None:
        self._due.discard(due)

    def _tick(self) -> None:
        now = self._loop.time()
        for due in [d for d in self._due if d.at <= now]:
            due.fire()
        self._running = bool(self._due)
        if self._running:
            self._loop.call_later(TICK_S, self._tick)


class Timer:
    """Something that happens once, when the loop's time reaches `at`. Removed from its ticker when it fires."""

    __slots__ = ("_act", "_ticker", "at")

    def __init__(self, ticker: Ticker, at: float, act: Callable[[], None]) -> None:
        self._ticker = ticker
        self._act = act
        self.at = at
        ticker.add(self)

    def fire(self) -> None:
        self._ticker.remove(self)
        self._act()

    def cancel(self) -> None:
        self._ticker.remove(self)


class Deadlines:
    """Cancels the running task when the present phase, or the whole, takes too long.

    Use as a context manager, in the task it is to cancel; task: that one, where its caller knows it. A cancellation of
    its own leaves `passed` set, and whoever catches it calls taken().
    """

    __slots__ = ("_at_rest", "_loop", "_phase", "_seconds", "_task", "_ticker", "_total_at", "_total_s", "at", "passed")

    def __init__(self, total_s: float, ticker: Ticker, task: asyncio.Task[Any] | None = None) -> None:
        task = task or asyncio.current_task()  # which before Python 3.12 costs two system calls
        if task is None:
            raise RuntimeError("a limit needs a running task")
        self._task = task
        self._loop = task.get_loop()
        self._ticker = ticker
        self._total_s = total_s
        self._total_at = self.at = self._loop.time() + total_s
        self._phase = "end of the call"
        self._seconds = total_s
        self._at_rest = True
        self.passed = False

    def phase(self, name: str, seconds: float) -> None:
        """From now on, `name` must come within `seconds`."""
        at = self._loop.time() + seconds
        self._phase, self._seconds, self._at_rest = name, seconds, False
        self.at = at if at < self._total_at else self._total_at

    def pause(self) -> None:
        """No phase runs now; only the whole is limited (the client may be slow, and that is not the upstream's)."""
        self.at = self._total_at
        self._at_rest = True

    def resume(self) -> None:
        """Restarts the current phase with its full time, also after a pause."""
        at = self._loop.time() + self._seconds
        self._at_rest = False
        self.at = at if at < self._total_at else self._total_at

    @property
    def left_s(self) -> float:
        """Seconds left of the whole."""
        return self._total_at - self._loop.time()

    @property
    def spent(self) -> bool:
        """The whole time has passed: nothing may be tried any more."""
        return self._loop.time() >= self._total_at

    def taken(self) -> DeadlineExceeded:
        """Turns the cancellation that this limit caused into an error; call it once, in the handler that caught it.

        The phase's limit may be set again afterwards; the whole does not fire a second time.
        """
        self.passed = False
        self._task.uncancel()
        if self.spent:
            return DeadlineExceeded("end of the call", self._total_s, at_rest=self._at_rest)
        self.at = self._total_at
        self._ticker.add(self)
        return DeadlineExceeded(self._phase, self._seconds)

    def fire(self) -> None:
        """For the ticker."""
        self._ticker.remove(self)
        self.passed = True
        self._task.cancel()

    def __enter__(self) -> Self:
        self._ticker.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticker.remove(self)
