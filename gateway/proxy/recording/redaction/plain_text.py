"""A text as a reader sees it: without characters that do not show, with one kind of dash and digit, read over breaks.

Texts pasted from documents and web pages have narrow blanks, soft hyphens, long dashes and full-width digits; the forms
of finder.py know the plain ones. Terminals, mail programs and people wrap lines. Most line breaks separate unrelated
texts, so only breaks next to a broken-off value are joined; finder.py follows wrapped keys. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator

Change = tuple[int, int, str]
"""(start, end, replacement) of a piece of a text."""

_BREAK = r"[ \t]{0,3}\r?\n[ \t>|]{0,8}"  # with the marks of quoted mail
_JOINED = re.compile(
    r"(?<=\S)(?P<soft>[=\\]\r?\n)"  # quoted-printable (RFC 2045, section 6.7) and shells
    rf"|(?<=\d)(?P<digits>{_BREAK})(?=\d)"
    rf"|(?<=(?<![A-Za-z0-9])[A-Z0-9]{{4}})(?P<group>{_BREAK})(?=[A-Z0-9]{{1,4}}(?![A-Za-z0-9]))"  # of an IBAN
    rf"|@(?:[\w-]{{0,63}}(?P<domain>{_BREAK})(?=[\w-]{{1,63}}\.\w)|[\w-]{{1,63}}\.(?P<dot>{_BREAK})(?=[^\W\d_]{{2}}))"
)
_MAY_JOIN = re.compile(r"(?:[=\\]|[\dA-Z][ \t]{0,3})\r?\n")
"""A break next to a value that may be broken off, except for addresses: most texts have none."""
_READ_AS = {"soft": "", "digits": " ", "group": " ", "domain": "", "dot": ""}
_IN_RUN = "0123456789 \t-"
_LOOK = 48  # characters of a line next to a break
MOST_DIGITS = 28
"""Lines of digits with more of them in all are a column of numbers, and not a number on several lines."""


def joins(text: str) -> list[Change]:
    """The line breaks that may be read over, in order, each with what to read in its place."""
    if "\n" not in text or ("@" not in text and _MAY_JOIN.search(text) is None):
        return []
    found = [(match, str(match.lastgroup)) for match in _JOINED.finditer(text)]
    columns = set(_columns(text, [match.span(kind) for match, kind in found if kind == "digits"]))
    changes = [(*match.span(kind), _READ_AS[kind]) for match, kind in found]
    return [change for change in changes if change[:2] not in columns]


def _columns(text: str, breaks: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yields the breaks between digits in a column of numbers."""
    run: list[tuple[int, int]] = []
    digits = 0
    for at, (start, end) in enumerate(breaks):
        if not run:
            digits = _digits(_last_line(text, start))
        run.append((start, end))
        upto = breaks[at + 1][0] if at + 1 < len(breaks) else len(text)
        between = text[end : min(upto, end + _LOOK)]
        digits += _digits(between[: len(between) - len(between.lstrip(_IN_RUN))])
        if upto - end > _LOOK or between.strip(_IN_RUN) or at + 1 == len(breaks):
            if digits > MOST_DIGITS:
                yield from run
            run = []


def _last_line(text: str, end: int) -> str:
    """The part of the line before a break that could belong to a number."""
    line = text[max(0, end - _LOOK) : end]
    return line[len(line.rstrip(_IN_RUN)) :]


def _digits(text: str) -> int:
    return sum(map(text.count, "0123456789"))


_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties.txt)."""
_DIGITS = "".join(
    f"{chr(zero)}-{chr(zero + 9)}"
    for zero in (
        0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6, 0xE50, 0xED0, 0xF20,
        0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0,
        0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0x104A0, 0x10D30, 0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450,
        0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0, 0x11950, 0x11C50, 0x11D50, 0x11DA0, 0x16A60, 0x16B50, 0x1E140,
        0x1E2F0, 0x1E950, 0x1FBF0,
    )
)  # fmt: skip
"""Digits of other scripts (Unicode, general category Nd)."""
_COMPATIBLE = (
    "\u00aa\u00b2\u00b3\u00b9\u00ba\u02b0-\u02b8\u02e1-\u02e3\u1d2c-\u1d6a\u2070-\u209c\u2100-\u213f\u2145-\u2149\u2160-\u217f"
    "\u2460-\u24ff\u2c7c\u2c7d\ufe50-\ufe6f\uff01-\uff5e\U0001d400-\U0001d7ff\U0001f100-\U0001f1ff"
)
"""Superscript, subscript, letter-like, circled, small, full-width and mathematical forms, which NFKC makes plain."""
DISGUISES = re.compile(
    f"[{_INVISIBLE}"
    "\u2000-\u200a\u202f\u205f\u3000\u2010-\u2015\u2212"  # blanks and dashes
    f"{_DIGITS}{_COMPATIBLE}]"
    r"|%20|&#64;|&commat;|(?<=\d) {3,8}(?=\d)"
)
_FILLERS = "\u115f\u1160\u3164\uffa0"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_WORDS = {"%20": " ", "&#64;": "@", "&commat;": "@"}


class PlainText:
    """The plain form of a text, and where each of its characters stands in the original."""

    def __init__(self, original: str, changes: Iterable[Change] | None = None) -> None:
        """changes: in order, the replacements for reading; None: the disguises."""
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
    if kind in ("Cf", "Mn", "Cn") or disguise in _FILLERS:
        return ""
    if disguise in _DASHES or kind == "Zs":
        return " " if kind == "Zs" else "-"
    plain = unicodedata.normalize("NFKC", disguise)
    return plain if len(plain) == 1 else disguise
