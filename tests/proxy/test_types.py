"""The shared types that do something."""

from __future__ import annotations

from gateway.proxy.types import DetachedClient


async def test_a_detached_client_starts_and_takes_everything() -> None:
    client = DetachedClient()
    assert client.writable
    await client.write(b"x")
    assert not client.started
    client.start(200, [])
    client.write_nowait(b"y")
    await client.end(b"z")
    assert client.started
