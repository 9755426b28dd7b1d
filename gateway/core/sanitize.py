"""Text of models and clients, made safe for terminals and spreadsheets. Pure."""

from __future__ import annotations

import re
from typing import Any

import orjson

# Control characters except tab and line feed; marks that change the direction of text; tag characters, which nobody
# sees; lone surrogates, which cannot be encoded.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)
_FORMULA = frozenset("=+-@\t\n\uff1d\uff0b\uff0d\uff20")  # the last four are full-width forms


_BLANKS = re.compile("[\\s\u200b\u2060\ufeff]*+")
"""Characters that programs remove from the beginning of a cell."""
# Where a program that splits at another separator, or at a line break within quotes, would begin a cell.
_INNER_FORMULA = re.compile(
    "((?:[;\t\n][^\\S\t\n]*+(?:[\"'][^\\S\t\n]*+)?|\\|[\"']?))(?=[=+@\uff1d\uff0b\uff20]|[-\uff0d][^\\s\\-)])"
)


def plain(text: str) -> str:
    """The text without characters that move a cursor, change a colour or reorder the display."""
    return _CONTROL.sub("", text)


def cell(text: str) -> str:
    """The text for a cell of a spreadsheet: plain, and not a formula in any program.

    Source: OWASP, "CSV Injection": a leading apostrophe makes it text. A program whose separator is a semicolon or tab
    reads a comma-separated file as other cells, and quotes as text, so formulas within the text get one too.
    """
    safe = plain(text)
    safe = safe[:1] + _INNER_FORMULA.sub(r"\1'", safe[1:])
    begins = _BLANKS.sub("", safe, count=1)[:1] if safe[:1] not in _FORMULA else safe[:1]
    return f"'{safe}" if begins in _FORMULA else safe


def line(text: str) -> str:
    """The plain text in one line, for a log: a line break within it cannot begin a line of its own."""
    return " ".join(plain(text).splitlines())


def to_json(value: Any, *, indent: bool = True) -> str:
    """JSON with such characters escaped: nothing is lost, and a terminal can show it.

    Bytes are decoded as UTF-8, with replacement characters for invalid ones.
    """
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else None, default=_text).decode()
    return _CONTROL.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    """The escape of a character in JSON: characters above U+FFFF as a pair of surrogates."""
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _text(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "replace")
    raise TypeError(f"{type(value).__name__} cannot be encoded as JSON")
