"""Guards over WebSocket: what leaves, and that a connection goes on after a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.fake import FakeUpstream

SECRET = "sk-" + "proj-" + "Ab3" * 14


@pytest.mark.parametrize("action", ["redact", "block"])
async def test_a_secret_leaves_in_no_message(
    start: Any, configured: Any, opened: Any, upstream: FakeUpstream, action: str
) -> None:
    guards = {"secrets": {"on": "answer", "scorer": "secrets", "action": action}}
    ws = await opened(await start(configured(upstream, guards=guards)))
    upstream.says("It is ", *SECRET, " here.")
    last = await ws.answer()
    assert SECRET[:12] not in str(ws.events)
    if action == "redact":
        assert last["response"]["output"][0]["content"][0]["text"] == "It is [key] here."
    else:
        assert last["type"] == "response.incomplete"
        assert last["response"]["incomplete_details"]["reason"] == "content_filter"
    upstream.says("clean")
    done = await ws.answer()
    assert done["response"]["output"][0]["content"][0]["text"] == "clean"
