"""The queue of one upstream, served round-robin by key: no key's calls wait for all those of another. No I/O."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

Turn = asyncio.Future[bool]
"""What a waiting attempt awaits. True: it may start; False: it gave way to a key with fewer waiting calls."""

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
