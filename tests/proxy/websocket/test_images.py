"""Images in streams of the Responses API over WebSocket."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.streamed_media import STREAMS, unsealed, written

from gateway.fake import FakeUpstream

KINDS = [kind for kind in STREAMS if kind.startswith("responses")]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_image_comes_over_a_websocket(gateway: Any, upstream: FakeUpstream, opened: Any, kind: str) -> None:
    parts = STREAMS[kind][1]
    upstream.streams(written(parts, 65_536))
    ws = await opened(gateway)
    await ws.answer("draw", store=False)
    assert unsealed(ws.events) == unsealed(parts)
