"""One HTTP request as it arrives, and the report that its client has left. No sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Protocol

from gateway.proxy.http.server.connection_limits import BodyMemory
from gateway.proxy.types import ClientGone, Headers, too_large

SMALL_BYTES = (
    512  # a piece below this is copied into the previous one: an object for each would take many times its size
)
COUNTED_BYTES = 64 * 1024  # a body above this is counted in the memory of all bodies
COLLECTED_BYTES = 64 * 1024  # ... up to this size

ASSEMBLED_BYTES = 256 * 1024  # a body above this is assembled while it arrives, in a buffer of its length: one copy


class BodySource(Protocol):
    """The part of a connection that a request needs."""

    loop: asyncio.AbstractEventLoop
    memory: BodyMemory | None
    """The count of all bodies; None means that they are not counted."""
    peer: str
    """The client's address; "" if it has none."""

    def read_more(self) -> None:
        """Reads more of the body; sends 100 Continue first if the client waits for it."""
        ...


class ServerRequest:
    """A request whose head has arrived; the connection adds its body. See HttpRequest for the shared attributes."""

    __slots__ = (
        "_assembled",
        "_end_received",
        "_loop",
        "_on_client_gone",
        "_pieces",
        "_source",
        "_taken",
        "_waiter",
        "closed",
        "complete",
        "fields",
        "gone",
        "headers",
        "held",
        "holder",
        "http10",
        "keep_alive",
        "method",
        "path",
        "peer",
        "query",
        "size",
        "task",
        "wanted",
    )

    def __init__(
        self,
        source: BodySource,
        method: bytes,
        path: bytes,
        query: bytes,
        headers: Headers,
        *,
        keep_alive: bool,
        http10: bool,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.peer = source.peer
        self.fields: Mapping[bytes, bytes] = dict(headers)
        self.keep_alive = keep_alive  # the client may send another request on this connection
        self.http10 = http10
        self.complete = False
        self.wanted = False  # body() is waiting for the complete body, so reading need not pause
        self.gone = False  # the client has left
        self.closed = False  # it has been answered
        self.size = 0  # bytes of the body so far
        self.holder = ""
        self.task: asyncio.Task[Any] | None = None
        self.held = 0  # of these, bytes not taken by receive() yet
        self._source = source
        self._taken = 0  # bytes counted in the memory of all bodies
        self._loop = source.loop
        self._pieces: list[bytes | bytearray] = []  # the first is never a bytearray
        self._assembled: BytesIO | None = None  # a buffer of the body's full length, filled from its start
        self._end_received = False  # receive() has returned the end of the body
        self._waiter: asyncio.Future[None] | None = None
        self._on_client_gone: Callable[[], None] | None = None

    async def body(self, limit_bytes: int) -> bytes:
        fields = self.fields
        length = int(fields[b"content-length"]) if b"content-length" in fields else self.size
        if length > limit_bytes:
            raise too_large(limit_bytes)
        if length > COUNTED_BYTES:
            self.hold(length)
        if not self.complete:
            self.wanted = True
            if length > ASSEMBLED_BYTES:
                self._assembled = BytesIO(bytes(length))  # the kernel allocates memory as it is written
                self._assembled.writelines(self._pieces)
                self._pieces = []
            while not self.complete and self.size <= limit_bytes:
                await self._more()
                if self.size - self._taken > COUNTED_BYTES:  # its length was not announced
                    self.hold(self.size - self._taken)
        if self.size > limit_bytes:
            raise too_large(limit_bytes)
        pieces, assembled = self._pieces, self._assembled
        if assembled is not None:
            return assembled.getvalue()  # without a copy
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)  # type: ignore[return-value]  # the first is bytes

    def hold(self, size: int) -> None:
        """Counts bytes in the memory of all bodies, until release(). Raises Overloaded if they are too many."""
        if self._source.memory is not None:
            self._source.memory.take(size, self.holder)
            self._taken += size

    def release(self) -> None:
        """Releases the body's bytes. Idempotent."""
        if self._taken and self._source.memory is not None:
            self._source.memory.give_back(self._taken, self.holder)
            self._taken = 0

    async def receive(self) -> dict[str, Any]:
        try:
            while not self._pieces and not self.closed and (self._end_received or not self.complete):
                await self._more()
        except ClientGone:
            return {"type": "http.disconnect"}
        if self.gone or self.closed or self._end_received:
            return {"type": "http.disconnect"}
        body, self._pieces, self.held = b"".join(self._pieces), [], 0
        self._end_received = self.complete
        return {"type": "http.request", "body": body, "more_body": not self.complete}

    def watch(self, on_client_gone: Callable[[], None]) -> None:
        self._on_client_gone = on_client_gone
        if self.gone:
            on_client_gone()

    def unwatch(self) -> None:
        self._on_client_gone = None

    def add(self, piece: bytes) -> None:
        size = len(piece)
        self.size += size
        if not self.closed:  # once answered, the rest is read only to find the next request
            self.held += size
            if self._assembled is not None:
                self._assembled.write(piece)
            elif not self._pieces:
                self._pieces = [piece]
            elif size < SMALL_BYTES:
                self._collect(piece)
            else:
                self._pieces.append(piece)

    def _collect(self, piece: bytes) -> None:
        last = self._pieces[-1]
        if isinstance(last, bytearray) and len(last) < COLLECTED_BYTES:
            last += piece
        else:
            self._pieces.append(bytearray(piece))

    @property
    def lacks(self) -> int:
        """Bytes of the body that have not arrived; 0 if none, or its length was not announced."""
        length = self.fields.get(b"content-length")
        return int(length) - self.size if length is not None else 0

    def wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def leave(self) -> None:
        """Called when the client disconnects."""
        self.gone = True
        self.wake()
        if self._on_client_gone is not None:
            self._on_client_gone()

    def close(self) -> None:
        """Called when the response is complete."""
        if self._taken:
            self.release()
        self.closed = True
        self._pieces = []
        self._assembled = None
        self.held = 0
        if self._waiter is not None:
            self.wake()

    async def _more(self) -> None:
        if self.gone:
            raise ClientGone
        self._source.read_more()
        self._waiter = self._loop.create_future()
        await self._waiter
        if self.gone:
            raise ClientGone
