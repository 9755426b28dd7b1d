"""The limits of time of one call: one timer, re-armed only when it fires too early."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class LimitPassed(Exception):
    """A limit of time passed. phase: which one; seconds: how long it was."""

    def __init__(self, phase: str, seconds: float) -> None:
        super().__init__(f"no {phase} within {seconds:g} s")
        self.phase = phase
        self.seconds = seconds


class Limit:
    """Cancels the running task when the present phase, or the whole, takes too long.

    Moving the limit is one assignment: the timer is set anew only when it fires and finds that it was moved, or when
    it must fire earlier than it stands. So a stream of a thousand chunks arms a handful of timers.
    Use as a context manager; on the way out a cancellation of its own becomes LimitPassed.
    """

    __slots__ = ("_at", "_handle", "_loop", "_phase", "_seconds", "_task", "_total_at", "_total_s", "passed")

    def __init__(self, total_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a limit needs a running task")
        self._task = task
        self._total_s = total_s
        self._total_at = self._at = self._loop.time() + total_s
        self._phase = "end of the call"
        self._seconds = total_s
        self._handle: asyncio.TimerHandle | None = None
        self.passed = False

    def phase(self, name: str, seconds: float) -> None:
        """From now on, `name` must come within `seconds`."""
        at = self._loop.time() + seconds
        self._phase, self._seconds = name, seconds
        self._at = at if at < self._total_at else self._total_at
        if self._handle is None or self._handle.when() > self._at:
            self._arm()

    def rest(self) -> None:
        """No phase runs now; only the whole is limited (the client may be slow, and that is not the upstream's)."""
        self._at = self._total_at

    @property
    def left_s(self) -> float:
        """Seconds left of the whole."""
        return self._total_at - self._loop.time()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def taken(self) -> LimitPassed:
        """Turns the cancellation that this limit caused into an error; call it once, in the handler that caught it.

        The phase's limit may be set again afterwards.
        """
        self.passed = False
        self._task.uncancel()
        if self._loop.time() >= self._total_at:
            return LimitPassed("end of the call", self._total_s)
        return LimitPassed(self._phase, self._seconds)

    @property
    def spent(self) -> bool:
        """The whole time has passed: nothing may be tried any more."""
        return self._loop.time() >= self._total_at

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_at(self._at, self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self._loop.time() < self._at:
            self._arm()
        else:
            self.passed = True
            self._task.cancel()
