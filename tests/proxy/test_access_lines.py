"""An access line for every call: who called, from where, what it cost, and how it ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.fake import FakeUpstream
from gateway.fake.faults import parse_fault

Start = Callable[..., Any]
Configured = Callable[..., dict[str, Any]]
Read = Callable[[Any], dict[str, dict[str, Any]]]

PRICED = {"as_of": "2026-11-01", "models": {"model-u0": {"input": 1.0, "output": 2.0}}}


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Read:
    """Reads the access lines so far, by the id of their answer."""

    def read(running: Any) -> dict[str, dict[str, Any]]:
        running.process.access.flush()
        found = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"gateway.access"' in line]
        return {line["id"]: line for line in found}

    return read


async def test_a_line_says_who_called_and_what_it_cost(
    start: Start, configured: Configured, upstream: FakeUpstream, lines: Read
) -> None:
    gateway = await start(configured(upstream, prices=PRICED, log={"format": "json"}))
    headers = {"x-request-id": "my-own-17", "x-forwarded-for": "198.51.100.9"}
    answer = await gateway.client.post(
        "/chat/completions", json={"model": "chat", "messages": [{"role": "user", "content": "hi"}]}, headers=headers
    )
    line = lines(gateway)[answer.headers["x-request-id"]]
    usage = answer.json()["usage"]
    assert (line["key"], line["client_id"], line["alias"], line["client"]) == (
        "tester",
        "my-own-17",
        "chat",
        "127.0.0.1",
    )
    assert (line["input_tokens"], line["output_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert line["cost_usd"] == pytest.approx((usage["prompt_tokens"] + 2 * usage["completion_tokens"]) / 1e6)
    assert (line["outcome"], line["failure"], line["error"]) == ("ok", None, None)


async def test_a_trusted_proxy_names_the_client(
    start: Start, configured: Configured, upstream: FakeUpstream, lines: Read
) -> None:
    sections = {"log": {"format": "json"}, "trusted_proxies": ["127.0.0.0/8"]}
    gateway = await start(configured(upstream, **sections))
    headers = {"x-forwarded-for": "203.0.113.1, 198.51.100.9"}
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    answers = [
        await gateway.client.post("/chat/completions", json=body, headers=headers),
        await gateway.client.get("/models", headers=headers),
        await gateway.client.get("/models", headers={**headers, "authorization": "Bearer wrong"}),
    ]
    found = lines(gateway)
    assert {found[a.headers["x-request-id"]]["client"] for a in answers} == {"198.51.100.9"}


async def test_a_refused_call_has_its_id_key_and_alias(
    start: Start, configured: Configured, upstream: FakeUpstream, lines: Read
) -> None:
    gateway = await start(configured(upstream, log={"format": "json"}, chat={"retries": {"attempts": 1}}))
    post, get = gateway.client.post, gateway.client.get
    wrong = {"authorization": "Bearer wrong"}
    chat = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    upstream.then(parse_fault("status:400"), parse_fault("status:500"))
    calls = {
        "unknown key": await post("/chat/completions", json=chat, headers=wrong),
        "not JSON": await post("/chat/completions", content=b"{", headers={"x-request-id": "mine"}),
        "unknown model": await post("/chat/completions", json={**chat, "model": "invented-name"}),
        "upstream's 400": await post("/chat/completions", json=chat),
        "upstream's 500": await post("/chat/completions", json=chat),
        "models": await get("/models"),
        "models, unknown key": await get("/models", headers=wrong),
        "no passthrough": await get("/files"),
    }
    found = lines(gateway)
    keys = ("status", "key", "api", "alias", "upstream", "outcome", "error", "attempts")
    seen = {name: tuple(found[a.headers["x-request-id"]][k] for k in keys) for name, a in calls.items()}
    assert seen == {
        "unknown key": (401, None, "chat", None, None, "client_error", "invalid_api_key", 0),
        "not JSON": (400, "tester", "chat", None, None, "client_error", "invalid_request_error", 0),
        "unknown model": (404, "tester", "chat", None, None, "client_error", "model_not_found", 0),
        "upstream's 400": (400, "tester", "chat", "chat", "u0", "client_error", None, 1),
        "upstream's 500": (502, "tester", "chat", "chat", "u0", "upstream_error", "upstream_failed", 1),
        "models": (200, "tester", "models", None, None, "ok", None, 0),
        "models, unknown key": (401, None, "models", None, None, "client_error", "invalid_api_key", 0),
        "no passthrough": (404, None, "passthrough", None, None, "client_error", "not_found", 0),
    }
    assert found[calls["not JSON"].headers["x-request-id"]]["client_id"] == "mine"
    assert "HTTP 500" in found[calls["upstream's 500"].headers["x-request-id"]]["failure"]
    assert "invented-name" not in json.dumps(found)
    assert await gateway.metric("gateway_refused_total", status="401", alias="other") == 2
    assert await gateway.metric("gateway_refused_total", status="404", alias="other") == 2, "no alias, and no path"
    assert await gateway.metric("gateway_refused_total", status="502", alias="chat") == 1


async def test_a_call_without_a_healthy_upstream_names_its_alias(
    start: Start, configured: Configured, upstream: FakeUpstream, lines: Read
) -> None:
    gateway = await start(configured(upstream, log={"format": "json"}, chat={"retries": {"attempts": 1}}))
    upstream.then(*[parse_fault("status:500")] * 5)
    for _ in range(5):
        await gateway.chat()
    answer = await gateway.chat()
    line = lines(gateway)[answer.headers["x-request-id"]]
    assert (line["status"], line["alias"], line["key"], line["outcome"]) == (503, "chat", "tester", "upstream_error")
    assert line["error"] == "no_healthy_upstream"


async def test_a_passthrough_call_names_its_upstream(
    start: Start, configured: Configured, upstream: FakeUpstream, lines: Read
) -> None:
    gateway = await start(configured(upstream, log={"format": "json"}, passthrough="u0"))
    answer = await gateway.client.get("/files")
    line = lines(gateway)[answer.headers["x-request-id"]]
    assert (line["api"], line["key"], line["upstream"]) == ("passthrough", "tester", "u0")
    assert line["status"] == answer.status_code


async def test_a_client_may_leave_while_it_sends_feedback(
    start: Start, configured: Configured, upstream: FakeUpstream, capfd: pytest.CaptureFixture[str], caplog: Any
) -> None:
    gateway = await start(configured(upstream, log={"format": "json"}))
    port = int(gateway.base_url.removesuffix("/v1").rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /v1/feedback HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-key\r\ncontent-length: 90\r\n\r\n{"
    writer.write(head)
    await writer.drain()
    calls = gateway.process.access
    writer.close()
    written = ""
    async with asyncio.timeout(55):
        while '"api":"feedback"' not in written:
            calls.flush()
            written += capfd.readouterr().err
            await asyncio.sleep(0.01)
    assert '"status":0,"outcome":"client_gone"' in written
    assert not [r for r in caplog.records if r.exc_info]
