"""The clients' side of HTTP: one connection after another, without a scope, a message or a task that is not needed.

uvicorn runs the process, its sockets and its signals; what is here is its `http` setting. Calls of the hot path are
handed to the App as they are; everything else becomes ASGI.
"""

from __future__ import annotations

import socket
from collections.abc import Coroutine
from typing import Any, Protocol

from gateway.proxy.http.write_batching import WriteBatcher
from gateway.proxy.request.endpoints import Endpoint
from gateway.proxy.types import ClientConnection, HttpRequest


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
