"""What models and clients wrote, made safe for a terminal. Pure."""

from __future__ import annotations

import re
from typing import Any

import orjson

# Control characters but tab and line feed; the marks that turn the direction of text around; lone surrogates, which
# no file can hold.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = frozenset("=+-@\t\n\uff1d\uff0b\uff0d\uff20")  # the last four: the same signs, full width


def plain(text: str) -> str:
    """The text without what could move a cursor, change a colour or reorder what is seen."""
    return _CONTROL.sub("", text)


def cell(text: str) -> str:
    """The text for a cell of a sheet: plain, and never a formula, whatever program opens it.

    Source: OWASP, "CSV Injection": a leading apostrophe makes it text.
    """
    safe = plain(text)
    return f"'{safe}" if safe[:1] in _FORMULA else safe


def to_json(value: Any, *, indent: bool = True) -> str:
    """JSON in which such characters stand escaped: nothing is lost, and a terminal may show it.

    Bytes are UTF-8 text; what is none is replaced.
    """
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else None, default=_text).decode()
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _text(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "replace")
    raise TypeError(f"{type(value).__name__} has no JSON")
