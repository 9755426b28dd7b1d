"""Responses by their id: such calls go to the upstream that made them, and only there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from gateway.fake import FakeUpstream, Fault

FOUND = b'{"id":"%b","object":"response","output":[]}'
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
async def test_calls_by_id_go_to_the_upstream_that_made_the_response(
    two: Any, upstream: FakeUpstream, second: FakeUpstream, events: Any, stream: bool, method: str, more: str
) -> None:
    response_id = await made(two, "u1", stream, events)
    theirs = response_id.rpartition(".")[0]
    second.answers(200, FOUND % theirs.encode())
    reply = await two.client.request(method, f"/responses/{response_id}{more}?limit=1")
    assert (reply.status_code, reply.content) == (200, FOUND % response_id.encode())
    assert reply.headers["x-gateway-upstream"] == "u1"
    assert reply.headers["x-request-id"]
    last = second.calls[-1]
    assert (last.method, last.path, last.query) == (method, f"/v1/responses/{theirs}{more}", "limit=1")
    assert "test-key" not in str(last.headers)
    assert not upstream.calls


async def test_a_continued_response_goes_to_its_upstream(
    two: Any, upstream: FakeUpstream, second: FakeUpstream, events: Any
) -> None:
    response_id = await made(two, "u1", False, events)
    for _ in range(8):
        assert (await create(two, "", previous_response_id=response_id)).headers["x-gateway-upstream"] == "u1"
    assert not upstream.calls
    assert second.calls[-1].json["previous_response_id"] == response_id.rpartition(".")[0]


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


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_every_id_that_the_client_sees_is_sealed(
    two: Any, second: FakeUpstream, events: Any, stream: bool
) -> None:
    first = await made(two, "u1", stream, events)
    reply = await create(two, "u1", stream, previous_response_id=first)
    answers = [e["response"] for e in events(reply.content) if "response" in e] if stream else [reply.json()]
    ids = {answer["id"] for answer in answers}
    assert len(ids) == 1
    assert re.fullmatch(r"resp-fake-\d+\.[\w-]{22}", ids.pop())
    [exchange] = (await two.recorded(2))[1:]
    assert b"." + first.rpartition(".")[2].encode() not in exchange.request, "the record has what the upstream got"


async def test_an_id_without_our_seal_does_not_exist(two: Any, upstream: FakeUpstream, second: FakeUpstream) -> None:
    """The seal is in the id, and without one nobody is asked, whatever the stream server knows."""
    for each in (upstream, second):
        each.answers(200, FOUND % b"resp_1")
    for sealed in ("resp_1", "resp_1.", "resp_1.AAAAAAAAAAAAAAAAAAAAAA"):
        for reply in (
            await two.client.get(f"/responses/{sealed}"),
            await two.client.delete(f"/responses/{sealed}"),
            await create(two, "", previous_response_id=sealed),
        ):
            assert reply.status_code == 404
            assert "does not exist" in reply.json()["error"]["message"]
    assert not upstream.calls + second.calls


async def test_a_dead_upstream_is_the_answer_for_its_own_responses(two: Any, second: FakeUpstream, events: Any) -> None:
    response_id = await made(two, "u1", False, events)
    await second.stop()
    assert (await two.client.get(f"/responses/{response_id}")).status_code == 502


async def test_a_silent_upstream_is_not_waited_for(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, events: Any
) -> None:
    config = configured(upstream, limits={"passthrough_s": 0.3}, passthrough="u0")
    config["upstreams"]["u0"] |= {"concurrency": 1, "queue": 0}
    gateway = await start(config)
    response_id = await made(gateway, "u0", False, events)
    upstream.always(Fault.silence())
    for path in (f"/responses/{response_id}", "/files"):
        reply = await gateway.client.get(path)
        assert reply.status_code == 504
        assert "did not answer within 0.3 s" in reply.json()["error"]["message"]
    assert gateway.gateway.upstreams["u0"].limiter.in_flight == 0


async def test_calls_outside_the_hot_path_take_places_too(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream
) -> None:
    config = configured(upstream, passthrough="u0")
    config["upstreams"]["u0"] |= {"concurrency": 1, "queue": 0}
    gateway = await start(config)
    upstream.always(Fault.silence())
    waiting = asyncio.get_running_loop().create_task(gateway.client.get("/files"))
    await upstream.until(lambda u: len(u.calls) == 1)
    full = await gateway.client.get("/files")
    assert full.status_code == 429
    waiting.cancel()
    await gateway.until(lambda: gateway.gateway.upstreams["u0"].limiter.in_flight == 0)


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
