"""Splits bytes into server-sent events, wherever the bytes are cut. Pure; independent of providers.

Source: WHATWG HTML, section 9.2.6 "Interpreting an event stream". Lines end in LF, CRLF or CR; an event ends at an
empty line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
_LINE = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    raw: bytes  # with the blank line that ends it
    data: bytes  # the data lines, joined by LF
    name: bytes = b""


def event_count(data: bytes) -> int:
    """Number of events that end in these bytes, at least 1. Exact where all lines end in LF, or all in CRLF."""
    return data.count(b"\n\n") or data.count(b"\r\n\r\n") or 1


class Splitter:
    """Cuts arriving bytes into complete events, and holds the beginning of an incomplete one.

    limit_bytes: the largest event. A larger one raises ValueError, so that an upstream that never ends an event cannot
    fill the memory.
    """

    __slots__ = ("_held", "_size", "limit_bytes")

    def __init__(self, limit_bytes: int = 16 * 1024 * 1024) -> None:
        self._held: list[bytes] = []
        self._size = 0
        self.limit_bytes = limit_bytes

    @property
    def tail(self) -> bytes:
        """The bytes of an event that has not ended."""
        return b"".join(self._held)

    @property
    def holds(self) -> bool:
        """Whether the beginning of an event is held."""
        return bool(self._held)

    def feed(self, data: bytes) -> bytes:
        """Returns all events that are complete now, as one block of raw bytes; b"" if there is none.

        A block ending in a lone CR waits for the next byte: it may be half of a CRLF.
        """
        if not self._held and data.endswith(b"\n\n"):
            return data
        return self._slow(data)

    def _slow(self, data: bytes) -> bytes:
        """Joins the held pieces only if an event may end here: a large event comes in many pieces."""
        edge = b"".join(self._held[-4:])[-3:] + data if self._held else data
        if not _last_end(edge):
            self._hold(data)
            return b""
        block = b"".join((*self._held, data))
        cut = _last_end(block)
        self._held, self._size = [], 0
        self._hold(block[cut:])
        return block[:cut]

    def _hold(self, data: bytes) -> None:
        if data:
            self._held.append(data)
            self._size += len(data)
        if self._size > self.limit_bytes:
            raise ValueError(f"a server-sent event is larger than {self.limit_bytes} bytes")


def _last_end(block: bytes) -> int:
    cut = block.rfind(b"\n\n")
    cut = cut + 2 if cut >= 0 else 0
    if b"\r" not in block:
        return cut
    for end in (b"\r\n\r\n", b"\n\r\n", b"\r\n\n"):
        at = block.rfind(end)
        cut = max(cut, at + len(end) if at >= 0 else 0)
    at = block.rfind(b"\r\r", 0, len(block) - 1)  # a last CR may be half of a CRLF
    return max(cut, at + 2 if at >= 0 else 0)


def events(block: bytes) -> Iterator[Event]:
    """The complete events of a block; what follows the last blank line is left out.

    Comments and unknown fields stay in `raw` and do not appear in `data`.
    """
    start = 0
    for match in _END.finditer(block):
        if match.start() >= start:
            raw = block[start : match.end()]
            start = match.end()
            yield parse(raw)


def parse(raw: bytes) -> Event:
    """Parses one event. The space after a colon is optional; several data lines are joined by LF."""
    data: list[bytes] = []
    name = b""
    for line in _LINE.split(raw):
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return Event(raw, b"\n".join(data), name)
