"""Finds the fields of a multipart form in its bytes. Pure; the content of files is skipped. Source: RFC 7578.

The delimiter is the body's first line: RFC 2046 allows a preamble before it, but no client sends one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

_NAME = re.compile(rb'^content-disposition:[ \t]*form-data;[^\r\n]*?\bname=(?:"([^"\r\n]*)"|([^";\s]+))', re.I | re.M)
_MAX_DELIMITER = 76  # RFC 2046, section 5.1.1: a boundary has at most 70 characters; two dashes, a line end
_MAX_HEAD = 4096


class FormField(NamedTuple):
    """One part that is not a file."""

    name: bytes
    start: int  # offset of the value, in bytes
    end: int


class FormFieldReader:
    """Finds the fields of a form that arrives in pieces, in order. Buffers at most one part's headers.

    counted: the name of a part; `count` is the number of parts of that name so far, files included.
    """

    __slots__ = ("_at", "_base", "_delimiter", "_held", "_name", "_start", "_step", "count", "counted")

    def __init__(self, counted: bytes = b"") -> None:
        self.counted = counted
        self.count = 0
        self._held = b""
        self._base = 0  # offset in the form of the first held byte
        self._at = 0  # within the held bytes: everything before is processed
        self._delimiter = b""
        self._name: bytes | None = None  # of the current part; None: a file
        self._start = 0
        self._step: Callable[[bytes], FormField | bool] | None = self._first_line  # None: the rest is not a form

    @property
    def buffered(self) -> int:
        """Bytes that are held back."""
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[FormField]:
        """The fields that these bytes complete. The iterator must be exhausted."""
        held = self._held = self._held + data
        while self._step is not None and (found := self._step(held)):
            if isinstance(found, FormField):
                yield found
        self._held = held[self._at :] if self._step is not None else b""
        self._base += self._at
        self._at = 0

    # Steps: False when more bytes are needed.

    def _first_line(self, held: bytes) -> bool:
        end = held.find(b"\r\n", 0, _MAX_DELIMITER)
        if end < 0 and len(held) < _MAX_DELIMITER:
            return False
        self._step = self._head if end >= 3 and held.startswith(b"--") else None
        self._delimiter = b"\r\n" + held[:end]
        self._at = end
        return True

    def _head(self, held: bytes) -> bool:
        at = self._at
        end = held.find(b"\r\n\r\n", at, at + _MAX_HEAD) if held.startswith(b"\r\n", at) else -1
        if end < 0:
            if not b"\r\n".startswith(held[at : at + 2]) or len(held) - at >= _MAX_HEAD:
                self._step = None
            return False
        head = held[at + 2 : end]
        found = _NAME.search(head)
        name = (found[1] if found[1] is not None else found[2]) if found else None
        self.count += name == self.counted
        self._name = None if b"filename" in head.lower() else name
        self._start = self._base + end + 4
        self._at = end + 2
        self._step = self._value
        return True

    def _value(self, held: bytes) -> FormField | bool:
        delimiter, at = self._delimiter, self._at
        while (at := held.find(delimiter, at)) >= 0:
            after = held[at + len(delimiter) : at + len(delimiter) + 2]
            if len(after) < 2:
                self._at = at
                return False
            if after in (b"\r\n", b"--"):  # otherwise the line only starts like the delimiter
                self._at = at + len(delimiter)
                self._step = self._head
                end = self._base + at
                return True if self._name is None else FormField(self._name, min(self._start, end), end)
            at += len(delimiter)
        self._at = max(self._at, len(held) - len(delimiter) + 1)
        return False


def fields(body: bytes) -> Iterator[FormField]:
    """The fields of a form, in order, up to the first byte that cannot be parsed."""
    yield from FormFieldReader().feed(body)


def field(body: bytes, name: bytes) -> bytes | None:
    """The value of the first field of that name; None if there is none."""
    return next((body[f.start : f.end] for f in fields(body) if f.name == name), None)
