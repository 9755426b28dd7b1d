"""Responses over WebSocket on both sides: `upstreams.NAME.websocket`, in front of a double that speaks the protocol."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

import pytest

from gateway.fake import FakeUpstream


@pytest.fixture
async def relayed(start: Any, configured: Any, double: Any, second: FakeUpstream) -> Any:
    """A gateway in front of the double, with an upstream by HTTP as its fallback."""
    config = configured(double, second)
    config["upstreams"]["u0"] |= {"websocket": True, "api_key": "sk-upstream"}
    config["models"]["chat"]["retries"] = {"attempts": 1}
    return await start(config)


async def test_a_turn_sends_only_what_is_new_to_the_upstream_too(relayed: Any, opened: Any, double: Any) -> None:
    ws = await opened(relayed)
    first = await ws.answer("a", store=False)
    second = await ws.answer("b", store=False, previous_response_id=first["response"]["id"])
    assert second["response"]["output"][0]["content"][0]["text"] == "answer 2"
    [(one, begun), (two, followed)] = double.received
    assert one == two
    assert begun == {"type": "response.create", "model": "model-u0", "input": "a", "store": False}
    assert followed["previous_response_id"] == "resp_1"
    assert followed["input"] == [{"type": "message", "role": "user", "content": "b"}]
    assert set(followed) == {"type", "model", "input", "store", "previous_response_id"}
    assert second["response"]["id"].startswith("resp_2."), "sealed, as by HTTP"


async def test_a_long_turn_that_is_not_recorded_goes_by_websocket_too(
    start: Any, configured: Any, opened: Any, double: Any
) -> None:
    """A request of this size is sent in slices by HTTP."""
    config = configured(double, sampling={"rate": 0})
    config["upstreams"]["u0"] |= {"websocket": True}
    ws = await opened(await start(config))
    await ws.answer("x" * 100_000, store=False)
    [(_, message)] = double.received
    assert len(message["input"]) == 100_000


async def test_the_record_has_the_whole_conversation(relayed: Any, opened: Any, double: Any) -> None:
    ws = await opened(relayed)
    first = await ws.answer("a", store=False)
    await ws.answer("b", store=False, previous_response_id=first["response"]["id"])
    _, two = await relayed.recorded(2)
    assert [item["role"] for item in json.loads(two.request)["input"]] == ["user", "assistant", "user"]
    assert (two.usage.output_tokens, two.outcome, str(two.target)) == (2, "ok", "u0/model-u0")


async def test_the_handshake_has_the_upstream_s_key_and_not_the_client_s(
    relayed: Any, opened: Any, double: Any
) -> None:
    ws = await opened(relayed)
    await ws.answer()
    [handshake] = double.handshakes
    assert handshake["authorization"] == "Bearer sk-upstream"
    assert handshake["host"] == double.base_url.removeprefix("http://").removesuffix("/v1")
    assert "sec-websocket-extensions" not in handshake


async def test_each_lane_has_a_connection_of_its_own(relayed: Any, opened: Any, double: Any) -> None:
    ws = await opened(relayed)
    first = await ws.answer("a", lane="main", store=False)
    of = {"previous_response_id": first["response"]["id"], "store": False}
    forked = await ws.answer("b", lane="critic", **of)
    assert forked["type"] == "response.completed"
    (one, _), (two, message) = double.received
    assert one != two
    assert len(message["input"]) == 3, "another connection does not know the conversation"
    assert "previous_response_id" not in message


async def test_a_closed_connection_is_reopened_with_the_conversation(relayed: Any, opened: Any, double: Any) -> None:
    ws = await opened(relayed)
    first = await ws.answer("a", store=False)
    await double.open[0].close()
    second = await ws.answer("b", store=False, previous_response_id=first["response"]["id"])
    assert second["type"] == "response.completed"
    assert len(double.received[-1][1]["input"]) == 3
    assert len((await relayed.recorded(2))[1].attempts) == 1


@pytest.mark.parametrize("code", ["previous_response_not_found", "websocket_connection_limit_reached"])
async def test_items_that_the_upstream_forgot_are_sent_again(relayed: Any, opened: Any, double: Any, code: str) -> None:
    ws = await opened(relayed)
    first = await ws.answer("a", store=False)
    double.first = [{"type": "error", "status": 400, "error": {"type": "t", "code": code, "message": "m"}}]
    second = await ws.answer("b", store=False, previous_response_id=first["response"]["id"])
    assert second["type"] == "response.completed"
    assert [len(message["input"]) for _, message in double.received[1:]] == [1, 3]


async def test_before_the_first_event_the_fallback_answers(
    relayed: Any, opened: Any, double: Any, second: FakeUpstream
) -> None:
    error = {"type": "server_error", "code": "overloaded", "message": "later"}
    double.first = [{"type": "error", "status": 503, "error": error, "headers": {"retry-after": "1"}}]
    second.says("by HTTP")
    ws = await opened(relayed)
    done = await ws.answer()
    assert done["response"]["output"][0]["content"][0]["text"] == "by HTTP"
    [exchange] = await relayed.recorded()
    assert [(a.target.upstream, a.status) for a in exchange.attempts] == [("u0", 503), ("u1", 200)]


async def test_an_error_of_the_request_passes(relayed: Any, opened: Any, double: Any) -> None:
    error = {"type": "invalid_request_error", "code": "bad", "message": "no such tool", "param": "tools[0]"}
    double.first = [{"type": "error", "status": 400, "error": error}]
    refused = await (await opened(relayed)).answer()
    assert (refused["status"], refused["error"]["code"], refused["error"]["param"]) == (400, "bad", "tools[0]")


async def test_a_connection_that_breaks_off_ends_the_response(relayed: Any, opened: Any, double: Any) -> None:
    double.cuts = True
    failed = await (await opened(relayed)).answer()
    assert (failed["type"], failed["status"], failed["error"]["code"]) == ("error", 502, "stream_cut")
    [exchange] = await relayed.recorded()
    assert exchange.outcome == "cut"


async def test_a_client_that_leaves_ends_the_upstream_s_connection(relayed: Any, opened: Any, double: Any) -> None:
    double.held.clear()
    ws = await opened(relayed)
    await ws.create()
    await ws.until("response.output_text.delta")
    ws.connection.transport.abort()
    async with asyncio.timeout(30):
        await double.open[0].wait_closed()
    [exchange] = await relayed.recorded()
    assert exchange.outcome == "client_gone"


async def test_an_idle_client_that_leaves_ends_it_too(relayed: Any, opened: Any, double: Any) -> None:
    ws = await opened(relayed)
    await ws.answer()
    await ws.connection.close()
    async with asyncio.timeout(30):
        await double.open[0].wait_closed()


async def test_a_client_by_http_is_served_by_http(start: Any, configured: Any, upstream: FakeUpstream) -> None:
    config = configured(upstream)
    config["upstreams"]["u0"]["websocket"] = True
    gateway = await start(config)
    reply = await gateway.client.post("/responses", json={"model": "chat", "input": "a"})
    assert (reply.status_code, upstream.calls[0].method) == (200, "POST")


async def test_an_upstream_without_websockets_is_asked_by_http(
    start: Any, configured: Any, upstream: FakeUpstream, opened: Any
) -> None:
    config = configured(upstream)
    config["upstreams"]["u0"]["websocket"] = True
    ws = await opened(await start(config))
    first = await ws.answer("a", store=False)
    second = await ws.answer("b", store=False, previous_response_id=first["response"]["id"])
    assert second["type"] == "response.completed"
    assert [call.method for call in upstream.calls] == ["GET", "POST", "POST"]
    assert len(json.loads(upstream.calls[2].body)["input"]) == 3


@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE])
async def test_another_refusal_of_the_handshake_is_the_attempt_s(
    relayed: Any, opened: Any, double: Any, second: FakeUpstream, status: HTTPStatus
) -> None:
    double.refuses = status
    assert (await (await opened(relayed)).answer())["type"] == "response.completed"
    [exchange] = await relayed.recorded()
    assert [(a.target.upstream, a.status) for a in exchange.attempts] == [("u0", status), ("u1", 200)]
