"""Writes one response on a connection. Its head and first bytes share one write, because writes are expensive."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

from gateway.proxy.types import Headers

STATUS_LINES = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode() if status in set(HTTPStatus) else b"")
    for status in range(100, 600)
}


class WriterConnection(Protocol):
    """The part of a connection that a response needs."""

    paused: bool
    """The write buffer is full."""
    gone: bool
    """The client has disconnected."""

    @property
    def common(self) -> bytes:
        """The header lines of every response."""
        ...

    def put(self, data: bytes, *, last: bool = False) -> None:
        """last: the response ends here, so the write may be batched with those of other connections."""
        ...

    def unending(self) -> None:
        """The response has begun, with a length that is not known."""
        ...

    async def drain(self) -> None: ...
    def abort(self) -> None: ...
    def answered(self, *, keep: bool) -> None:
        """The response is complete. keep: the connection may carry another."""
        ...


class ResponseWriter:
    """A ClientConnection that writes HTTP/1.1.

    bodiless: the request was a HEAD. chunks: False for HTTP/1.0 clients, which do not know chunked encoding; then the
    end of the connection ends the response. Raises ValueError for a line break in a header, and for a body of another
    length than announced: such a response never looks complete.
    """

    __slots__ = (
        "_bodiless",
        "_chunked",
        "_chunks",
        "_connection",
        "_head",
        "_keep",
        "_left",
        "ended",
        "more_headers",
        "started",
        "writable",
    )

    def __init__(self, connection: WriterConnection, *, keep: bool, bodiless: bool, chunks: bool) -> None:
        self.started = False
        self.ended = False
        self.more_headers: Headers = []
        """Headers after those that start() is given."""
        self.writable = not (connection.paused or connection.gone)
        """Whether the transport takes more bytes; kept current by its connection."""
        self._connection = connection
        self._keep = keep
        self._bodiless = bodiless
        self._chunks = chunks
        self._chunked = False
        self._left: int | None = None  # bytes left of the announced length; None if no length was announced
        self._head = b""

    def close_after(self) -> None:
        """The connection carries no further response."""
        self._keep = False

    def start(self, status: int, headers: Headers, length: int | None = None, extra_lines: bytes = b"") -> None:
        if self.more_headers:
            headers = [*headers, *self.more_headers]
        lines = b"\r\n".join(map(b": ".join, headers)) + b"\r\n" if headers else b""
        breaks = len(headers)
        if lines.count(b"\n") != breaks or lines.count(b"\r") != breaks:
            raise ValueError("a line break in a response header")
        self.started = True
        if extra_lines:
            lines += extra_lines + b"\r\n"
        framing = b""
        if length is not None:
            self._left = length
            framing = b"content-length: %d\r\n" % length
        elif status in (204, 304) or self._bodiless:
            self._bodiless = True
        elif self._chunks:
            self._chunked = True
            self._connection.unending()
            framing = b"transfer-encoding: chunked\r\n"
        else:
            self._keep = False
        if not self._keep:
            framing += b"connection: close\r\n"
        elif not self._chunks:  # an HTTP/1.0 client that asked for it waits for the end of the connection otherwise
            framing += b"connection: keep-alive\r\n"
        self._head = b"%b%b%b%b\r\n" % (STATUS_LINES[status], self._connection.common, lines, framing)

    async def write(self, data: bytes) -> None:
        connection = self._connection
        if connection.paused:
            await connection.drain()
        if not connection.gone:
            self.write_nowait(data)

    async def end(self, data: bytes = b"") -> None:
        connection = self._connection
        if connection.paused:
            await connection.drain()
        if not connection.gone:
            self._finish(data)

    async def end_nowait(self, data: bytes) -> None:
        if self._connection.paused:
            self._connection.abort()
        elif not self._connection.gone:
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
            self._connection.put(head + data if head else data)

    def _finish(self, data: bytes) -> None:
        if self._bodiless:
            data = b""
        elif self._chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        elif self._left is not None and self._left != len(data):
            raise ValueError("the response has another length than its content-length")
        head, self._head = self._head, b""
        self.ended = True
        self._connection.put(head + data if head else data, last=True)
        self._connection.answered(keep=self._keep)

    def _count(self, data: bytes) -> None:
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise ValueError("the response is longer than its content-length")
