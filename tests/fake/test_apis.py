"""Which path is answered at all."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from gateway.fake import FakeUpstream


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/nothing", {}, 404),
        ("/chat/completions", {"messages": []}, 404),
        ("/v1/chat/completions", {}, 400),
        ("/v1/chat/completions", {"messages": [], "n": "many"}, 400),
    ],
)
async def test_what_cannot_be_answered_gets_an_openai_error(
    upstream: FakeUpstream, path: str, body: dict[str, Any], status: int
) -> None:
    async with httpx2.AsyncClient() as http:
        reply = await http.post(upstream.origin + path, json=body)
    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
