"""Threads for scorers that may hold one up: heavy ones, and those of other packages. Each has a thread and an event
loop of its own; one that never comes back is left behind and replaced, up to a number of times.
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
LAST_WORDS_S = 0.1  # for calls that are cancelled because their thread is stopped
Scoring = Callable[[], Awaitable[Score | Skipped]]


class ScoringTimeout(Exception):
    """The deadline passed; the call was cancelled or left behind. spent: what it had cost by then; None: not known."""

    spent: Spent | None = None


class ScorerBlocked(Exception):
    """Too many threads of this scorer never came back; it is asked no more until one does."""


class ScorerDied(Exception):
    """A scoring ended with something that would end a program (SystemExit, CancelledError, a panic in Rust)."""


class _Thread:
    """An event loop that runs on a thread of its own until it is told to stop."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        # A daemon: a scorer that hangs must not keep the process from ending.
        self.thread = threading.Thread(target=self._run, name=f"scorer {name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.loop.run_forever()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                self.loop.run_until_complete(asyncio.wait(tuple(self._tasks), timeout=LAST_WORDS_S))
        finally:
            self.loop.close()

    def stop(self) -> None:
        if not self._stopped:  # a second time, it would cut off the last words
            self._stopped = True
            self._soon(self.loop.stop)

    def start(self, call: _Call) -> None:
        self._soon(self._start, call)

    def cancel(self, call: _Call) -> None:
        self._soon(call.cancel)

    def _soon(self, do: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended already, and everything on it
            self.loop.call_soon_threadsafe(do, *args)

    def _start(self, call: _Call) -> None:
        if call.ended.set_running_or_notify_cancel():
            call.task = task = self.loop.create_task(call.run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(call.close)


@dataclass(slots=True)
class _Call:
    """One scoring on its way to a thread and back."""

    scoring: Scoring
    ended: Future[Score | Skipped] = field(default_factory=Future)
    task: asyncio.Task[None] | None = None  # of the thread's loop; None: not begun

    async def run(self) -> None:
        try:
            self.ended.set_result(await self.scoring())
        except Exception as error:
            self.ended.set_exception(error)
        except BaseException as error:  # raised on, it would end the thread, or look like the caller's own cancellation
            self.ended.set_exception(ScorerDied(f"{type(error).__name__}: {error}"))

    def close(self, _: object) -> None:
        if not self.ended.done():  # cancelled before it began
            self.ended.set_exception(ScorerDied("cancelled"))

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


@dataclass(slots=True)
class _Lane:
    """What one scorer has: a turn, as many at once as it may have, and its threads."""

    turn: asyncio.Semaphore
    now: _Thread | None = None
    left: list[_Thread] = field(default_factory=list)  # behind, and perhaps still running

    def lost(self) -> int:
        if self.left:
            self.left = [t for t in self.left if t.thread.is_alive()]
        return len(self.left)


class ScoringThreads:
    """Runs scorings off the caller's event loop. Built once; close() when the consumer stops.

    most_lost: threads of one scorer that may be left behind before it is blocked. grace_s: how long a call has to end
    after it was cancelled; a thread that cannot even do that is left behind. at_once: calls of one scorer that wait
    for something (a heavy scorer computes, and has one).
    """

    def __init__(self, most_lost: int = 8, grace_s: float = 0.25, at_once: int = 16) -> None:
        self._most_lost, self._grace_s, self._at_once = most_lost, grace_s, at_once
        self._lanes: dict[str, _Lane] = {}

    def lost(self, name: str) -> int:
        """How many threads of this scorer have not come back."""
        lane = self._lanes.get(name)
        return lane.lost() if lane is not None else 0

    async def run(self, name: str, scoring: Scoring, deadline_s: float, *, heavy: bool) -> Score | Skipped:
        """What the scoring says. Raises what it raises, Late at the deadline, Blocked and Died."""
        lane = self._lanes.setdefault(name, _Lane(asyncio.Semaphore(1 if heavy else self._at_once)))
        ends = asyncio.get_running_loop().time() + deadline_s
        try:
            async with asyncio.timeout_at(ends):
                await lane.turn.acquire()
        except TimeoutError:
            raise ScoringTimeout(f"waited {deadline_s:g} s for its turn") from None
        try:
            return await self._call(name, lane, _Call(scoring), ends)
        except ScoringTimeout:
            raise ScoringTimeout(f"not done after {deadline_s:g} s") from None
        finally:
            lane.turn.release()

    async def _call(self, name: str, lane: _Lane, call: _Call, ends: float) -> Score | Skipped:
        if lane.lost() >= self._most_lost:
            raise ScorerBlocked(f"{lane.lost()} of its threads never came back; repair or remove the scorer")
        lane.now = thread = lane.now or _Thread(name)
        ended = asyncio.wrap_future(call.ended)
        thread.start(call)
        try:
            await asyncio.wait((ended,), timeout=ends - asyncio.get_running_loop().time())
            if ended.done():
                return ended.result()
            thread.cancel(call)
            await asyncio.wait((ended,), timeout=self._grace_s)
            if not ended.done():
                self._leave(name, lane, thread)
            raise ScoringTimeout
        finally:
            if not ended.cancel():
                ended.exception()  # looked at, so that asyncio does not complain of an error nobody saw
            thread.cancel(call)

    def _leave(self, name: str, lane: _Lane, thread: _Thread) -> None:
        if lane.now is not thread:
            return  # another call has said so already
        lane.now = None
        lane.left.append(thread)
        thread.stop()
        log.warning("scorer %s: a thread did not come back and is left behind (%d now)", name, len(lane.left))

    def close(self) -> None:
        """Stops every thread that can be stopped, and waits a moment for it."""
        threads = [t for lane in self._lanes.values() for t in (lane.now, *lane.left) if t is not None]
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.thread.join(self._grace_s)
        self._lanes.clear()
