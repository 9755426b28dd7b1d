"""The request that one `response.create` becomes, as the hot path reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gateway.proxy.http.server.connection_limits import BodyMemory
from gateway.proxy.http.server.request import COUNTED_BYTES
from gateway.proxy.types import Headers, too_large

if TYPE_CHECKING:
    from gateway.proxy.websocket.handshake import UpgradeRequest

METHOD, PATH = b"POST", b"/v1/responses"


class CreateRequest:
    """An HttpRequest whose body is complete. Its headers are those of the connection's upgrade."""

    __slots__ = ("_body", "_memory", "_on_client_gone", "_taken", "fields", "gone", "headers", "holder", "method",
                 "path", "peer", "query", "task")  # fmt: skip

    def __init__(self, upgrade: UpgradeRequest, body: bytes, memory: BodyMemory | None) -> None:
        self.method = METHOD
        self.path = PATH
        self.query = upgrade.query
        self.headers: Headers = upgrade.headers
        self.fields: Mapping[bytes, bytes] = upgrade.fields
        self.peer = upgrade.peer
        self.holder = ""
        self.task: asyncio.Task[Any] | None = None
        self.gone = False
        self._body = body
        self._memory = memory
        self._taken = 0
        self._on_client_gone: Callable[[], None] | None = None

    async def body(self, limit_bytes: int) -> bytes:
        body, self._body = self._body, b""
        if len(body) > limit_bytes:
            raise too_large(limit_bytes)
        if len(body) > COUNTED_BYTES:
            self.hold(len(body))
        return body

    def hold(self, size: int) -> None:
        if self._memory is not None:
            self._memory.take(size, self.holder)
            self._taken += size

    def release(self) -> None:
        """The body is no longer held. Idempotent."""
        if self._memory is not None and self._taken:
            self._memory.give_back(self._taken, self.holder)
            self._taken = 0

    async def receive(self) -> Any:
        return {"type": "http.disconnect"}

    def watch(self, on_client_gone: Callable[[], None]) -> None:
        self._on_client_gone = on_client_gone
        if self.gone:
            on_client_gone()

    def unwatch(self) -> None:
        self._on_client_gone = None

    def leave(self) -> None:
        """The client has left."""
        self.gone = True
        if self._on_client_gone is not None:
            self._on_client_gone()
