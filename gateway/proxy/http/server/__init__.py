"""The clients' side of HTTP: one connection after another, without a scope, a message or a task that is not needed.

uvicorn runs the process, its sockets and its signals; what is here is its `http` setting. Calls of the hot path are
handed to the App as they are; everything else becomes ASGI.
"""

from __future__ import annotations

import socket
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from gateway.proxy.http.client import Headers
from gateway.proxy.http.write_batching import WriteBatcher
from gateway.proxy.relay.progress import CallContext, ClientConnection
from gateway.proxy.request.endpoints import Endpoint


class HttpRequest(Protocol):
    """A request, as the hot path needs it.

    path, query: as on the wire. headers: in order, names in lower case; fields: the last of each.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: Headers
    fields: Mapping[bytes, bytes]

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body. Raises TooLarge, before reading where content-length tells, and ClientGone."""
        ...

    async def receive(self) -> Any:
        """As ASGI's receive: the body in pieces as they come, then the client's leaving."""
        ...

    def watch(self, progress: CallContext) -> None:
        """From now on, a client that leaves cancels the task that makes its answer, unless that has ended."""
        ...

    def unwatch(self) -> None: ...


class DirectApp(Protocol):
    """An application that answers some requests without ASGI."""

    @property
    def outbox(self) -> WriteBatcher:
        """For the answers of all its connections."""
        ...

    def find(self, method: bytes, path: bytes) -> Endpoint | None: ...
    def answer(
        self, endpoint: Endpoint, request: HttpRequest, client: ClientConnection
    ) -> Coroutine[Any, Any, None]: ...


class UnsharedSocket(socket.socket):
    """A listening socket that no other worker has."""
