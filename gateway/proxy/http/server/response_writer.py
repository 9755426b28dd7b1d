"""Writes one answer on a connection: its head and first bytes in one write, the dearest part of writing it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

from gateway.proxy.types import Headers

STATUS_LINES = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode() if status in set(HTTPStatus) else b"")
    for status in range(100, 600)
}


class WriterConnection(Protocol):
    """The connection, as an answer needs it. paused: its buffer is full; gone: nobody reads any more."""

    paused: bool
    gone: bool

    @property
    def common(self) -> bytes:
        """The header lines of every answer."""
        ...

    def put(self, data: bytes, *, last: bool = False) -> None:
        """last: nothing of this answer follows, so that it may wait for those of others."""
        ...

    async def drain(self) -> None: ...
    def abort(self) -> None: ...
    def answered(self, *, keep: bool) -> None:
        """The answer is whole. keep: the connection may carry another."""
        ...


class ResponseWriter:
    """See Client. bodiless: to a HEAD. chunks: False for HTTP/1.0, whose clients know none; then the end is the close.

    Raises ValueError for a line break in a header, and for a body that has another length than was said: what came of
    it never looks whole.
    """

    __slots__ = ("_bodiless", "_chunked", "_chunks", "_head", "_keep", "_left", "_line", "ended", "started")

    def __init__(self, line: WriterConnection, *, keep: bool, bodiless: bool, chunks: bool) -> None:
        self.started = False
        self.ended = False
        self._line = line
        self._keep = keep
        self._bodiless = bodiless
        self._chunks = chunks
        self._chunked = False
        self._left: int | None = None  # of a body whose length was said; None: nobody knows where it ends
        self._head = b""

    def last(self) -> None:
        """The connection carries no further answer."""
        self._keep = False

    def start(self, status: int, headers: Headers, length: int | None = None, extra_lines: bytes = b"") -> None:
        lines = [*map(b": ".join, headers)]
        foreign = b"\r\n".join(lines)
        breaks = len(lines) - 1 if lines else 0
        if foreign.count(b"\n") != breaks or foreign.count(b"\r") != breaks:
            raise ValueError("a line break in a response header")
        self.started = True
        if extra_lines:
            lines.append(extra_lines)
        if length is not None:
            self._left = length
            lines.append(b"content-length: %d" % length)
        elif status in (204, 304) or self._bodiless:
            self._bodiless = True
        elif self._chunks:
            self._chunked = True
            lines.append(b"transfer-encoding: chunked")
        else:
            self._keep = False
        if not self._keep:
            lines.append(b"connection: close")
        lines.append(b"\r\n")
        self._head = b"".join((STATUS_LINES[status], self._line.common, b"\r\n".join(lines)))

    @property
    def writable(self) -> bool:
        return not (self._line.paused or self._line.gone)

    async def write(self, data: bytes) -> None:
        line = self._line
        if line.paused:
            await line.drain()
        if not line.gone:
            self.write_nowait(data)

    async def end(self, data: bytes = b"") -> None:
        line = self._line
        if line.paused:
            await line.drain()
        if not line.gone:
            self._finish(data)

    async def end_nowait(self, data: bytes) -> None:
        if self._line.paused:
            self._line.abort()
        elif not self._line.gone:
            self._finish(data)

    def write_nowait(self, data: bytes) -> None:
        if self._bodiless:
            data = b""
        elif self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        else:
            self._count(data)
        head, self._head = self._head, b""
        if head or data:
            self._line.put(head + data if head else data)

    def _finish(self, data: bytes) -> None:
        if self._bodiless:
            data = b""
        elif self._chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        else:
            self._count(data)
            if self._left:
                raise ValueError("the response is shorter than its content-length")
        head, self._head = self._head, b""
        self.ended = True
        self._line.put(head + data if head else data, last=True)
        self._line.answered(keep=self._keep)

    def _count(self, data: bytes) -> None:
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise ValueError("the response is longer than its content-length")
