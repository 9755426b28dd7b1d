"""The words in which people give their verdicts: at the terminal, and in a sheet that comes back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.evals.store.labels import Subject

HELP = {
    "exchange": "g good · b bad · 0 … 1 between · s skip · q stop; a comment may follow",
    "pair": "1 the first is better · 2 the second · t a tie · s skip · q stop; a comment may follow",
}
Said = Literal["scored", "skipped", "stop"]
_GOOD = {"g": 1.0, "good": 1.0, "y": 1.0, "yes": 1.0, "b": 0.0, "bad": 0.0, "n": 0.0, "no": 0.0}
_BETTER = {"1": 0.0, "first": 0.0, "2": 1.0, "second": 1.0, "t": 0.5, "tie": 0.5, "neither": 0.5, "both": 0.5}
_SKIP, _STOP = ("s", "skip"), ("q", "quit", "stop")


@dataclass(frozen=True, slots=True)
class LabelVerdict:
    """value: in [0, 1], 1 best; of a pair: the preference for its second answer; None: skipped. stop: no verdict, and
    no more wanted."""

    value: float | None
    label: str | None = None
    comment: str | None = None
    stop: bool = False


def verdict(text: str, subject: Subject, *, turned: bool = False) -> LabelVerdict:
    """turned: the pair's second answer was shown first. Raises ValueError for what is no verdict."""
    word, _, rest = text.strip().partition(" ")
    key, comment = word.lower().rstrip(",;:"), rest.strip() or None
    if key in _STOP:
        return LabelVerdict(None, stop=True)
    if key in _SKIP:
        return LabelVerdict(None, None, comment)
    if subject == "pair":
        return _preference(key, comment, turned, text)
    value = _GOOD[key] if key in _GOOD else _number(key, text)
    return LabelVerdict(value, "good" if value == 1.0 else "bad" if value == 0.0 else None, comment)


def _preference(key: str, comment: str | None, turned: bool, text: str) -> LabelVerdict:
    if key not in _BETTER:
        raise ValueError(f"{text.strip()!r} is no verdict: {HELP['pair']}")
    for_second_shown = _BETTER[key]
    value = 1.0 - for_second_shown if turned else for_second_shown
    return LabelVerdict(value, "tie" if value == 0.5 else "b" if value == 1.0 else "a", comment)


def _number(key: str, text: str) -> float:
    try:
        value = float(key)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{text.strip()!r} is no verdict: {HELP['exchange']}")
    return value
