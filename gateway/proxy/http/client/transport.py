"""The seam between relay and wire: one request out, one reply as it arrives. Knows HTTP, not vendors."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.proxy.types import Headers


@dataclass(slots=True)  # one a call: freezing it would cost more than filling it; nobody assigns to it
class UpstreamRequest:
    """One HTTP request, ready to be written.

    origin: "scheme://host:port" without a path. path: with its query, as bytes on the wire. headers: without host,
    content-length, transfer-encoding and connection: those are the transport's. body: bytes, or a stream; one that is
    an iterator can be sent only once (then nothing is retried). length: of a stream, in bytes; None: it goes in chunks.
    stream: the reply is read as it comes, so that its beginning should come soon.
    """

    method: bytes
    origin: str
    path: bytes
    headers: Headers = field(default_factory=list)
    body: bytes | AsyncIterable[bytes] = b""
    length: int | None = None
    stream: bool = False


class UpstreamReply(Protocol):
    """A reply whose head has come.

    chunk() gives body bytes as they arrive and b"" once, and for ever, at the end; it raises BodyCut when the
    connection ends before the body does, BadResponse when the bytes are not HTTP. whole() never waits: the body, where
    all of it has come and nothing was taken; else None, and chunk() gives it. close() is idempotent, never raises and
    never waits: after a whole body the connection has gone back to its pool already; before that it closes the socket,
    which is how an upstream learns that nobody listens. sink: asked first, while chunk() is waited for, whether it
    takes the bytes that have come, at once and without a task's turn; it must not raise. A transport need not ask it.
    """

    status: int
    headers: Headers
    sink: Callable[[bytes], bool] | None

    async def chunk(self) -> bytes: ...
    def whole(self) -> bytes | None: ...
    def close(self) -> None: ...


class Transport(Protocol):
    """Carries one request over a connection.

    send() returns when the head has come. It raises ConnectFailed or ConnectTimeout (nothing was sent),
    ConnectionLost (no head came) or BadResponse. A reused connection that turns out dead before any response byte is
    replaced once, transparently. It sets no limit of its own but `connect_s`: the caller cancels, and cancellation
    closes the socket.
    """

    async def send(self, request: UpstreamRequest, connect_s: float) -> UpstreamReply: ...
    async def aclose(self) -> None: ...
