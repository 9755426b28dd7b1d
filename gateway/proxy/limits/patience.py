"""The time that a call may still wait for the stream server, as the event loop has it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

_TURN_S = 0.0025
_LAST_PASSES = 20
"""Passes of the loop after the last turn: half a millisecond, unless the loop is behind."""
_STALLED = 3
"""Turns that one takes at least if the loop, or the whole process, could not run meanwhile."""


class Patience:
    """A wait that counts in turns of 2.5 ms. A turn in which the loop, or the whole process, did not run counts as one,
    however long it was: an answer that lies in the socket is not late, and the call could not have gone on anyway.
    """

    __slots__ = ("_clock", "left_s")

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds."""
        self.left_s = seconds
        self._clock = clock

    async def wait(self, event: asyncio.Future[Any]) -> bool:
        """Whether the event happens within what is left. Does not cancel it."""
        while not event.done() and self.left_s > 1e-6:
            turn_s, began = min(_TURN_S, self.left_s), self._clock()
            await asyncio.wait((event,), timeout=turn_s)
            took_s = self._clock() - began
            self.left_s -= took_s if turn_s < took_s < _STALLED * _TURN_S else turn_s
        for _ in range(_LAST_PASSES):  # an answer that has arrived takes some to be read
            if event.done():
                break
            await asyncio.sleep(0)
        return event.done()
