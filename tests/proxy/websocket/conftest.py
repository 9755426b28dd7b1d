"""Clients of the Responses API over WebSocket, on a gateway as it runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

ENDS = ("response.completed", "response.incomplete", "response.failed", "error", "response.steer.failed")


@dataclass
class Socket:
    """One connection of a client that reads what comes, and sorts it by lane."""

    connection: ClientConnection
    events: list[dict[str, Any]] = field(default_factory=list)

    async def create(self, input: Any = "hi", **members: Any) -> None:
        await self.send({"type": "response.create", "model": "chat", "input": input, **members})

    async def send(self, message: Any) -> None:
        await self.connection.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            event: dict[str, Any] = json.loads(await self.connection.recv())
        self.events.append(event)
        return event

    async def until(self, *kinds: str, lane: str | None = None) -> dict[str, Any]:
        """The next event of one of these types in a lane."""
        while True:
            event = await self.next()
            if event["type"] in kinds and event.get("stream_id") == lane:
                return event

    async def answer(self, input: Any = "hi", *, lane: str | None = None, **members: Any) -> dict[str, Any]:
        """The event that ends the response to one message."""
        named = {} if lane is None else {"stream_id": lane}
        await self.create(input, **named, **members)
        return await self.until(*ENDS, lane=lane)

    async def closed(self) -> tuple[int, str]:
        """The code and the reason with which the gateway closes, after all events before."""
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    self.events.append(json.loads(await self.connection.recv()))
            await self.connection.wait_closed()
        assert self.connection.close_code is not None
        return self.connection.close_code, self.connection.close_reason or ""


Opened = Callable[..., Any]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """Opens WebSockets to gateways, and closes them after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def go(gateway: Any, key: str | None = "test-key", **options: Any) -> Socket:
            headers = dict(options.pop("headers", {})) | ({"authorization": f"Bearer {key}"} if key else {})
            url = gateway.base_url.replace("http://", "ws://") + "/responses"
            plain = {"compression": None, "proxy": None, "max_size": None, "open_timeout": 30, **options}
            return Socket(await stack.enter_async_context(connect(url, additional_headers=headers, **plain)))

        yield go


@pytest.fixture
async def ws(gateway: Any, opened: Opened) -> Socket:
    """One connection to a gateway in front of one upstream."""
    found: Socket = await opened(gateway)
    return found
