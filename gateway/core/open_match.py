"""Maximum length of a match of a regular expression, and the ends of a text that may be the beginning of one. Pure.

A stream is released while it arrives, so the end of what has arrived must be known to be no part of a match. From a
pattern P follows a pattern for the beginnings of its matches: of a sequence A B, the beginnings of A, and all of A with
the beginnings of B. Anchored at the end of a text it finds the earliest place from which a match may still go on.

The pattern is read as Python's `re` reads it, and the result is written for RE2. What RE2 knows and `re` does not
(`\\pL`, `[[:alpha:]]`, `\\z`) is refused.
"""

from __future__ import annotations

import re
import warnings
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

UNBOUNDED = int(codes.MAXREPEAT)
_MOST_REPEATS = 1_000  # RE2's own limit
_CATEGORIES = {
    codes.CATEGORY_DIGIT: r"\d",
    codes.CATEGORY_NOT_DIGIT: r"\D",
    codes.CATEGORY_SPACE: r"\s",
    codes.CATEGORY_NOT_SPACE: r"\S",
    codes.CATEGORY_WORD: r"\w",
    codes.CATEGORY_NOT_WORD: r"\W",
}


class NotReadable(ValueError):
    """The pattern has a form whose matches cannot be measured."""


def longest_match(regex: str) -> int | None:
    """Characters of the longest match; None if there is no bound. Raises NotReadable."""
    longest = int(_parsed(regex).getwidth()[1])
    return None if longest >= min(UNBOUNDED, 1 << 30) else longest


def beginnings(regex: str) -> str:
    """A pattern that matches the end of a text where a match of `regex` may have begun and may go on. Raises
    NotReadable."""
    return f"(?s:{_begun(list(_parsed(regex)), _flags(regex))}\\z)"


def _parsed(regex: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # `[[:alpha:]]` is a class to RE2, and another one to Python
            return parser.parse(regex)
    except (re.error, FutureWarning, DeprecationWarning) as error:
        raise NotReadable(f"regex {regex!r} cannot be measured: {error}") from error


def _flags(regex: str) -> int:
    return int(_parsed(regex).state.flags)


def _begun(items: list[Any], flags: int) -> str:
    """The nonempty beginnings of a sequence; "" if it has none."""
    tail = ""
    for item in reversed(items):
        whole, begun = _whole(item, flags), _begun_item(item, flags)
        follows = f"{whole}(?:{tail})?" if tail else whole
        tail = f"(?:{begun}|{follows})" if begun else follows
    return tail or "(?:)"


def _begun_item(item: Any, flags: int) -> str:
    """Part of one item that may be the end of a text before the item is complete; "" if it is complete or absent."""
    op, value = item
    if op in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        _, most, inner = value
        part, whole = _begun(list(inner), flags), _sequence(inner, flags)
        if most == UNBOUNDED:
            return f"(?:{whole})*(?:{part})"
        return f"(?:{whole}){{0,{_repeats(max(most - 1, 0))}}}(?:{part})" if most > 0 else ""
    if op is codes.BRANCH:
        return "|".join(f"(?:{_begun(list(branch), flags)})" for branch in value[1])
    if op is codes.SUBPATTERN:
        return _begun(list(value[3]), flags)
    if op is codes.ATOMIC_GROUP:
        return _begun(list(value), flags)
    return ""


def _sequence(items: Any, flags: int) -> str:
    return "".join(_whole(item, flags) for item in items)


def _whole(item: Any, flags: int) -> str:
    """One item in RE2's syntax. Assertions are left out: they match in more places then, which only holds more."""
    op, value = item
    if op in (codes.LITERAL, codes.NOT_LITERAL):
        return _set([(codes.LITERAL, value)], flags, negated=op is codes.NOT_LITERAL)
    if op is codes.ANY:
        return "." if flags & re.DOTALL else r"[^\n]"
    if op is codes.IN:
        negated = value[0][0] is codes.NEGATE
        return _set(value[1:] if negated else value, flags, negated=negated)
    if op in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        least, most, inner = value
        upto = "" if most == UNBOUNDED else _repeats(most)
        return f"(?:{_sequence(inner, flags)}){{{_repeats(least)},{upto}}}"
    if op is codes.BRANCH:
        return f"(?:{'|'.join(_sequence(branch, flags) for branch in value[1])})"
    if op is codes.SUBPATTERN:
        _, added, removed, inner = value
        return f"(?:{_sequence(inner, flags | added & ~removed)})"
    if op is codes.ATOMIC_GROUP:
        return f"(?:{_sequence(value, flags)})"
    if op in (codes.AT, codes.ASSERT, codes.ASSERT_NOT):
        return ""
    raise NotReadable(f"a pattern with {str(op).lower()} cannot be measured; RE2 has no such form either")


def _repeats(n: int) -> int:
    if n > _MOST_REPEATS:
        raise NotReadable(f"a repeat of more than {_MOST_REPEATS} is not possible in RE2")
    return n


def _set(members: Any, flags: int, *, negated: bool) -> str:
    inner = "".join(_member(op, value) for op, value in members)
    ignored = "i" if flags & re.IGNORECASE else ""
    return f"(?{ignored}:[{'^' if negated else ''}{inner}])" if ignored else f"[{'^' if negated else ''}{inner}]"


def _member(op: Any, value: Any) -> str:
    if op is codes.LITERAL:
        return _escaped(value)
    if op is codes.RANGE:
        return f"{_escaped(value[0])}-{_escaped(value[1])}"
    if op is codes.CATEGORY and value in _CATEGORIES:
        return _CATEGORIES[value]
    raise NotReadable(f"a class with {str(op).lower()} cannot be measured")


def _escaped(code: int) -> str:
    return f"\\x{{{code:x}}}"
