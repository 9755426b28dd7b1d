"""Runs child processes: starts them in order, restarts them when they end or hang, stops them in reverse order.

child.py holds a single child. The callers decide which programs run: up/up.py, embedded_redis.py,
features/gateway_choice.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from typing import Self

from gateway.core.backoff import Backoff
from gateway.core.errors import CannotRun
from gateway.runtime.child import Child, Leash, RunningChild
from gateway.runtime.progress import work_done
from gateway.runtime.tasks import Tasks

logger = logging.getLogger(__name__)


class ChildFailed(CannotRun):
    """A child program did not become ready; the message ends with the last lines of its output."""


RESTART_BACKOFF = Backoff(first_s=0.2, most_s=30.0)
HEALTHY_S = 60.0
_TAIL = 5  # last lines of a child's output in the warning about its end
_LEAST_WORK = 5  # by which a start goes on: 0.05 s of CPU time, or pages read
_LOOKS = 6  # at a child, before it counts as hung


class RestartDelay:
    """The delay before a child's next start: longer each time, and reset once the child has run for HEALTHY_S."""

    def __init__(self) -> None:
        self._failures = 0

    def wait_s(self, lived_s: float) -> float:
        self._failures = 1 if lived_s >= HEALTHY_S else self._failures + 1
        return RESTART_BACKOFF.wait_s(self._failures)


class Supervisor:
    """Starts children one after the other, each when the previous one is ready; restarts and stops them."""

    def __init__(self) -> None:
        self._leash: Leash | None = None
        self._running: dict[str, RunningChild] = {}
        self._keepers = Tasks()
        self.restarts = 0
        """The number of times that a child was replaced."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def program(self, name: str) -> RunningChild:
        """The child that runs under that name now; a new one after a restart."""
        return self._running[name]

    async def start(self, child: Child) -> None:
        """Starts a child, returns when it is ready, and keeps it running. Raises ChildFailed."""
        delay = RestartDelay()
        while True:
            started, program = time.monotonic(), self._spawn(child)
            try:
                await _until_ready(program)
                break
            except ChildFailed as failed:
                killed = program.code is not None and program.code < 0
                await program.stop()
                if not (killed and child.replaced_when_killed):
                    raise
                wait_s = delay.wait_s(time.monotonic() - started)
                logger.warning("%s; it restarts in %.1f s", failed, wait_s)
            await asyncio.sleep(wait_s)
            self.restarts += 1
        self._keepers.start(self._keep(child), f"keeper of {child.name}")

    def _spawn(self, child: Child) -> RunningChild:
        if self._leash is None or not self._leash.held:
            self._leash = Leash()
        program = self._running[child.name] = RunningChild(child, self._leash.group)
        return program

    async def _keep(self, child: Child) -> None:
        delay, ready = RestartDelay(), True
        while True:
            started = time.monotonic()
            program = self._running[child.name]
            code = await (program.wait() if child.hung_s is None else _end_of(program, child.hung_s, ready))
            ready = False
            wait_s = delay.wait_s(time.monotonic() - started)
            last = f"; its last lines:\n  {lines}" if code and (lines := "\n  ".join([*program.tail][-_TAIL:])) else ""
            logger.warning("%s ended with %s; it restarts in %.1f s%s", child.name, code, wait_s, last)
            await asyncio.sleep(wait_s)
            self.restarts += 1
            try:
                self._spawn(child)
            except OSError as error:
                logger.error("%s could not be started: %s", child.name, error)

    async def aclose(self, *, together: bool = False) -> None:
        """Stops all children, the last started first; returns when they and their own children have ended.

        together: none waits for another to end.
        """
        await self._keepers.aclose()
        for program in self._running.values() if together else ():
            program.terminate()
        for program in reversed(self._running.values()):
            await program.stop()
        if self._leash:
            self._leash.release()
            self._leash = None


async def _end_of(program: RunningChild, hung_s: float, ready: bool) -> int:
    """The exit code of a child. The child is killed if it was ready and then is not for `hung_s`; a start has no time
    limit. ready: whether it is now."""
    child, answered = program.child, time.monotonic() if ready else math.inf
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(hung_s / _LOOKS):
                return await program.wait()
        if await _is_ready(child, hung_s / _LOOKS):
            answered = time.monotonic()
        elif time.monotonic() - answered >= hung_s:
            logger.error("%s has not answered for %g s and is killed", child.name, hung_s)
            program.kill()
            return await program.wait()


async def _is_ready(child: Child, patience_s: float) -> bool:
    try:
        async with asyncio.timeout(patience_s):
            return await child.ready()
    except (TimeoutError, OSError):
        return False


async def _until_ready(program: RunningChild) -> None:
    child, patience = program.child, StartPatience(program.child.ready_s, time.monotonic())
    while not await child.ready() or program.code is not None:
        output = "" if child.own_output else "\n  ".join(["; its output:", *program.tail])
        if program.code is not None:
            raise ChildFailed(f"{child.name} ended with {program.code} before it was ready{output}")
        if patience.ended(time.monotonic(), work_done(program.pid)):
            raise ChildFailed(f"{child.name} was not ready within {child.ready_s:g} s{output}")
        await asyncio.sleep(0.02)


class StartPatience:
    """The time that a start may take: `ready_s`, and longer for as long as the program works.

    On a busy machine a program gets a part of a core, and its start takes a multiple of the usual time; one that hangs
    does no work. A program that only works ends as well, once it has used up `ready_s` of CPU time.
    """

    def __init__(self, ready_s: float, began: float) -> None:
        """began: monotonic seconds, as all times here."""
        self._ready_s, self._began = ready_s, began
        self._worked_at, self._work = began, 0
        self.waited_s = 0.0

    def ended(self, now: float, work: int | None) -> bool:
        """work: done by the program so far (runtime/progress.py); None where the system does not tell."""
        self.waited_s = now - self._began
        if work is not None and work >= self._work + _LEAST_WORK:
            self._worked_at, self._work = now, work
        spent = work is None or work > self._ready_s * os.sysconf("SC_CLK_TCK")
        return self.waited_s > self._ready_s and (spent or now - self._worked_at > self._ready_s)
