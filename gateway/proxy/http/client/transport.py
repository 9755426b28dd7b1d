"""The interface to upstream connections: one request out, one reply as it arrives. Knows HTTP, not providers."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.proxy.types import Headers

Slices = tuple[bytes | memoryview, ...]
"""A body in pieces, which are sent one after the other: joining a large one would copy all of it."""


@dataclass(slots=True)  # not frozen: built for every call, and a frozen dataclass costs more to fill
class UpstreamRequest:
    """One HTTP request, ready to be written. Only the relay and its transport assign to it after it is built."""

    method: bytes
    origin: str
    """"scheme://host:port", without a path."""
    path: bytes
    """The path with its query, as on the wire."""
    headers: Headers = field(default_factory=list)
    """The headers without host, content-length, transfer-encoding and connection, which the transport adds."""
    body: bytes | Slices | AsyncIterable[bytes] = b""
    """A body that is an iterator can be sent only once, so its request is never repeated."""
    length: int | None = None
    """The length of a streamed body in bytes; None means that it is sent chunked. It is not used for slices."""
    stream: bool = False
    """The reply is a stream: its first bytes should arrive as soon as possible."""
    connecting: bool = False
    """Whether its connection is still being opened, so that nothing was written. Not every transport sets it."""
    recorded: bytes = b""
    """The body to record in place of `body`: the client's, in its own API, where it was translated; b"" if it was
    not.
    """
    more: tuple[UpstreamRequest, ...] = ()
    """Further requests of the same attempt, whose answers are read together with this one's."""
    losses: str = ""
    """The parts of the client's request that the upstream's API cannot express, by name."""

    def to(self, origin: str, path: bytes, headers: Headers) -> UpstreamRequest:
        """The same request to another address, by one call: `replace` takes eight times as long."""
        return UpstreamRequest(
            self.method, origin, path, headers, self.body, self.length, self.stream, self.connecting, self.recorded,
            self.more, self.losses,
        )  # fmt: skip

    def join(self) -> bytes | AsyncIterable[bytes]:
        """Makes one object of a body in slices, and returns the body."""
        body = self.body
        if isinstance(body, tuple):
            self.body = body = b"".join(body)
        return body


class UpstreamReply(Protocol):
    """A reply whose head has arrived."""

    status: int
    headers: Headers
    sink: Callable[[bytes], bool] | None
    """Called with the bytes that arrive while chunk() is being waited for; returns whether it has taken them. Saves a
    task switch. It must not raise. A transport may ignore it."""

    async def chunk(self) -> bytes:
        """Body bytes as they arrive; b"" at the end, and on every later call.

        Raises BodyCut if the connection ends before the body, BadResponse if the bytes are not HTTP.
        """
        ...

    def complete_body(self) -> bytes | None:
        """The body, if all of it has arrived and chunk() was not called; otherwise None. Never waits."""
        ...

    def close(self) -> None:
        """Idempotent; never raises and never waits.

        After a complete body the connection is already back in its pool. Before, this closes the socket, which tells
        the upstream that the client has left.
        """
        ...


class Transport(Protocol):
    """Carries requests over connections."""

    async def send(self, request: UpstreamRequest, connect_s: float) -> UpstreamReply:
        """Returns when the reply's head has arrived.

        Raises ConnectFailed or ConnectTimeout (nothing was sent), ConnectionLost (no head arrived) or BadResponse. If a
        reused connection turns out to be dead before any byte of the reply, the request is repeated once on a new one.
        `connect_s` is the only timeout: callers cancel, and cancellation closes the socket.
        """
        ...

    async def aclose(self) -> None: ...


class UpgradeRefused(Exception):
    """The upstream has answered the handshake by HTTP."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(f"HTTP {status} in answer to a WebSocket handshake")
        self.status = status
        self.headers = headers
        self.body = body
