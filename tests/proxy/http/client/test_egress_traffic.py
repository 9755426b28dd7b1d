"""A gateway behind an outbound proxy: calls and streams to a server with TLS, by the fast client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.fake import FakeUpstream


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def secure_port(upstream: FakeUpstream, certificates: Any) -> AsyncIterator[int]:
    """A port with TLS in front of the upstream."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = await asyncio.open_connection("127.0.0.1", upstream.port)
        await asyncio.gather(_pump(reader, far[1]), _pump(far[0], writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=certificates.server)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_calls_and_streams_pass_the_proxy(
    start, configured, upstream, second, proxy_double, certificates, secure_port
):
    config = configured(upstream, second)
    config["upstreams"]["u0"] |= {
        "base_url": f"https://localhost:{secure_port}/v1",
        "ca_file": str(certificates.ca),
        "proxy": proxy_double.url,
    }
    gateway = await start(config)
    assert gateway.gateway.config.upstreams["u0"].transport_name == "http1"
    for _ in range(3):
        assert (await gateway.chat()).headers["x-gateway-upstream"] == "u0"
    async with gateway.stream() as answer:
        assert (await answer.aread()).endswith(b"data: [DONE]\n\n")
    assert proxy_double.tunnels == [f"localhost:{secure_port}"], "one tunnel, which the calls share"
    assert len(upstream.calls) == 4
    proxy_double.answer = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
    again = await start(config)
    refused = await again.chat()
    assert refused.headers["x-gateway-upstream"] == "u1", "nothing was sent, so the fallback answers"
