"""Time spans as people write them: 90s, 30m, 2h, 1d, 1w."""

from __future__ import annotations

import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class InvalidDuration(ValueError):
    """A text that is not a time span."""


def seconds_of(span: str) -> float:
    """The seconds of "90s", "30m", "2h", "1d" or "1w". Raises InvalidDuration."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", span)
    if match is None:
        raise InvalidDuration(f"{span!r} is not a time span; write 90s, 30m, 2h, 1d or 1w")
    return float(match[1]) * _UNITS[match[2]]
