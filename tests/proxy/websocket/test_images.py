"""Images in streams of the Responses API over WebSocket."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.streamed_media import IMAGE, STREAMS, unsealed, written

from gateway.fake import FakeUpstream

KINDS = [kind for kind in STREAMS if kind.startswith("responses")]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_image_comes_over_a_websocket(gateway: Any, upstream: FakeUpstream, opened: Any, kind: str) -> None:
    parts = STREAMS[kind][1]
    upstream.streams(written(parts, 65_536))
    ws = await opened(gateway)
    await ws.answer("draw", store=False)
    assert unsealed(ws.events) == unsealed(parts)


async def test_an_image_passes_from_websocket_to_websocket(relayed: Any, opened: Any, double: Any) -> None:
    double.first = [{"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [IMAGE]}}]
    ws = await opened(relayed)
    ended = await ws.answer("draw", store=False)
    assert ended["response"]["output"] == [IMAGE]


async def test_a_message_above_the_bound_does_not_open_the_breaker(relayed: Any, opened: Any, double: Any) -> None:
    double.first = [{"type": "response.x", "data": "x" * (17 << 20)} for _ in range(6)]
    for n in range(6):
        ws = await opened(relayed)
        assert (await ws.answer("draw", store=False))["type"] == "error", n
    assert len(double.received) == 6, "it is not made again"
    assert not any(state.breaker.open for state in relayed.gateway.router.target_states)


@pytest.fixture
async def relayed(start: Any, configured: Any, double: Any) -> Any:
    """A gateway in front of the double, which speaks the protocol of WebSockets, too."""
    config = configured(double)
    config["upstreams"]["u0"] |= {"websocket": True, "api_key": "sk-upstream"}
    config["models"]["chat"]["retries"] = {"attempts": 3}
    return await start(config)
