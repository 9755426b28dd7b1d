"""Types that every layer of the proxy shares: headers, and a client's request and connection as the hot path sees them.

Nothing here does I/O. Sockets and HTTP are in `proxy/http`; the content of requests is in `proxy/request`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from gateway.core.errors import TooLarge

Headers = list[tuple[bytes, bytes]]
"""Header fields in their order on the wire; names in lower case."""

Receive = Callable[[], Awaitable[Any]]
"""ASGI's receive."""

Send = Callable[[Any], Awaitable[None]]
"""ASGI's send."""


class ClientGone(Exception):
    """The client left before its request was complete."""


class CallEnded(Exception):
    """The call has been answered, and nothing more is to be sent: a guard has refused it."""


def too_large(limit_bytes: int) -> TooLarge:
    """The error for a request body above the limit: known here, because forms and servers both meet one."""
    return TooLarge(
        f"the request body is above the limit of {limit_bytes / 1e6:g} MB (limits.max_body_mb)", retry=False
    )


class HttpRequest(Protocol):
    method: bytes
    path: bytes
    """The path as on the wire, without the query."""
    query: bytes
    """The query as on the wire, without the question mark; b"" when there is none."""
    headers: Headers
    peer: str
    """The address of the connection's other end; "" if it has none."""
    fields: Mapping[bytes, bytes]
    """The headers by name; of a repeated header, the last value."""
    holder: str
    """The name of the key that its body is counted for; "" if it is not known yet."""
    task: asyncio.Task[Any] | None
    """The task that answers it; None if it is to be asked for, which before Python 3.12 takes two system calls."""

    async def body(self, limit_bytes: int) -> bytes:
        """The complete body. Raises ClientGone, and TooLarge: before reading, if content-length exceeds the limit."""
        ...

    def hold(self, size: int) -> None:
        """Counts further bytes of its body, which is being decompressed, in the memory of all bodies.

        Raises Overloaded if they are too many. They are no longer counted once the request has been answered."""
        ...

    async def receive(self) -> Any:
        """Returns messages like ASGI's receive: the body in pieces as they arrive, then the disconnect."""
        ...

    def watch(self, on_client_gone: Callable[[], None]) -> None:
        """Calls `on_client_gone` once, when the client leaves; at once if it has left already. Call after the body."""
        ...

    def unwatch(self) -> None:
        """Ends the watch. Safe to call without one."""
        ...


class ClientConnection(Protocol):
    """The connection on which one response goes to the client."""

    started: bool
    """Whether the response's head has been sent, so that the call can no longer be answered by another target or with
    an error."""

    @property
    def writable(self) -> bool:
        """Whether the connection's buffer has space, so that `write_nowait` may be called."""
        ...

    def start(self, status: int, headers: Headers, length: int | None = None, extra_lines: bytes = b"") -> None:
        """Sets the response's head, which is sent together with the first bytes of the body.

        headers: without content-length. length: of the body, in bytes; None if it is not known yet.
        extra_lines: further header lines as on the wire, without the last line break.
        """
        ...

    async def write(self, data: bytes) -> None: ...

    def write_nowait(self, data: bytes) -> None:
        """Writes like write(), without waiting. Only while `writable`."""
        ...

    async def end(self, data: bytes = b"") -> None: ...

    async def end_nowait(self, data: bytes) -> None:
        """Ends a broken response with these last bytes. Never waits: a client that does not read is disconnected."""
        ...


class DetachedClient:
    """A ClientConnection without a client: a shadow's response is only recorded."""

    __slots__ = ("started",)

    def __init__(self) -> None:
        self.started = False

    @property
    def writable(self) -> bool:
        return True

    def start(self, status: int, headers: Headers, length: int | None = None, extra_lines: bytes = b"") -> None:
        self.started = True

    async def write(self, data: bytes) -> None:
        pass

    def write_nowait(self, data: bytes) -> None:
        pass

    async def end(self, data: bytes = b"") -> None:
        pass

    async def end_nowait(self, data: bytes) -> None:
        pass


class GuardedExchange(Protocol):
    """The guards' actions on one call, as the end of the call sees them."""

    def restart(self) -> str | None:
        """The text of a stream that has been sent, from which another answer continues; None if nothing is held."""
        ...

    def answered(self) -> bool:
        """Called once, when the response has ended. Returns whether the record has to wait for a judgement."""
        ...

    async def settled(self) -> None:
        """Waits for the judgements that nothing else waits for."""
        ...

    def record_rate(self) -> tuple[float, str]:
        """The probability with which the call is recorded, at least, and the guard that says so; 0 if no guard does."""
        ...

    def to_json(self) -> str | None:
        """The decisions, for the record; None if there are none."""
        ...


class PausableDeadline(Protocol):
    """A deadline that can be suspended while the gateway waits for the client, not for the upstream."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
