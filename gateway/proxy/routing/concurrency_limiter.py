"""The concurrency limiter of one upstream, and the queue of the attempts that wait for it. No I/O."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

from gateway.core.errors import Overloaded

Turn = asyncio.Future[bool]
"""The result of a wait. True: the attempt may start; False: it gave way to a key with fewer waiting calls."""

_Line = OrderedDict[str, deque[Turn]]


class FairQueue:
    """Waiting attempts, by key. Background keys (shadow requests, judges) are served when no caller waits."""

    __slots__ = ("_background", "_callers")

    def __init__(self) -> None:
        self._callers: _Line = OrderedDict()  # in the order of their next turns; no key without an attempt
        self._background: _Line = OrderedDict()

    def push(self, key: str, turn: Turn, *, background: bool = False) -> None:
        self._line(background).setdefault(key, deque()).append(turn)

    def pop(self) -> Turn:
        """The attempt whose turn it is. Its key's next one follows after one of each other key. Raises KeyError when
        the queue is empty."""
        line = self._callers or self._background
        key, turns = line.popitem(last=False)
        turn = turns.popleft()
        if turns:
            line[key] = turns
        return turn

    def remove(self, key: str, turn: Turn, *, background: bool = False) -> bool:
        """Whether the attempt was still waiting."""
        line = self._line(background)
        turns = line.get(key)
        if turns is None or turn not in turns:
            return False
        turns.remove(turn)
        if not turns:
            del line[key]
        return True

    def pop_for(self, key: str, *, background: bool = False) -> Turn | None:
        """Removes the attempt that gives way to a new one of this key: the newest of the key with the most waiting.

        Background attempts give way first. None: it is the new one that must go, since its key would have as many
        waiting as any other key has.
        """
        line = self._background if self._background and not background else self._line(background)
        longest = max(line, key=lambda each: len(line[each]), default=None)
        if longest is None:
            return None
        turns = line[longest]
        if line is self._line(background) and len(turns) <= len(line.get(key, ())) + 1:
            return None
        turn = turns.pop()
        if not turns:
            del line[longest]
        return turn

    def _line(self, background: bool) -> _Line:
        return self._background if background else self._callers


class ConcurrencyLimiter:
    """Limits the attempts in flight at an upstream. Further ones wait in a queue that serves its keys in turn."""

    __slots__ = ("_limit", "_queue", "_turns", "_wait_s", "in_flight", "limited", "waiting")

    def __init__(self, limit: int | None, queue: int, wait_s: float) -> None:
        """limit: attempts in flight; None: no limit. queue: attempts that may wait. wait_s: how long each may wait."""
        self.in_flight = 0
        self.waiting = 0
        self.limited = limit is not None
        self._limit = limit
        self._queue = queue
        self._wait_s = wait_s
        self._turns = FairQueue()

    @property
    def free(self) -> bool:
        return self._limit is None or (self.in_flight < self._limit and not self.waiting)

    def can_admit(self, n: int) -> bool:
        """Whether n more attempts could start at once, with none waiting before them."""
        return self._limit is None or (self.in_flight + n <= self._limit and not self.waiting)

    async def acquire(self, key: str = "", *, background: bool = False) -> None:
        """Waits for the key's turn. background: behind all other attempts.

        Raises Overloaded if the queue is full, if the wait takes too long, or if the attempt gives way to a key that
        has fewer waiting.
        """
        if self.free:
            self.in_flight += 1
            return
        if self.waiting >= self._queue:
            self._make_room(key, background)
        turn: Turn = asyncio.get_running_loop().create_future()
        self._turns.push(key, turn, background=background)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                admitted = await turn
        except TimeoutError:
            self._give_up(key, turn, background)
            message = f"the upstream is full: still {self._limit} in flight within {self._wait_s:g} s"
            raise Overloaded(message, retry_after_s=1) from None
        except asyncio.CancelledError:
            self._give_up(key, turn, background)
            raise
        if not admitted:
            raise self._full()

    def release(self) -> None:
        """Ends an attempt; the one whose turn it is starts."""
        while self.waiting:
            turn = self._turns.pop()
            self.waiting -= 1
            if not turn.done():
                turn.set_result(True)
                return
        self.in_flight -= 1

    def _make_room(self, key: str, background: bool) -> None:
        """Refuses the newest attempt of the key with the most waiting: another key's, or else this one."""
        given_way = self._turns.pop_for(key, background=background)
        if given_way is None:
            raise self._full()
        self.waiting -= 1
        if not given_way.done():
            given_way.set_result(False)

    def _full(self) -> Overloaded:
        return Overloaded(f"the upstream is full: {self._limit} in flight, {self._queue} waiting", retry_after_s=1)

    def _give_up(self, key: str, turn: Turn, background: bool) -> None:
        if turn.done() and not turn.cancelled():
            if turn.result():
                self.release()  # it was admitted in the same moment
        elif self._turns.remove(key, turn, background=background):
            self.waiting -= 1
