"""Line breaks that fall inside a number, an address or a word: where a text may be read on over them. Pure.

Terminals, mail programs and people wrap what they paste. Most line breaks separate what does not belong together, so
only those are joined beside which something broken off stands; keys that are wrapped are followed in finder.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Change = tuple[int, int, str]
"""(start, end, replacement) of a piece of a text."""

_BREAK = r"[ \t]{0,3}\r?\n[ \t>|]{0,8}"  # with the marks of quoted mail
_JOINED = re.compile(
    r"(?<=\S)(?P<soft>[=\\]\r?\n)"  # quoted-printable (RFC 2045, section 6.7) and shells
    rf"|(?<=\d)(?P<digits>{_BREAK})(?=\d)"
    rf"|(?<=(?<![A-Za-z0-9])[A-Z0-9]{{4}})(?P<group>{_BREAK})(?=[A-Z0-9]{{1,4}}(?![A-Za-z0-9]))"  # of an IBAN
    rf"|@(?:[\w-]{{0,63}}(?P<domain>{_BREAK})(?=[\w-]{{1,63}}\.\w)|[\w-]{{1,63}}\.(?P<dot>{_BREAK})(?=[^\W\d_]{{2}}))"
)
_READ_AS = {"soft": "", "digits": " ", "group": " ", "domain": "", "dot": ""}
_IN_RUN = "0123456789 \t-"
_LOOK = 48  # characters of a line beside a break
MOST_DIGITS = 28
"""Lines of digits with more of them in all are a column of numbers, and not a number on several lines."""


def joins(text: str) -> list[Change]:
    """The line breaks that may be read over, in order, each with what to read in its place."""
    if "\n" not in text:
        return []
    found = [(match, str(match.lastgroup)) for match in _JOINED.finditer(text)]
    columns = set(_columns(text, [match.span(kind) for match, kind in found if kind == "digits"]))
    changes = [(*match.span(kind), _READ_AS[kind]) for match, kind in found]
    return [change for change in changes if change[:2] not in columns]


def _columns(text: str, breaks: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Those of the breaks between digits that stand in a column of numbers."""
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
    """What of the line before a break could belong to a number."""
    line = text[max(0, end - _LOOK) : end]
    return line[len(line.rstrip(_IN_RUN)) :]


def _digits(text: str) -> int:
    return sum(map(text.count, "0123456789"))
