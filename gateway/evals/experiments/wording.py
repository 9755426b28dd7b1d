"""Numbers and findings of a report in words, the same on the terminal and on the page. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from gateway.evals.experiments.report import Comparison, Direction, Estimate, Margin, State, Verdict

T = TypeVar("T")

NONE = "–"
NARROW = "\u202f"  # a space that does not break a number in two
MINUS = "\u2212"
STATES: dict[State, str] = {1: "green", 0: "unknown", -1: "red"}
SIGNS: dict[State, str] = {1: "✓", 0: "?", -1: "✕"}  # so that nothing rests on a colour
VERDICTS: dict[Verdict, str] = {"ship": "Ship", "reject": "Reject", "hold": "Hold"}
_OF_DIRECTION: dict[Direction, State] = {"better": 1, "unclear": 0, "worse": -1}
_OF_MARGIN: dict[Margin, State] = {"equivalent": 1, "non_inferior": 1, "unclear": 0, "inferior": -1}
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


def titled(c: Comparison) -> str:
    return f"{c.metric}, {c.unit}" if c.unit else c.metric


def finding(c: Comparison) -> str:
    """What is known of one metric, in a few words: of its margin where it has one, else of its direction."""
    if c.margin is None:
        return {"better": "better", "worse": "worse", "unclear": "no difference shown"}[c.direction_found]
    margin = f"{c.margin:g}"
    if c.margin_found == "inferior":
        return f"worse by more than {margin}"
    if c.margin_found == "unclear":
        return f"undecided; about {counted(c.pairs_needed, 'pair')} more" if c.pairs_needed else "undecided"
    same = f"the same within {margin}" if c.margin_found == "equivalent" else f"not worse by more than {margin}"
    return {"better": "better", "worse": f"worse, by no more than {margin}", "unclear": same}[c.direction_found]


def mood(c: Comparison) -> State:
    """Whether that is good (1), bad (−1), or neither."""
    return _OF_DIRECTION[c.direction_found] if c.margin is None else _OF_MARGIN[c.margin_found]


def thinned(points: Sequence[T], most: int) -> Sequence[T]:
    """At most so many, evenly spread, with the first and the last."""
    if len(points) <= most:
        return points
    step = (len(points) - 1) / (most - 1)
    return [points[round(i * step)] for i in range(most)]
