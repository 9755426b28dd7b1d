"""Limits the spending of one scorer in a UTC day, summed over all consumers. The sums are kept in the stream server.

The mean cost of a call is reserved before the call and corrected after it, so that concurrent calls cannot together
exceed the budget by more than their costs differ from the mean.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.core.usage import utc_day
from gateway.scoring.types import OverBudget

TTL_S = 3 * 86_400  # of a day's sums in the stream server


def ledger_key(day: str) -> str:
    """The name of a day's sums in the stream server; its fields are "<scorer>:usd" and "<scorer>:tokens"."""
    return f"spent:{day}"


def ledger_key_at(now: float) -> str:
    """Returns the key of the ledger for the day of a Unix time."""
    return ledger_key(utc_day(now))


class BudgetLedger(Protocol):
    """The place where sums are kept, as gateway.stream.Corridor is."""

    async def add(self, name: str, amounts: Mapping[str, float], keep_s: int | None = None) -> dict[str, float]:
        """Adds to named sums and returns them. Raises StreamDown."""


class InMemoryLedger:
    """A ledger within one process, for commands that score without a stream server."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str], float] = {}

    async def add(self, name: str, amounts: Mapping[str, float], keep_s: int | None = None) -> dict[str, float]:
        for field, amount in amounts.items():
            self.sums[name, field] = self.sums.get((name, field), 0.0) + amount
        return {field: self.sums[name, field] for field in amounts}


@dataclass(frozen=True, slots=True)
class Reservation:
    """The amount reserved for one call."""

    day: str
    usd: float
    tokens: int


class ScorerBudget:
    """Sets the limits per day, if any; `clock` tells Unix time in seconds."""

    def __init__(
        self,
        scorer: str,
        usd: float | None,
        tokens: int | None,
        ledger: BudgetLedger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.usd, self.tokens = usd, tokens
        self._scorer, self._ledger, self._clock = scorer, ledger, clock
        self._calls, self._usd_so_far, self._tokens_so_far = 0, 0.0, 0

    async def reserve(self) -> Reservation:
        """Reserves the mean cost of a call. Raises OverBudget when the rest of today's budget is smaller."""
        day = utc_day(self._clock())
        calls = max(1, self._calls)
        reserved = Reservation(day, self._usd_so_far / calls, round(self._tokens_so_far / calls))
        usd, tokens = await self._add(day, reserved.usd, reserved.tokens)
        over = self._over(usd, tokens, reserved)
        if over is not None:
            await self._add(day, -reserved.usd, -reserved.tokens)
            raise OverBudget(over)
        return reserved

    async def correct(self, reserved: Reservation, usd: float | None, tokens: int | None) -> None:
        """Replaces a reservation by the actual cost; None if unknown, and the reservation stays."""
        usd = reserved.usd if usd is None else usd
        tokens = reserved.tokens if tokens is None else tokens
        self._calls, self._usd_so_far = self._calls + 1, self._usd_so_far + usd
        self._tokens_so_far += tokens
        if (usd, tokens) != (reserved.usd, reserved.tokens):
            await self._add(reserved.day, usd - reserved.usd, tokens - reserved.tokens)

    async def _add(self, day: str, usd: float, tokens: int) -> tuple[float, int]:
        names = f"{self._scorer}:usd", f"{self._scorer}:tokens"
        sums = await self._ledger.add(ledger_key(day), dict(zip(names, (usd, tokens), strict=True)), TTL_S)
        return sums[names[0]], round(sums[names[1]])

    def _over(self, usd: float, tokens: int, reserved: Reservation) -> str | None:
        """Reason why the reservation exceeds the budget; None if it does not."""
        if self.usd is not None and (usd - reserved.usd >= self.usd or usd > self.usd):
            return f"budget_usd: {usd - reserved.usd:.4g} of today's {self.usd:g} USD are spent"
        if self.tokens is not None and (tokens - reserved.tokens >= self.tokens or tokens > self.tokens):
            return f"budget_tokens: {tokens - reserved.tokens} of today's {self.tokens} tokens are spent"
        return None
