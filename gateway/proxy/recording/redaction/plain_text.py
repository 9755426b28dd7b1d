"""A text as a reader sees it: without characters that do not show, with one kind of dash, blank and digit. Pure.

What people paste from documents and web pages has narrow blanks, soft hyphens, long dashes and full-width digits; the
forms of finder.py know the plain ones.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable

from gateway.proxy.recording.redaction.line_breaks import Change

DISGUISES = re.compile(
    "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"  # do not show
    "\u2000-\u200a\u202f\u205f\u3000\u2010-\u2015\u2212"  # blanks and dashes
    "\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\uff01-\uff5e]"  # digits of other scripts, full-width forms
    r"|%20|&#64;|&commat;|(?<=\d) {3,8}(?=\d)"
)
_WORDS = {"%20": " ", "&#64;": "@", "&commat;": "@"}


class PlainText:
    """The plain form of a text, and where each of its characters stands in the original."""

    def __init__(self, original: str, changes: Iterable[Change] | None = None) -> None:
        """changes: in order, what is read differently; None: the disguises."""
        pieces: list[str] = []
        self._plain, self._original = [0], [0]  # positions from which both run in step
        self.changed: list[int] = []
        """Positions in the plain text before which something was changed, in order."""
        size = end = 0
        for start, until, plain in disguises(original) if changes is None else changes:
            pieces += [original[end:start], plain]
            size += start - end
            self._step(size, start)
            self.changed.append(size)
            size, end = size + len(plain), until
            self._step(size, end)
        self.text = "".join([*pieces, original[end:]])

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The span in the original. end: exclusive."""
        return self._at(start), self._at(end - 1) + 1

    def _step(self, plain: int, original: int) -> None:
        self._plain.append(plain)
        self._original.append(original)

    def _at(self, plain: int) -> int:
        step = bisect_right(self._plain, plain) - 1
        return self._original[step] + plain - self._plain[step]


def disguises(text: str) -> Iterable[Change]:
    return ((*found.span(), _plain(found[0])) for found in DISGUISES.finditer(text))


def _plain(disguise: str) -> str:
    if disguise[0] == " " or len(disguise) > 1:
        return _WORDS.get(disguise, " ")
    kind = unicodedata.category(disguise)
    if kind == "Nd":
        return str(unicodedata.digit(disguise))
    return {"Cf": "", "Zs": " ", "Pd": "-", "Sm": "-"}.get(kind) or (
        "" if kind == "Cf" else unicodedata.normalize("NFKC", disguise)
    )
