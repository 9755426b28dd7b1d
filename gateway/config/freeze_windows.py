"""Times in which no step of a ramp is taken, as `freeze` of experiments and guards has them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator

from gateway.core.ramp import FreezeWindow

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKLY = re.compile(r"([A-Za-z]{3})[a-z]* +([01]?\d|2[0-3]):([0-5]\d)$")


def freeze_window(text: str) -> FreezeWindow:
    """Parses `Fri 16:00 - Mon 08:00`, weekly, or two times such as `2026-12-20T00:00Z - 2027-01-03T00:00Z`; in UTC.

    Raises ValueError.
    """
    begins, dash, ends = text.partition(" - ")
    parts = (begins.strip(), ends.strip())
    if dash and all(map(_WEEKLY.match, parts)):
        start, end = (_seconds_of_week(part) for part in parts)
        if start != end:
            return FreezeWindow(start, end, weekly=True)
    elif dash:
        start, end = (_seconds_of_time(part) for part in parts)
        if start < end:
            return FreezeWindow(start, end)
    raise ValueError(
        f"{text!r}: expected FROM - TO, such as Fri 16:00 - Mon 08:00 or 2026-12-20T00:00Z - 2027-01-03T00:00Z"
    )


def _seconds_of_week(text: str) -> float:
    found = _WEEKLY.match(text)
    if found is None or found[1].lower() not in _DAYS:
        raise ValueError(f"{text!r}: expected a day and a time, such as Fri 16:00")
    return 86_400.0 * _DAYS.index(found[1].lower()) + 3600.0 * int(found[2]) + 60.0 * int(found[3])


def _seconds_of_time(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r}: expected a time, such as Fri 16:00 or 2026-12-20T00:00Z") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _window(text: str) -> str:
    freeze_window(text)
    return text


FreezeText = Annotated[str, AfterValidator(_window)]
