"""An upstream that repeats the gateway's credential: whichever way it does, no client and no log gets it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.clouds import Issuer, auth_of

from gateway.fake import FakeUpstream

KEY = "sk/of/the/gateway"
Configured = Callable[..., dict[str, Any]]


@pytest.fixture
async def keyed(start: Any, configured: Configured, upstream: FakeUpstream) -> Any:
    """A gateway whose upstream has a key and may repeat it."""
    config = configured(upstream, passthrough="u0")
    config["upstreams"]["u0"]["api_key"] = KEY
    return await start(config)


def hidden(text: str, caplog: pytest.LogCaptureFixture) -> bool:
    """Whether neither the text nor the log has the key, in any spelling; the text says that one was there."""
    spellings = (KEY, KEY.replace("/", "\\/"))
    return "[key]" in text and not any(s in text or s in caplog.text for s in spellings)


@pytest.mark.parametrize("spelled", [KEY, KEY.replace("/", "\\/")])
@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500])
async def test_an_error_object_does_not_repeat_it(
    keyed: Any, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture, spelled: str, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    upstream.answers(status, f'{{"error": {{"message": "bad key {spelled}", "type": "forbidden"}}}}'.encode())
    reply = await keyed.chat()
    assert reply.status_code >= 400
    if status in (401, 429):  # its own words are not passed on
        assert KEY not in reply.text + caplog.text
    else:
        assert hidden(reply.text, caplog), reply.text


@pytest.mark.parametrize("code", ["invalid_prompt", 500])
@pytest.mark.parametrize("content", ["", "some words "])
async def test_an_error_event_does_not_repeat_it(
    keyed: Any, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture, code: Any, content: str
) -> None:
    caplog.set_level(logging.DEBUG)
    chunk = {"choices": [{"index": 0, "delta": {"content": content}}]}
    error = {"error": {"message": f"bad key {KEY}", "code": code}}
    events = (json.dumps(chunk), json.dumps(error).replace("/", "\\/"))
    upstream.streams([f"data: {event}\n\n".encode() for event in events])
    async with keyed.stream() as reply:
        text = (await reply.aread()).decode()
    assert hidden(text, caplog), text


async def test_a_failed_response_does_not_repeat_it(
    keyed: Any, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    error = {"code": "server_error", "message": f"bad key {KEY}"}
    upstream.answers(200, json.dumps({"id": "r", "object": "response", "status": "failed", "error": error}).encode())
    reply = await keyed.client.post("/responses", json={"model": "chat", "input": "hi"})
    assert reply.status_code == 200
    assert hidden(reply.text, caplog)


async def test_a_forwarded_error_does_not_repeat_it(
    keyed: Any, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.answers(403, b"x" * 100_000 + f"bad key {KEY}".encode() + b"y" * 100_000, content_type="text/plain")
    reply = await keyed.client.get("/files")
    assert reply.status_code == 403
    assert hidden(reply.text, caplog)
    assert len(reply.text) == 200_000 + len("bad key [key]")


async def test_a_clouds_token_is_hidden_in_every_error(
    start: Any, configured: Configured, upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    issuer = Issuer(life_s=3600)
    async with issuer.server:
        config = configured(upstream, passthrough="u0")
        config["upstreams"]["u0"]["auth"] = auth_of("google", issuer, tmp_path, monkeypatch.setenv)
        gateway = await start(config)
        upstream.answers(200, b'{"error": {"message": "bad token TOKEN0000"}}')
        texts = [(await gateway.chat()).text]
        upstream.answers(403, b"bad token TOKEN0000")
        texts.append((await gateway.client.get("/files")).text)
    assert all("[token]" in text for text in texts), texts
    assert "TOKEN0000" not in "".join(texts) + caplog.text
