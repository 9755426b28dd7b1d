"""Two answers side by side, word by word. Pure; of long ones the part where they part ways."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from gateway.evals.experiments.html.markup import Markup, joined, tag

SHOWN = 2400  # characters of each
_BEFORE = 160  # of what is the same before the first difference
# Words, single signs, white space. Scripts that put no space between words are taken sign by sign.
_UNSPACED = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"
_TOKENS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|\s+|.", re.DOTALL)


def sides(control: str, candidate: str) -> tuple[Markup, Markup]:
    """What only the control says is marked del, what only the candidate says ins."""
    start = _start(control, candidate)
    a, b = (_TOKENS.findall(text[start : start + SHOWN]) for text in (control, candidate))
    # autojunk bounds the time: a token of every page is matched only beside a rare one.
    blocks = SequenceMatcher(str.isspace, a, b, autojunk=True).get_opcodes()
    left = [_marked("del", "".join(a[i:j]), op) for op, i, j, _, _ in blocks]
    right = [_marked("ins", "".join(b[i:j]), op) for op, _, _, i, j in blocks]
    return _framed(left, control, start), _framed(right, candidate, start)


def _start(control: str, candidate: str) -> int:
    """0, or a little before the first difference where that is far into the text."""
    if max(len(control), len(candidate)) <= SHOWN:
        return 0
    pairs = enumerate(zip(control, candidate, strict=False))
    same = next((i for i, (a, b) in pairs if a != b), min(len(control), len(candidate)))
    return max(0, same - _BEFORE) if same > 2 * _BEFORE else 0


def _marked(name: str, text: str, op: str) -> Markup | str:
    return text if op == "equal" or not text else tag(name, text)


def _framed(parts: list[Markup | str], text: str, start: int) -> Markup:
    left_out = len(text) - start - SHOWN
    return joined(
        cut(start) if start else None, parts, cut(left_out) if left_out > 0 else None,
        tag("span", "no text", class_="none") if not text else None,
    )  # fmt: skip


def cut(n: int) -> Markup:
    """In the place of so many characters."""
    return tag("span", f" … {n:,} characters … ".replace(",", "\u202f"), class_="cut")
