"""Values in the rows of other tools: times and counts. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gateway.features.traces.model import InvalidTrace

_MOST_COUNT = 1 << 53


def time_of(value: Any, at: str) -> float:
    """Unix seconds of a time in ISO 8601, in UTC where it names no zone. Raises InvalidTrace."""
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value.strip().replace(" UTC", "+00:00"))
            return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            pass
    raise InvalidTrace(f"{at}: {str(value)[:60]!r}, expected a time such as 2026-11-29T10:00:00Z")


def seconds_between(began: float, end: Any, at: str) -> float:
    """Seconds to a later time; 0 where there is none."""
    return max(0.0, time_of(end, at) - began) if end else 0.0


def count_of(value: Any) -> int | None:
    """A number of tokens; None if there is none, or if a double is too large to be a count."""
    counts = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST_COUNT
    return int(value) if counts else None
