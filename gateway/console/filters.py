"""Filters of the templates: figures, times and texts as pages show them, without hidden characters. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

NONE = "–"
MINUS = "\u2212"


def count(value: float | None) -> str:
    """A number with narrow blanks between thousands."""
    return NONE if value is None else f"{value:,.0f}".replace(",", "\u202f")


def score(value: float | None) -> str:
    """A value with at most three decimals, and a minus sign in place of a hyphen."""
    if value is None or math.isnan(value):
        return NONE
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text.replace("-", MINUS)


def percent(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{100 * value:.2f} %" if 0 < abs(value) < 0.1 else f"{100 * value:.1f} %"


def usd(value: float | None) -> str:
    """An amount in USD: with cents from $0.1 on, and three digits below."""
    if value is None:
        return NONE
    if value == 0 or abs(value) >= 0.1:
        return f"${value:,.2f}"
    return f"${value:.3g}" if abs(value) >= 1e-4 else f"${value:.1e}"


def seconds(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def lasting(value: float) -> str:
    """A duration in its largest unit: 40 s, 12 min, 9 h, 6 days."""
    for unit, length in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if value >= 2 * length:
            return f"{value / length:.0f} {unit}"
    return f"{value:.0f} s"


def moment(unix: float | None) -> str:
    """A time such as 2026-11-26 09:31:07, in UTC."""
    return NONE if unix is None else f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S}"


def day(unix: float) -> str:
    """A day such as 2026-11-26, in UTC."""
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d}"


def iso(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="seconds")


def hour(unix: float) -> str:
    """A time of day such as 09:00, in UTC."""
    return f"{datetime.fromtimestamp(unix, UTC):%H:%M}"


def shortened(text: str | None, most: int = 120) -> str:
    """The beginning of a text, in one line."""
    line = " ".join((text or "")[: 4 * most].split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def pair(value: str) -> tuple[str, str]:
    """An option of a choice, whose title is its value."""
    return value, value


def worst_first(scorer: str) -> tuple[str, str]:
    return scorer, f"worst first by {scorer}"


_FILTERS = (count, score, percent, usd, seconds, lasting, moment, day, iso, hour, shortened, pair, worst_first)
FILTERS: Mapping[str, Callable[..., Any]] = {each.__name__: each for each in _FILTERS}


# Control characters except tab and line feed, marks that reorder or hide text, tag characters, lone surrogates.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with each character that has no shape of its own written out: ESC as ␛, an override as ⟨U+202E⟩.

    A carriage return before a line feed is a line break like any other, and is left out. Joiners stay where they join
    emoji or letters of scripts that need them: U+200C and U+200D next to characters that are not Latin.
    """
    return _HIDDEN.sub(_written, text.replace("\r\n", "\n"))


def _written(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if code in (0x200C, 0x200D) and _joins(found):
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"⟨U+{code:04X}⟩"


def _joins(found: re.Match[str]) -> bool:
    before, after = found.string[: found.start()][-1:], found.string[found.end() :][:1]
    return bool(before) and bool(after) and ord(before) > 0x2FF and ord(after) > 0x2FF
