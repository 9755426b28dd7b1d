"""The hours of the day that a ramp has served, and those that its step to all traffic still waits for. Pure.

A proof on served answers says nothing about hours in which the candidate has not served: one that fails for six hours a
day looks harmless in the other eighteen. So both arms have to have served in each hour of the day with calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.ramp import DAY_S
from gateway.ramps.blocks import ServedBlock

LOOKED_BACK_S = 7 * DAY_S  # in which calls count
_FEWEST_QUARTERS = 4  # with calls, from which an hour of the day has traffic
_QUARTERS_AN_HOUR = 4
_HOURS = 24
_RANGE_FROM = 4  # hours between the first and the last of a row that is written as a range


@dataclass(frozen=True, slots=True)
class ServedHours:
    """Hours of the day, UTC, in order."""

    wanted: tuple[int, ...]
    """Those in which the alias has had calls."""
    seen: tuple[int, ...]
    """Those of them in which both arms served."""

    @property
    def missing(self) -> tuple[int, ...]:
        return tuple(hour for hour in self.wanted if hour not in self.seen)

    @property
    def without_calls(self) -> tuple[int, ...]:
        return tuple(hour for hour in range(_HOURS) if hour not in self.wanted)

    def waits(self) -> str:
        return f"waits for served {named_hours(self.missing)} UTC ({len(self.seen)} of {len(self.wanted)} h seen)"

    def unknown(self) -> str:
        """The hours that nothing is known of; "" if there are none."""
        quiet = self.without_calls
        return f"the last 7 days had no traffic in {named_hours(quiet)} UTC, which no answer shows" if quiet else ""

    def fields(self) -> dict[str, Any]:
        return {"seen": list(self.seen), "missing": list(self.missing), "without_calls": list(self.without_calls)}


def hours_with_calls(quarters: Iterable[int]) -> tuple[int, ...]:
    """The hours of the day with at least four quarter-hours with calls. quarters: Unix seconds // 900."""
    counts = Counter(quarter // _QUARTERS_AN_HOUR % _HOURS for quarter in set(quarters))
    return tuple(sorted(hour for hour, n in counts.items() if n >= _FEWEST_QUARTERS))


def served_hours(wanted: Collection[int], blocks: Iterable[ServedBlock]) -> ServedHours:
    """wanted: hours of the day with calls. blocks: of the ramp's steps that leave units to the control."""
    seen = {block.hour for block in blocks if block.a.n and block.b.n}
    return ServedHours(tuple(sorted(wanted)), tuple(sorted(seen.intersection(wanted))))


def named_hours(hours: Sequence[int]) -> str:
    """Names hours, such as "hours 2, 3 and 14"; five or more in a row are a range. hours: in order, not empty."""
    parts = [part for first, last in _runs(hours) for part in _part(first, last)]
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"hour {listed}" if len(hours) == 1 else f"hours {listed}"


def _runs(hours: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for hour in hours:
        if runs and runs[-1][1] == hour - 1:
            runs[-1] = (runs[-1][0], hour)
        else:
            runs.append((hour, hour))
    return runs


def _part(first: int, last: int) -> list[str]:
    return (
        [f"{first} to {last}"] if last - first >= _FEWEST_QUARTERS else [str(hour) for hour in range(first, last + 1)]
    )
