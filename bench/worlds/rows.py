"""A row of the table: one world, one truth, the event that is counted, and the bound that its rate must keep."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Side = Literal["at most", "at least", "measured"]


class Run(NamedTuple):
    """One run of a row. event: it happened. size: pairs, units or hours that it took."""

    event: bool
    size: float


@dataclass(frozen=True, slots=True)
class Row:
    """play: (seed, rules) → one run. The seed decides everything that is drawn."""

    name: str
    group: str
    event: str
    """The event that is counted: ships falsely, ships, decided."""
    play: Callable[[int, int], Run]
    side: Side = "measured"
    bound: float = 0.0
    unit: str = "pairs"
    runs: int = 2_000
    rules: tuple[int, ...] = (2, 3)
    """The rules that it can be played with; the bound is that of the newest."""

    def run(self, number: int, rules: int) -> Run:
        """Plays one run. Its seed depends on the row and the run's number alone, so rows err independently."""
        return self.play(self.seed(number), rules)

    def seed(self, number: int) -> int:
        text = f"{self.name}\0{self.event}\0{number}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

    def allows(self, rate: float, runs: int) -> bool:
        """Whether the rate is within the bound, with three standard errors of this many runs at the bound."""
        room = 3 * math.sqrt(self.bound * (1 - self.bound) / runs) if runs else math.inf
        if self.side == "at most":
            return rate <= self.bound + room
        return self.side == "measured" or rate >= self.bound - room
