"""Responses by their id: such calls go to the upstream that made them, and only there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from gateway.fake import FakeUpstream, Fault

FOUND = b'{"id":"resp_here","object":"response","output":[]}'
OTHER_KEY = {"authorization": "Bearer other"}


@pytest.fixture
async def two(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> Any:
    """A gateway whose alias `chat` is on both upstreams, equally."""
    config = configured(upstream, second, chat={"fallback": []})
    config["models"]["chat"]["targets"].append({"upstream": "u1", "model": "model-u1"})
    config["keys"].append({"name": "other", "sha256": sha256(b"other").hexdigest()})
    return await start(config)


async def create(gateway: Any, at: str, stream: bool = False, **fields: Any) -> Any:
    body = {"model": "chat", "input": "hi", "stream": stream, **fields}
    headers = {"x-gateway-target": f"{at}/model-{at}"} if at else {}
    return await gateway.client.post("/responses", json=body, headers=headers)


async def made(gateway: Any, at: str, stream: bool, events: Any) -> str:
    reply = await create(gateway, at, stream)
    assert reply.status_code == 200
    response = events(reply.content)[0]["response"] if stream else reply.json()
    return str(response["id"])


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    ("method", "more"), [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")]
)
async def test_what_is_done_by_id_is_done_where_it_was_made(
    two: Any, upstream: FakeUpstream, second: FakeUpstream, events: Any, stream: bool, method: str, more: str
) -> None:
    response_id = await made(two, "u1", stream, events)
    second.answers(200, FOUND)
    reply = await two.client.request(method, f"/responses/{response_id}{more}?limit=1")
    assert (reply.status_code, reply.content) == (200, FOUND)
    assert reply.headers["x-gateway-upstream"] == "u1"
    assert reply.headers["x-request-id"]
    last = second.calls[-1]
    assert (last.method, last.path, last.query) == (method, f"/v1/responses/{response_id}{more}", "limit=1")
    assert "test-key" not in str(last.headers)
    assert not upstream.calls


async def test_what_continues_a_response_is_asked_where_it_was_made(
    two: Any, upstream: FakeUpstream, second: FakeUpstream, events: Any
) -> None:
    response_id = await made(two, "u1", False, events)
    for _ in range(8):
        assert (await create(two, "", previous_response_id=response_id)).headers["x-gateway-upstream"] == "u1"
    assert not upstream.calls


async def test_anothers_response_does_not_exist_and_nobody_is_asked(
    two: Any, upstream: FakeUpstream, second: FakeUpstream, events: Any
) -> None:
    response_id = await made(two, "u1", False, events)
    asked = len(second.calls)
    for reply in (
        await two.client.get(f"/responses/{response_id}", headers=OTHER_KEY),
        await two.client.delete(f"/responses/{response_id}", headers=OTHER_KEY),
        await two.client.post(
            "/responses", json={"model": "chat", "input": "x", "previous_response_id": response_id}, headers=OTHER_KEY
        ),
    ):
        assert reply.status_code == 404
    assert len(second.calls) == asked
    assert not upstream.calls


async def test_an_unknown_id_is_tried_at_each_upstream(two: Any, upstream: FakeUpstream, second: FakeUpstream) -> None:
    second.answers(200, FOUND)
    reply = await two.client.get("/responses/resp_from_elsewhere")
    assert (reply.status_code, reply.headers["x-gateway-upstream"]) == (200, "u1")
    assert len(upstream.calls) == 1
    second.always(Fault.status(404))
    missing = await two.client.get("/responses/resp_nowhere")
    assert missing.status_code == 404
    assert 'response "resp_nowhere" does not exist' in missing.json()["error"]["message"]


async def test_a_dead_upstream_does_not_hide_a_response(two: Any, upstream: FakeUpstream, second: FakeUpstream) -> None:
    second.answers(200, FOUND)
    await upstream.stop()
    assert (await two.client.get("/responses/resp_from_elsewhere")).content == FOUND
    await second.stop()
    down = await two.client.get("/responses/resp_from_elsewhere")
    assert down.status_code == 502


async def test_responses_need_a_key(two: Any, upstream: FakeUpstream) -> None:
    reply = await two.client.get("/responses/resp_1", headers={"authorization": ""})
    assert reply.status_code == 401
    assert not upstream.calls


ESCAPES = [
    "/v1/responses/../files",
    "/v1/responses/%2e%2e/files",
    "/v1/responses/x/../../files",
    "/v1/responses/x/%2e%2e/%2e%2e/files",
    "/v1/responses/x%2f..%2f..%2ffiles",
    "/v1/responses/x/..",
    "/v1/responses/..",
    "/v1/responses/x/cancel/../../../files",
    "/v1/responses/x/anything",
]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_id_cannot_lead_to_other_upstream_paths(
    two: Any, upstream: FakeUpstream, second: FakeUpstream, path: str, method: str
) -> None:
    """Clients are written as they like: over a socket, since a well-bred one would tidy the path up."""
    host, port = two.base_url.removesuffix("/v1").removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer other\r\ncontent-length: 0\r\n"
    writer.write(f"{head}connection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.split()[1] in (b"403", b"404"), answer
    assert not upstream.calls + second.calls
