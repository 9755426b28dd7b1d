"""The body of a message, as the hot path reads and counts it."""

from __future__ import annotations

import pytest

from gateway.core.errors import Overloaded, TooLarge
from gateway.proxy.http.server.connection_limits import BodyMemory
from gateway.proxy.websocket.create_request import CreateRequest
from gateway.proxy.websocket.handshake import UpgradeRequest

UPGRADE = UpgradeRequest(b"", [], {}, "")


async def test_a_large_body_is_counted_until_it_is_released() -> None:
    memory = BodyMemory(lambda: 150_000)
    first, second = (CreateRequest(UPGRADE, b"a" * 100_000, memory) for _ in range(2))
    assert len(await first.body(1_000_000)) == 100_000
    with pytest.raises(Overloaded):
        await second.body(1_000_000)
    first.release()
    first.release()
    assert memory.held == 0


async def test_a_body_above_the_limit_is_refused() -> None:
    with pytest.raises(TooLarge):
        await CreateRequest(UPGRADE, b"aa", None).body(1)


async def test_a_client_that_left_before_is_reported_at_once() -> None:
    request, left = CreateRequest(UPGRADE, b"{}", None), []
    request.leave()
    request.watch(lambda: left.append(1))
    request.unwatch()
    request.leave()
    assert left == [1]
    assert await request.receive() == {"type": "http.disconnect"}
