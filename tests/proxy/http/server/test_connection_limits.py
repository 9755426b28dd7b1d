"""A process keeps a bounded number of connections, and says why it refuses another."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from gateway.core.errors import GatewayError
from gateway.proxy.http.server.connection_limits import MOST, ConnectionLimits, default_limit


def limited(most: int | None, from_one: int | None = None, **more: Any) -> ConnectionLimits:
    return ConnectionLimits(lambda: (most, from_one), **more)


def test_a_connection_above_the_limit_is_refused_until_one_closes() -> None:
    refused: list[GatewayError] = []
    limits = limited(2, on_refused=refused.append)
    assert limits.admit("a") is limits.admit("b") is None
    error = limits.admit("c")
    assert error is not None
    assert (error.status, error.code) == (503, "too_many_connections")
    assert refused == [error]
    limits.closed("c", admitted=False)
    assert limits.open == 2
    limits.closed("a", admitted=True)
    assert limits.admit("c") is None


def test_an_address_has_a_limit_of_its_own() -> None:
    limits = limited(None, 1)
    assert limits.admit("a") is limits.admit("b") is None
    assert limits.admit("a") is not None
    limits.closed("a", admitted=True)
    assert limits.admit("a") is None


def test_only_some_refused_connections_wait_for_their_client() -> None:
    limits = limited(1)
    limits.admit("a")
    for _ in range(1000):
        limits.admit("a")
    assert not limits.can_explain()
    for _ in range(1000):
        limits.closed("a", admitted=False)
    assert limits.can_explain()


@pytest.mark.parametrize(("files", "most"), [(1024, 462), (100, 16), (1 << 20, MOST), (resource.RLIM_INFINITY, MOST)])
def test_the_default_leaves_files_for_the_upstreams(monkeypatch: pytest.MonkeyPatch, files: int, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert default_limit() == most


async def test_a_server_says_that_it_is_full_and_recovers(talk: Any) -> None:
    class App:
        connections = limited(1)

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    app = App()
    line = await talk(app)
    await line.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"204" in await line.until(b"\r\n\r\n")
    for _ in range(3):
        another = await line.another()
        refused = await another.rest()
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"too_many_connections" in refused
        assert b"retry-after: 1\r\n" in refused
        another.writer.close()
    line.writer.close()
    while app.connections.open:
        await line.pause()
    third = await line.another()
    await third.say(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"204" in await third.rest()
    third.writer.close()
