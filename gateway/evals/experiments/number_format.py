"""Numbers as a report writes them, the same in its sentences, on the terminal and on the page. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from gateway.evals.experiments.report import Estimate

T = TypeVar("T")

NONE = "–"
NARROW = "\u202f"  # a space that does not break a number in two
MINUS = "\u2212"
_MOST_DIGITS = 6


def digits(scale: float | None) -> int:
    """How many decimals tell apart what differs by a tenth of the scale. None, 0 or not finite: 3."""
    if scale is None or scale == 0 or not math.isfinite(scale):
        return 3
    return min(_MOST_DIGITS, max(0, 1 - math.floor(math.log10(abs(scale)))))


def digits_of(*estimates: Estimate, margin: float | None = None) -> int:
    """The decimals of a row: those of its margin, else of its intervals' halves, else of its values."""
    halves = [abs(e.high - e.low) / 2 for e in estimates if e.low is not None and e.high is not None]
    values = [abs(e.value) for e in estimates if e.value is not None]
    scales = [s for s in (halves or values) if s > 0 and math.isfinite(s)]
    return digits(margin or (min(scales) if scales else None))


def number(value: float | None, places: int, *, signed: bool = False) -> str:
    """With a real minus, thousands apart; None: a dash; infinite: ∞."""
    if value is None or math.isnan(value):
        return NONE
    value = round(value, places) + 0.0 if math.isfinite(value) else value  # + 0.0: no "-0"
    size = f"{abs(value):,.{places}f}".replace(",", NARROW) if math.isfinite(value) else "∞"
    return (MINUS if value < 0 else "+" if signed and value > 0 else "") + size


def interval(e: Estimate, places: int, *, signed: bool = True) -> str:
    """ "−0.011 … +0.019"; a dash where there is no interval, … alone where a bound is not there yet."""
    if e.low is None and e.high is None:
        return NONE
    low, high = ("" if v is None else number(v, places, signed=signed) for v in (e.low, e.high))
    return f"{low} … {high}".strip()


def count(n: float) -> str:
    return number(n, 0)


def counted(n: int, word: str) -> str:
    return f"{count(n)} {word}{'' if n == 1 else 's'}"


def share(part: float | None) -> str:
    return NONE if part is None else f"{number(100 * part, 0 if part in (0, 1) else 1)}{NARROW}%"


def change(before: float | None, after: float | None) -> str:
    """ "−71 %"; a dash where there is nothing to compare with."""
    if not before or after is None:
        return NONE
    return f"{number(100 * (after / before - 1), 0, signed=True)}{NARROW}%"


def dollars(usd: float | None) -> str:
    """Two decimals, and for less than a dollar two digits that say something."""
    return NONE if usd is None else f"${number(usd, max(2, min(digits(usd), _MOST_DIGITS)))}"


def when(unix_s: float | None) -> str:
    """To the minute, in UTC."""
    return NONE if unix_s is None else datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def thinned(points: Sequence[T], most: int) -> Sequence[T]:
    """At most so many, evenly spread, with the first and the last."""
    if len(points) <= most:
        return points
    step = (len(points) - 1) / (most - 1)
    return [points[round(i * step)] for i in range(most)]
