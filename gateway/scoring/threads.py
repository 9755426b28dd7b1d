"""Threads for scorers that may block: heavy ones, and those of other packages.

Each scorer has a thread with an event loop. A thread that does not return is abandoned and replaced, a limited number
of times.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from gateway.core.score import Score, Skipped, Spent

log = logging.getLogger(__name__)
CANCEL_GRACE_S = 0.1  # for calls that are cancelled because their thread is stopped
Scoring = Callable[[], Awaitable[Score | Skipped]]


class ScoringTimeout(Exception):
    """The deadline passed; the call was cancelled, or its thread abandoned."""

    spent: Spent | None = None
    """Cost of the call until then; None if unknown."""
    called: bool = True
    """Whether the call had begun."""


class NoTurn(ScoringTimeout):
    """The deadline passed before the call had its turn."""

    called = False


class ScorerBlocked(Exception):
    """The scorer has too many threads that did not return; it is not called again until one does."""


class ScorerDied(Exception):
    """A call ended with an exception that would end a program (SystemExit, CancelledError, a panic in Rust)."""


class _Thread:
    """An event loop on its own thread, until stop()."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        # A daemon thread: a scorer that hangs must not keep the process alive.
        self.thread = threading.Thread(target=self._run, name=f"scorer {name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.loop.run_forever()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                self.loop.run_until_complete(asyncio.wait(tuple(self._tasks), timeout=CANCEL_GRACE_S))
        finally:
            self.loop.close()

    def stop(self) -> None:
        if not self._stopped:  # a second stop would interrupt the grace period
            self._stopped = True
            self._soon(self.loop.stop)

    def start(self, call: _Call) -> None:
        self._soon(self._start, call)

    def cancel(self, call: _Call) -> None:
        self._soon(call.cancel)

    def _soon(self, do: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and every call on it has ended
            self.loop.call_soon_threadsafe(do, *args)

    def _start(self, call: _Call) -> None:
        if call.ended.set_running_or_notify_cancel():
            call.task = task = self.loop.create_task(call.run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(call.close)


@dataclass(slots=True)
class _Call:
    """One call of a scorer on a thread."""

    scoring: Scoring
    ended: Future[Score | Skipped] = field(default_factory=Future)
    task: asyncio.Task[None] | None = None  # on the thread's loop; None if not started

    async def run(self) -> None:
        try:
            self.ended.set_result(await self.scoring())
        except Exception as error:  # passed on to the caller, which counts it as this scorer's result
            self.ended.set_exception(error)
        except BaseException as error:  # raised here, it would end the thread or look like the caller's cancellation
            self.ended.set_exception(ScorerDied(f"{type(error).__name__}: {error}"))

    def close(self, _: object) -> None:
        if not self.ended.done():  # cancelled before it started
            self.ended.set_exception(ScorerDied("cancelled"))

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


@dataclass(slots=True)
class _Lane:
    """The threads of one scorer."""

    turn: asyncio.Semaphore
    current: _Thread | None = None
    abandoned: list[_Thread] = field(default_factory=list)  # perhaps still running

    def lost(self) -> int:
        if self.abandoned:
            self.abandoned = [t for t in self.abandoned if t.thread.is_alive()]
        return len(self.abandoned)


class ScoringThreads:
    """Calls scorers off the caller's event loop. Built once; close() when the consumer stops.

    max_lost: abandoned threads of one scorer, after which it is blocked. grace_s: the time a cancelled call has to
    end, before its thread is abandoned. concurrency: calls of one scorer at the same time (a heavy scorer has one).
    """

    def __init__(self, max_lost: int = 8, grace_s: float = 0.25, concurrency: int = 16) -> None:
        self._max_lost, self._grace_s, self._concurrency = max_lost, grace_s, concurrency
        self._lanes: dict[str, _Lane] = {}

    def lost(self, name: str) -> int:
        """The number of abandoned threads of this scorer that still run."""
        lane = self._lanes.get(name)
        return lane.lost() if lane is not None else 0

    async def run(
        self, name: str, scoring: Scoring, deadline_s: float, *, heavy: bool, patient: bool = False
    ) -> Score | Skipped:
        """The result of the call. patient: the deadline counts from its turn on, and not from this call.

        Raises the errors of the call, ScoringTimeout at the deadline, ScorerBlocked and ScorerDied.
        """
        lane = self._lanes.setdefault(name, _Lane(asyncio.Semaphore(1 if heavy else self._concurrency)))
        loop = asyncio.get_running_loop()
        ends = loop.time() + deadline_s
        try:
            async with asyncio.timeout_at(None if patient else ends):
                await lane.turn.acquire()
        except TimeoutError:
            raise NoTurn(f"waited {deadline_s:g} s for its turn") from None
        ends = loop.time() + deadline_s if patient else ends
        try:
            return await self._call(name, lane, _Call(scoring), ends)
        except ScoringTimeout:
            raise ScoringTimeout(f"not done after {deadline_s:g} s") from None
        finally:
            lane.turn.release()

    async def _call(self, name: str, lane: _Lane, call: _Call, ends: float) -> Score | Skipped:
        if lane.lost() >= self._max_lost:
            raise ScorerBlocked(f"{lane.lost()} of its threads did not return; repair or remove the scorer")
        lane.current = thread = lane.current or _Thread(name)
        ended = asyncio.wrap_future(call.ended)
        thread.start(call)
        try:
            await asyncio.wait((ended,), timeout=ends - asyncio.get_running_loop().time())
            if ended.done():
                return ended.result()
            thread.cancel(call)
            await asyncio.wait((ended,), timeout=self._grace_s)
            if not ended.done():
                self._abandon(name, lane, thread)
            raise ScoringTimeout
        finally:
            if not ended.cancel():
                ended.exception()  # retrieved, so that asyncio does not report it as never retrieved
            thread.cancel(call)

    def _abandon(self, name: str, lane: _Lane, thread: _Thread) -> None:
        if lane.current is not thread:
            return  # another call has abandoned it already
        lane.current = None
        lane.abandoned.append(thread)
        thread.stop()
        log.warning("scorer %s: a thread did not return and is abandoned (%d so far)", name, len(lane.abandoned))

    def close(self) -> None:
        """Stops every thread, and waits up to grace_s for each."""
        threads = [t for lane in self._lanes.values() for t in (lane.current, *lane.abandoned) if t is not None]
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.thread.join(self._grace_s)
        self._lanes.clear()
