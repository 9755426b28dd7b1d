"""Clients of the Responses API over WebSocket, on a gateway as it runs, and an upstream that has WebSockets too."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
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
            plain = dict.fromkeys(("compression", "proxy", "max_size", "max_queue")) | {"open_timeout": 30, **options}
            return Socket(await stack.enter_async_context(connect(url, additional_headers=headers, **plain)))

        yield go


@pytest.fixture
async def ws(gateway: Any, opened: Opened) -> Socket:
    """One connection to a gateway in front of one upstream."""
    found: Socket = await opened(gateway)
    return found


class SocketUpstream:
    """A server with OpenAI's WebSocket mode, and nothing else. It keeps the latest response of each connection."""

    def __init__(self) -> None:
        self.base_url = ""
        self.received: list[tuple[int, dict[str, Any]]] = []
        """Each message, with the number of its connection."""
        self.handshakes: list[dict[str, str]] = []
        self.left = 0
        """Connections that ended during a response."""
        self.refuses: HTTPStatus | None = None
        """The answer to each handshake; None if it is taken."""
        self.first: list[dict[str, Any]] = []
        """Events that are sent in place of the next responses, one each."""
        self.cuts = False
        """Each response ends with its connection, after the first text."""
        self.held = asyncio.Event()
        self.held.set()
        """Responses stop after their first text while it is not set."""
        self.open: list[ServerConnection] = []

    def greet(self, connection: ServerConnection, request: Any) -> Any:
        self.handshakes.append({name.lower(): value for name, value in request.headers.raw_items()})
        return None if self.refuses is None else connection.respond(self.refuses, '{"error": {"message": "no"}}')

    async def run(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._run(connection)

    async def _run(self, connection: ServerConnection) -> None:
        self.open.append(connection)
        number, latest = len(self.open), ""
        async for text in connection:
            message = json.loads(text)
            self.received.append((number, message))
            if self.first:
                await connection.send(json.dumps(self.first.pop(0)))
                continue
            previous = message.get("previous_response_id")
            if previous is not None and previous != latest:
                await connection.send(json.dumps(not_found(previous)))
                continue
            latest = f"resp_{len(self.received)}"
            try:
                await self.respond(connection, latest)
            except ConnectionClosed:
                self.left += 1
                return

    async def respond(self, connection: ServerConnection, response_id: str) -> None:
        words = f"answer {len(self.received)}"
        content = [{"type": "output_text", "text": words}]
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
        usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
        done = {"id": response_id, "object": "response", "status": "completed", "output": [item], "usage": usage}
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": done | {"status": "in_progress", "output": [], "usage": None}},
            {"type": "response.output_text.delta", "delta": words},
        ]
        for event in events:
            await connection.send(json.dumps(event))
        if self.cuts:
            await connection.close(1011, "out of order")
            return
        if not self.held.is_set():
            waits = [
                asyncio.get_running_loop().create_task(wait) for wait in (connection.wait_closed(), self.held.wait())
            ]
            await asyncio.wait(waits, return_when="FIRST_COMPLETED")
            for wait in waits:
                wait.cancel()
        await connection.send(json.dumps({"type": "response.output_item.done", "item": item}))
        await connection.send(json.dumps({"type": "response.completed", "response": done}, indent=1))


def not_found(previous: str) -> dict[str, Any]:
    text = f"Previous response with id '{previous}' not found."
    error = {"type": "invalid_request_error", "code": "previous_response_not_found", "message": text}
    return {"type": "error", "status": 400, "error": error | {"param": "previous_response_id"}}


@pytest.fixture
async def double() -> AsyncIterator[SocketUpstream]:
    """A running double with WebSockets."""
    found = SocketUpstream()
    async with serve(found.run, "127.0.0.1", 0, process_request=found.greet, compression=None) as server:
        found.base_url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v1"
        yield found
        found.held.set()
