"""Usage: what calls have used and cost, summed by day, key, person, team, tags, model, experiment, scorer, … Pure.

A gateway keeps cumulative sums since its start and reports them in its tallies; the store keeps the newest of each
process. Money is counted in whole nano-dollars, so that sums are exact in any order.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from operator import add
from typing import NamedTuple

NANO = 1_000_000_000  # nano-dollars in a US dollar, nanoseconds in a second


class UsageCell(NamedTuple):
    """The dimensions of one sum. A call of a client has a key; a shadow request, an experiment and an arm; a judge's
    call, its key and a scorer. A dimension that does not apply is ""."""

    day: str
    """UTC, as in "2026-11-26": the day on which the calls ended."""
    key_id: str
    key_name: str
    team: str
    organization: str
    tags: str
    """Tags of the key and its team when the calls ended, sorted, with a blank between them."""
    alias: str
    upstream: str
    """Upstream that answered."""
    model: str
    experiment: str
    arm: str
    scorer: str
    person: str = ""
    """Person to whom the key belonged when the calls ended."""


class UsageSums(NamedTuple):
    """Sums over the calls of a cell."""

    calls: int = 0
    unpriced_calls: int = 0
    """Calls whose cost is unknown, because a price is missing; their tokens count, but not in nano_usd."""
    estimated_calls: int = 0
    """Calls whose tokens were estimated, because the upstream did not report them."""
    input_tokens: int = 0
    cached_input_tokens: int = 0
    """A part of the input."""
    output_tokens: int = 0
    reasoning_tokens: int = 0
    """A part of the output."""
    nano_usd: int = 0
    nano_gpu_seconds: int = 0
    tiered_calls: int = 0
    """Calls that went to the cheaper tier, because a budget was nearly used up."""

    def plus(self, other: UsageSums) -> UsageSums:
        return UsageSums(*map(add, self, other))


@dataclass(frozen=True, slots=True)
class UsageCount:
    """The sums of one cell, in a tally."""

    cell: UsageCell
    sums: UsageSums


def nano_gpu_seconds(seconds: float) -> int:
    """Rounded as dollars are."""
    return int(seconds * 1e9 + 0.5)


def nano_usd(usd: float) -> int:
    """Rounded to a whole nano-dollar, as limits do it on the hot path. The cheapest token on the market costs several.
    usd: not negative."""
    return int(usd * 1e9 + 0.5)


def utc_day(now: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(now))


def usage_count(value: dict[str, list[str | int]]) -> UsageCount:
    """Reads a tally's JSON. Members that a newer writer appended are left out. Raises TypeError, KeyError."""
    cell, sums = value["cell"], value["sums"]
    return UsageCount(
        UsageCell(*map(str, cell[: len(UsageCell._fields)])), UsageSums(*map(int, sums[: len(UsageSums._fields)]))
    )
