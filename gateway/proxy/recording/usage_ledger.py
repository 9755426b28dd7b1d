"""The usage of one process since it started: cumulative sums by cell, and which of them the next tally reports."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import date, timedelta

from gateway.core.usage import UsageCell, UsageCount, UsageSums, utc_day

MOST_CELLS = 2000
"""Changed cells of one tally at most: encoding 1 000 takes 1.5 ms. The others are in the next tallies."""

_NOTHING = UsageSums()


class UsageLedger:
    """The counts of this process.

    A cell is reported once it has changed. Every cell is also reported again every `again_s`, because the stream server
    may lose what it has acknowledged; those of past days once more, and then they are forgotten.
    """

    def __init__(self, clock: Callable[[], float] = time.time, again_s: float = 300.0, tally_s: float = 1.0) -> None:
        """clock: Unix seconds. tally_s: between two tallies, hence between two calls of due()."""
        self._clock = clock
        self._again_s = again_s
        self._tallies = max(1, round(again_s / max(tally_s, 0.001)))  # in one round
        self._sums: dict[UsageCell, UsageSums] = {}
        self._changed: dict[UsageCell, None] = {}  # in order of change
        self._round: tuple[UsageCell, ...] = ()  # reported again in this round
        self._again: deque[UsageCell] = deque()  # those that still have to be
        self._tally = 0  # of this round
        self._forgotten = ""  # the newest day that was forgotten

    @property
    def day(self) -> str:
        """The current day (UTC). If the clock is set back to a day whose sums were forgotten, the day after it: its own
        sums would begin again at 0, below what was reported."""
        today = utc_day(self._clock())
        if today > self._forgotten:
            return today
        return (date.fromisoformat(self._forgotten) + timedelta(days=1)).isoformat()

    def add(self, cell: UsageCell, sums: UsageSums) -> None:
        self._sums[cell] = self._sums.get(cell, _NOTHING).plus(sums)
        self._changed[cell] = None

    def due(self) -> tuple[UsageCount, ...]:
        """Cells for the next tally: those that have changed, and some that are reported again."""
        cells = dict.fromkeys([*self._changed][:MOST_CELLS])
        cells.update(dict.fromkeys(self._next_again()))
        return self._counts(cells)

    def everything(self) -> tuple[UsageCount, ...]:
        return self._counts(self._sums)

    def acknowledge(self, counts: Iterable[UsageCount]) -> None:
        """The stream server has these. A cell that has changed since then stays due."""
        for count in counts:
            if self._sums.get(count.cell) == count.sums:
                self._changed.pop(count.cell, None)

    def _counts(self, cells: Iterable[UsageCell]) -> tuple[UsageCount, ...]:
        return tuple(UsageCount(cell, self._sums[cell]) for cell in cells if cell in self._sums)

    def _next_again(self) -> list[UsageCell]:
        """An even part of what is left of this round."""
        if self._tally == self._tallies:
            self._forget()
            self._round = tuple(self._sums)
            self._again, self._tally = deque(self._round), 0
        left = self._tallies - self._tally
        self._tally += 1
        return [self._again.popleft() for _ in range(-(-len(self._again) // left))]

    def _forget(self) -> None:
        """Forgets the cells of this round whose day ended so long ago that they have been reported again since."""
        ended = utc_day(self._clock() - 2 * self._again_s - 60)
        for cell in self._round:
            if cell.day < ended and cell not in self._changed and cell in self._sums:
                del self._sums[cell]
                self._forgotten = max(self._forgotten, cell.day)
