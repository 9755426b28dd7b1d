"""Where the fields of a form lie in its bytes. Pure; files are passed over, never looked into. Source: RFC 7578.

The delimiter is the body's first line: no client sends a preamble before it, though RFC 2046 would let it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_NAME = re.compile(rb'^content-disposition:[ \t]*form-data;[^\r\n]*?\bname=(?:"([^"\r\n]*)"|([^";\s]+))', re.I | re.M)
_MAX_DELIMITER = 76  # RFC 2046, section 5.1.1: a boundary has at most 70 characters; two dashes, a line end
_MAX_HEAD = 4096


class Field(NamedTuple):
    """One part that is no file. start, end: offsets of its value."""

    name: bytes
    start: int
    end: int


def fields(body: bytes) -> Iterator[Field]:
    """The parts that are no file, in order, as far as the body is a form."""
    at = body.find(b"\r\n", 0, _MAX_DELIMITER)
    if at < 3 or not body.startswith(b"--"):
        return
    delimiter = body[:at]
    while body[at : at + 2] == b"\r\n":
        head_end = body.find(b"\r\n\r\n", at, at + _MAX_HEAD)
        end = _next(body, b"\r\n" + delimiter, head_end + 2) if head_end >= 0 else -1
        if end < 0:
            return
        head = body[at + 2 : head_end]
        name = _NAME.search(head)
        if name is not None and b"filename" not in head.lower():
            yield Field(name[1] if name[1] is not None else name[2], min(head_end + 4, end), end)
        at = end + 2 + len(delimiter)


def field(body: bytes, name: bytes) -> bytes | None:
    """The value of the first field of that name; None when there is none."""
    return next((body[f.start : f.end] for f in fields(body) if f.name == name), None)


def _next(body: bytes, delimiter: bytes, at: int) -> int:
    """Where the next delimiter line begins; -1: nowhere. A line that only begins like one is none."""
    while (at := body.find(delimiter, at)) >= 0:
        if body[at + len(delimiter) : at + len(delimiter) + 2] in (b"\r\n", b"--"):
            return at
        at += len(delimiter)
    return -1
