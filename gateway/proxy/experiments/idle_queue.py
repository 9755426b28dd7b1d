"""Turns for work that nobody waits for: between calls, and short, so that no answer waits long behind it.

A turn begins GATHER_S after the first piece came, so that several share the cost of waking up, and once no call is
under way, at the latest after PATIENCE_S. It lasts TURN_S; what is left then has the next one, after whatever the loop
had to do meanwhile. A queue that is half full goes on until it is not; it holds at most ROOM.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

GATHER_S = 0.01
PATIENCE_S = 0.03  # where answers take seconds, a call is always under way
NEXT_S = 0.001  # a timer: the loop takes what is ready first, and the timers of most loops know nothing shorter
TURN_S = 0.0001
ROOM = 256

Piece = Callable[[], object]


class IdleQueue:
    """busy: whether a call is under way. clock: monotonic seconds. call_later: None: the running loop's."""

    def __init__(
        self,
        busy: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        call_later: Callable[[float, Callable[[], None]], Any] | None = None,
    ) -> None:
        self._busy = busy
        self._clock = clock
        self._call_later = call_later
        self._pieces: deque[tuple[float, Piece]] = deque()
        self._turning = False

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def full(self) -> bool:
        return len(self._pieces) >= ROOM

    def later(self, piece: Piece) -> bool:
        """Whether it is taken; a full queue takes none."""
        if self.full:
            return False
        self._pieces.append((self._clock(), piece))
        if len(self._pieces) == 1 and not self._turning:
            self._turn_in(GATHER_S)
        return True

    def do(self, piece: Piece) -> None:
        """For what must be done: at once where there is no room."""
        if not self.later(piece):
            _run(piece)

    def empty(self) -> None:
        """Everything that waits is done now, with what it puts here meanwhile."""
        while self._pieces:
            _run(self._pieces.popleft()[1])

    def _turn_in(self, seconds: float) -> None:
        self._turning = True
        (self._call_later or asyncio.get_running_loop().call_later)(seconds, self._turn)

    def _turn(self) -> None:
        pieces, began = self._pieces, self._clock()
        if pieces and (not self._busy() or began - pieces[0][0] >= PATIENCE_S):
            while pieces and (len(pieces) > ROOM // 2 or self._clock() - began < TURN_S):
                _run(pieces.popleft()[1])
        self._turning = False
        if pieces:
            self._turn_in(NEXT_S)


def _run(piece: Piece) -> None:
    try:
        piece()
    except Exception:  # the next one is not at fault
        log.exception("work beside the calls failed")
