"""A server of our protocol on a real socket, in front of any ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from gateway.proxy.http.server.protocol import HttpProtocol


@dataclass
class Talk:
    """One connection to it, by hand."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: uvicorn.Server

    async def stop_listening(self) -> None:
        """Stops the server; returns once it has stopped listening and has notified its connections."""
        self.server.should_exit = True
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                while True:
                    _, writer = await asyncio.open_connection(*self.writer.get_extra_info("peername"))
                    writer.close()

    async def another(self) -> Talk:
        """Another connection to the same server."""
        reader, writer = await asyncio.open_connection(*self.writer.get_extra_info("peername"))
        return Talk(reader, writer, self.server)

    async def pause(self) -> None:
        await asyncio.sleep(0.005)

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        came = b""
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    came += data
        return came

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(60):
            return await self.reader.readuntil(end)


Talking = Callable[..., Any]


@pytest.fixture
async def talk() -> AsyncIterator[Talking]:
    """Serves an application, with these limits in place of the protocol's own, and opens one connection to it."""
    async with contextlib.AsyncExitStack() as stack:

        async def go(app: Any, **limits: Any) -> Talk:
            keep_alive_s = limits.pop("keep_alive_s", 5)
            kind = type("Limited", (HttpProtocol,), limits)
            config = uvicorn.Config(
                app,
                http=kind,
                lifespan="off",
                log_config=None,
                proxy_headers=False,
                port=0,
                timeout_keep_alive=keep_alive_s,
            )
            server = uvicorn.Server(config)
            sock = stack.enter_context(contextlib.closing(config.bind_socket()))
            serving = asyncio.get_running_loop().create_task(server._serve([sock]))

            async def stop() -> None:
                server.should_exit = True
                await serving

            stack.push_async_callback(stop)
            while not server.started:
                await asyncio.sleep(0.002)
            reader, writer = await asyncio.open_connection("127.0.0.1", sock.getsockname()[1])
            stack.callback(writer.close)
            return Talk(reader, writer, server)

        yield go
