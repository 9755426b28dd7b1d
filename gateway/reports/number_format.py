"""Number formats of reports: the same in sentences, on the terminal and on the page. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from gateway.reports.model import Estimate

T = TypeVar("T")

NONE = "–"
NARROW = "\u202f"  # narrow no-break space
MINUS = "\u2212"
_MOST_DIGITS = 6


def digits(scale: float | None) -> int:
    """Decimals that show a difference of a tenth of the scale. 3 where the scale is None, 0 or not finite."""
    if scale is None or scale == 0 or not math.isfinite(scale):
        return 3
    return min(_MOST_DIGITS, max(0, 1 - math.floor(math.log10(abs(scale)))))


def digits_of(*estimates: Estimate, margin: float | None = None) -> int:
    """The decimals of a row, by its margin, else by its narrowest half-width, else by its smallest value."""
    halves = [abs(e.high - e.low) / 2 for e in estimates if e.low is not None and e.high is not None]
    values = [abs(e.value) for e in estimates if e.value is not None]
    scales = [s for s in (halves or values) if s > 0 and math.isfinite(s)]
    return digits(margin or (min(scales) if scales else None))


def number(value: float | None, places: int, *, signed: bool = False) -> str:
    """The number with a minus sign and separated thousands; "–" for None, "∞" for infinity."""
    if value is None or math.isnan(value):
        return NONE
    value = round(value, places) + 0.0 if math.isfinite(value) else value  # + 0.0: no "-0"
    size = f"{abs(value):,.{places}f}".replace(",", NARROW) if math.isfinite(value) else "∞"
    return (MINUS if value < 0 else "+" if signed and value > 0 else "") + size


def interval(e: Estimate, places: int, *, signed: bool = True) -> str:
    """ "−0.011 … +0.019"; "–" without bounds, and nothing on the side of a missing bound."""
    if e.low is None and e.high is None:
        return NONE
    low, high = ("" if v is None else number(v, places, signed=signed) for v in (e.low, e.high))
    return f"{low} … {high}".strip()


def with_sign(value: float | None, figures: int = 3) -> str:
    """The number with its sign and this many significant figures: "−0.062", "+12"; as Python's "+.3g" with a minus."""
    return NONE if value is None else f"{value:+.{figures}g}".replace("-", MINUS)


def count(n: float) -> str:
    return number(n, 0)


def counted(n: int, word: str) -> str:
    return f"{count(n)} {word}{'' if n == 1 else 's'}"


def work(pairs: int | None, requests: int | None, word: str = "pair") -> str:
    """ "140 requests"; pairs where the requests are unknown, or where units are counted. word: for one of the pairs."""
    if requests is None or word in ("unit", "run"):
        return counted(pairs or 0, word)
    return counted(requests, "request")


def share(part: float | None) -> str:
    return NONE if part is None else f"{number(100 * part, 0 if part in (0, 1) else 1)}{NARROW}%"


def change(before: float | None, after: float | None) -> str:
    """ "−71 %"; "–" without a value to compare with."""
    if not before or after is None:
        return NONE
    return f"{number(100 * (after / before - 1), 0, signed=True)}{NARROW}%"


def dollars(usd: float | None) -> str:
    """Formats dollars with two decimals, or two significant digits below a dollar."""
    return NONE if usd is None else f"${number(usd, max(2, min(digits(usd), _MOST_DIGITS)))}"


def span(days: float) -> str:
    """Formats a duration: "3 minutes", "5 hours", "2.4 days"."""
    if days < 1 / 24:
        return counted(max(1, math.ceil(days * 1440)), "minute")
    if days < 2:
        return counted(math.ceil(days * 24), "hour")
    return f"{number(days, 1 if days < 10 else 0)} days"


def when(unix_s: float | None) -> str:
    """The time in UTC, to the minute; "–" for None."""
    return NONE if unix_s is None else datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def rfc3339(unix_s: float) -> str:
    """The time in UTC, to the millisecond, for programs."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")


def thinned(points: Sequence[T], most: int) -> Sequence[T]:
    """Chooses at most `most` of the points, evenly spaced, including the first and the last."""
    if len(points) <= most:
        return points
    step = (len(points) - 1) / (most - 1)
    return [points[round(i * step)] for i in range(most)]
