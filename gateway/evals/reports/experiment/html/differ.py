"""Two answers side by side, word by word. Pure; of long ones the part where they part ways."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from gateway.evals.reports.experiment.html.markup import Markup, joined, tag

SHOWN = 2400  # characters of each
_BEFORE = 160  # of what is the same before the first difference
# Words, single signs, white space. Scripts that put no space between words are taken sign by sign.
_UNSPACED = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"
_TOKENS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|\s+|.", re.DOTALL)


def sides(control: str, candidate: str) -> tuple[Markup, Markup]:
    """What only the control says is marked del, what only the candidate says ins."""
    start = _start(control, candidate)
    a, b = (_tokens(text[start : start + SHOWN], whole=len(text) <= start + SHOWN) for text in (control, candidate))
    left, right = _compared(a, b)
    shown = [start + sum(map(len, tokens)) for tokens in (a, b)]
    return _framed(left, control, start, shown[0]), _framed(right, candidate, start, shown[1])


def _tokens(text: str, *, whole: bool) -> list[str]:
    """whole: the text ends here, and is not cut within a word."""
    found = _TOKENS.findall(text)
    return found if whole else found[:-1]


def _compared(a: list[str], b: list[str]) -> tuple[list[Markup | str], list[Markup | str]]:
    """What is the same at both ends is told apart first: then the time for the middle is bounded without harm."""
    least = min(len(a), len(b))
    head = next((i for i in range(least) if a[i] != b[i]), least)
    tail = next((i for i in range(least - head) if a[-1 - i] != b[-1 - i]), least - head)
    # autojunk bounds the time: a token of every page is matched only beside a rare one.
    middle = SequenceMatcher(str.isspace, a[head : len(a) - tail], b[head : len(b) - tail], autojunk=True)
    before, after = "".join(a[:head]), "".join(a[len(a) - tail :])
    left: list[Markup | str] = [before]
    right: list[Markup | str] = [before]
    for op, i, j, k, m in middle.get_opcodes():
        left.append(_marked("del", "".join(a[head + i : head + j]), op))
        right.append(_marked("ins", "".join(b[head + k : head + m]), op))
    return [*left, after], [*right, after]


def _start(control: str, candidate: str) -> int:
    """0, or a little before the first difference where that is far into the text."""
    if max(len(control), len(candidate)) <= SHOWN:
        return 0
    pairs = enumerate(zip(control, candidate, strict=False))
    same = next((i for i, (a, b) in pairs if a != b), min(len(control), len(candidate)))
    return max(0, same - _BEFORE) if same > 2 * _BEFORE else 0


def _marked(name: str, text: str, op: str) -> Markup | str:
    return text if op == "equal" or not text else tag(name, text)


def _framed(parts: list[Markup | str], text: str, start: int, end: int) -> Markup:
    left_out = len(text) - end
    return joined(
        cut(start) if start else None, parts, cut(left_out) if left_out > 0 else None,
        tag("span", "no text", class_="none") if not text else None,
    )  # fmt: skip


def cut(n: int) -> Markup:
    """In the place of so many characters."""
    return tag("span", f" … {n:,} characters … ".replace(",", "\u202f"), class_="cut")
