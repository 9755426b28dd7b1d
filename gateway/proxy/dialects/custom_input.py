"""Reads the input of a custom tool out of the arguments of the function that stands for it, as they arrive. Pure.

The arguments are `{"input": "…"}`; a client of the Responses API gets the text, piece by piece.
"""

from __future__ import annotations

import re

from gateway.core.json_values import as_text
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.client_tools import input_text

_BEGIN = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_BARE = '{"input":"'
_STOPS = re.compile(r'["\\]')
_HIGH = range(0xD800, 0xDC00)
_UNICODE = len("\\u0000")


class CustomInput:
    """The input of one call. Any split of the arguments gives the same text."""

    __slots__ = ("_begun", "_ended", "_other", "_pieces", "_tail", "_texts")

    def __init__(self) -> None:
        self._pieces: list[str] = []  # of the arguments
        self._texts: list[str] = []  # returned so far
        self._tail = ""  # what has been received and not read
        self._begun = self._ended = self._other = False

    @property
    def text(self) -> str:
        """The text that was returned so far."""
        return "".join(self._texts)

    def feed(self, piece: str) -> str:
        """The text that is certain now. Arguments of another form give all of it at the end."""
        self._pieces.append(piece)
        if self._ended or self._other:
            return ""
        self._tail += piece
        if not self._begun:
            self._begin()
        return self._noted(self._read()) if self._begun else ""

    def end(self) -> str:
        """The rest, once the arguments are complete."""
        whole, sent = input_text("".join(self._pieces)), self.text
        return self._noted(whole[len(sent) :]) if whole.startswith(sent) else ""

    def _noted(self, text: str) -> str:
        if text:
            self._texts.append(text)
        return text

    def _begin(self) -> None:
        found = _BEGIN.match(self._tail)
        if found is not None:
            self._begun, self._tail = True, self._tail[found.end() :]
        elif not _BARE.startswith("".join(self._tail.split())):
            self._other, self._tail = True, ""

    def _read(self) -> str:
        """The text up to the closing quotation mark, or up to an escape that is not complete."""
        text, at, out = self._tail, 0, []
        while (stop := _STOPS.search(text, at)) is not None:
            out.append(text[at : stop.start()])
            at = stop.start()
            if text[at] == '"':
                self._ended = True
                break
            end = _escape_end(text, at)
            if not end:
                break
            out.append(_unescaped(text[at:end]))
            at = end
        else:
            out.append(text[at:])
            at = len(text)
        self._tail = text[at:]
        return "".join(out)


def _escape_end(text: str, at: int) -> int:
    """The end of the escape that starts here, with both halves of a surrogate pair; 0 if it is not complete."""
    if text[at + 1 : at + 2] != "u":
        return at + 2 if len(text) >= at + 2 else 0
    end = at + _UNICODE
    if len(text) < end:
        return 0
    second = text[end : end + _UNICODE]
    if not _is_high(text[at + 2 : end]) or (second[:2] and not "\\u".startswith(second[:2])):
        return end
    return end + _UNICODE if len(second) == _UNICODE else 0


def _is_high(digits: str) -> bool:
    try:
        return int(digits, 16) in _HIGH
    except ValueError:
        return False


def _unescaped(escape: str) -> str:
    try:
        return as_text(lenient_json.loads(b'"' + escape.encode() + b'"'))
    except ValueError:
        return escape
