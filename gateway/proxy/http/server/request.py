"""One HTTP request as it arrives, and who looks whether its client is still there. Knows no socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Protocol

from gateway.proxy.request.upload import too_large
from gateway.proxy.types import ClientGone, Headers

MOLD = 256 * 1024  # a body above it is put together while it comes: once, into memory of its length


class BodySource(Protocol):
    """The connection, as a request needs it."""

    loop: asyncio.AbstractEventLoop

    def go_on(self) -> None:
        """More of the body is wanted: says 100 Continue where the client waits for it, and reads on."""
        ...


class ServerRequest:
    """A request whose head has come. What follows of its body is added by the connection.

    path, query: as on the wire. headers: in order, names in lower case; fields: the last of each. keep: the client
    would send another on this connection. old: HTTP/1.0. size: of the body so far; held: of it, what nobody has taken.
    wanted: somebody waits for the whole body, so that reading need not pause. gone: the client has left. closed: it has
    been answered.
    """

    __slots__ = (
        "_loop", "_mold", "_on_client_gone", "_pieces", "_source", "_told", "_waiter", "closed", "fields", "gone",
        "headers", "held", "keep", "method", "old", "path", "query", "size", "wanted", "whole",
    )  # fmt: skip

    def __init__(
        self, source: BodySource, method: bytes, path: bytes, query: bytes, headers: Headers, *, keep: bool, old: bool
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.fields: Mapping[bytes, bytes] = dict(headers)
        self.keep = keep
        self.old = old
        self.whole = self.wanted = self.gone = self.closed = False
        self.size = self.held = 0
        self._source = source
        self._loop = source.loop
        self._pieces: list[bytes] = []
        self._mold: BytesIO | None = None  # of the whole body's length; what has come is in its beginning
        self._told = False  # receive() has given the body's end
        self._waiter: asyncio.Future[None] | None = None
        self._on_client_gone: Callable[[], None] | None = None

    # ── whoever answers it ──

    async def body(self, limit_bytes: int) -> bytes:
        length = self.fields.get(b"content-length")
        if length is not None and int(length) > limit_bytes:
            raise too_large(limit_bytes)
        if not self.whole:
            self.wanted = True
            if length is not None and int(length) > MOLD:
                self._mold = BytesIO(bytes(int(length)))  # the kernel gives memory as it is written
                self._mold.writelines(self._pieces)
                self._pieces = []
            while not self.whole and self.size <= limit_bytes:
                await self._more()
        if self.size > limit_bytes:
            raise too_large(limit_bytes)
        pieces, mold = self._pieces, self._mold
        if mold is not None:
            return mold.getvalue()  # no copy: it is whole
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def receive(self) -> dict[str, Any]:
        try:
            while not self._pieces and not self.closed and (self._told or not self.whole):
                await self._more()
        except ClientGone:
            return {"type": "http.disconnect"}
        if self.gone or self.closed or self._told:
            return {"type": "http.disconnect"}
        body, self._pieces, self.held = b"".join(self._pieces), [], 0
        self._told = self.whole
        return {"type": "http.request", "body": body, "more_body": not self.whole}

    def watch(self, on_client_gone: Callable[[], None]) -> None:
        self._on_client_gone = on_client_gone
        if self.gone:
            on_client_gone()

    def unwatch(self) -> None:
        self._on_client_gone = None

    # ── the connection ──

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if not self.closed:  # answered already: the rest is read only to find the next request
            self.held += len(piece)
            if self._mold is None:
                self._pieces.append(piece)
            else:
                self._mold.write(piece)

    def wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def leave(self) -> None:
        """The client has left."""
        self.gone = True
        self.wake()
        if self._on_client_gone is not None:
            self._on_client_gone()

    def close(self) -> None:
        """It has been answered."""
        self.closed = True
        self._pieces = []
        self._mold = None
        self.held = 0
        self.wake()

    async def _more(self) -> None:
        if self.gone:
            raise ClientGone
        self._source.go_on()
        self._waiter = self._loop.create_future()
        await self._waiter
        if self.gone:
            raise ClientGone
