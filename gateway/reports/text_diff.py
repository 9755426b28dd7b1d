"""Compares two answers word by word, for showing side by side. Pure. Long answers start shortly before they differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

SHOWN_CHARACTERS = 2400  # of each answer
_CONTEXT_CHARACTERS = 160  # of the common text before the first difference
# Words, single characters and white space. Scripts without spaces between words are compared character by character.
_UNSPACED = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"
_TOKENS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|\s+|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a text."""

    text: str
    mark: Literal["", "del", "ins", "cut", "none"] = ""
    """del, ins: only the control, only the candidate has it. cut: it replaces text that is left out. none: it replaces
    an empty text."""


def side_by_side(control: str, candidate: str) -> tuple[list[Segment], list[Segment]]:
    """The two texts in segments: del marks the parts that only the control has, ins those that only the candidate
    has."""
    start = _start(control, candidate)
    a, b = (
        _tokens(text[start : start + SHOWN_CHARACTERS], complete=len(text) <= start + SHOWN_CHARACTERS)
        for text in (control, candidate)
    )
    left, right = _compared(a, b)
    ends = [start + sum(map(len, tokens)) for tokens in (a, b)]
    return _framed(left, control, start, ends[0]), _framed(right, candidate, start, ends[1])


def omission(n: int) -> Segment:
    """The placeholder of n characters that are left out."""
    return Segment(f" … {n:,} characters … ".replace(",", "\u202f"), "cut")


def _tokens(text: str, *, complete: bool) -> list[str]:
    """Splits the text. Unless it is complete, its last token may be half a word, and is dropped."""
    found = _TOKENS.findall(text)
    return found if complete else found[:-1]


def _compared(a: list[str], b: list[str]) -> tuple[list[Segment], list[Segment]]:
    """Compares the tokens. The common start and end are split off first, so that the bound on the time does not affect
    them."""
    shorter = min(len(a), len(b))
    head = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    tail = next((i for i in range(shorter - head) if a[-1 - i] != b[-1 - i]), shorter - head)
    # autojunk bounds the time: a frequent token is matched only next to a rare one.
    middle = SequenceMatcher(str.isspace, a[head : len(a) - tail], b[head : len(b) - tail], autojunk=True)
    left, right = [Segment("".join(a[:head]))], [Segment("".join(b[:head]))]
    for op, i, j, k, m in middle.get_opcodes():
        left.append(Segment("".join(a[head + i : head + j]), "" if op == "equal" else "del"))
        right.append(Segment("".join(b[head + k : head + m]), "" if op == "equal" else "ins"))
    end = Segment("".join(a[len(a) - tail :]))
    return [*left, end], [*right, end]


def _start(control: str, candidate: str) -> int:
    """0, or a little before the first difference if that is far into the text."""
    if max(len(control), len(candidate)) <= SHOWN_CHARACTERS:
        return 0
    pairs = enumerate(zip(control, candidate, strict=False))
    common = next((i for i, (a, b) in pairs if a != b), min(len(control), len(candidate)))
    return max(0, common - _CONTEXT_CHARACTERS) if common > 2 * _CONTEXT_CHARACTERS else 0


def _framed(segments: list[Segment], text: str, start: int, end: int) -> list[Segment]:
    """The segments with placeholders for the omitted parts before and after them."""
    if not text:
        return [Segment("no text", "none")]
    before = [omission(start)] if start else []
    after = [omission(len(text) - end)] if len(text) > end else []
    return [*before, *(s for s in segments if s.text), *after]
