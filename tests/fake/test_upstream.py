"""The upstream: what it remembers, which answer or fault it chooses, and how it starts and stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
import pytest

from gateway.fake import FakeAnswer, FakeUpstream, Fault, Received, serve

Chat = Callable[..., dict[str, Any]]
WireTo = Callable[[FakeUpstream], AbstractAsyncContextManager[Any]]


async def test_a_request_is_remembered_as_it_came(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    body = b'{"model":"m","messages":[],"odd":123456789012345678901234567890}'
    await http.post("/chat/completions?api-version=7", content=body, headers={"X-Odd": "Value"})
    received = await upstream.next_received()
    assert received.body == body
    assert received.json["odd"] == 123456789012345678901234567890
    assert (received.method, received.path, received.query) == ("POST", "/v1/chat/completions", "api-version=7")
    assert received.header("x-ODD") == "Value"
    assert received.header("absent") is None
    assert (received.serial, received.connection, received.cancelled) == (1, 1, False)
    assert received.done.is_set()


async def test_the_same_question_is_answered_the_same_under_a_new_id(
    http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat
) -> None:
    upstream.says("chatcmpl-fake-1")
    one, two = [(await http.post("/chat/completions", json=chat(model="m-fake-1"))).json() for _ in range(2)]
    assert (one.pop("id"), two.pop("id")) == ("chatcmpl-fake-1", "chatcmpl-fake-2")
    assert one == two
    upstream.says("other")
    three = (await http.post("/chat/completions", json=chat(model="m-fake-1"))).json()
    assert three["choices"][0]["message"]["content"] == "other"


async def test_a_whole_answer_is_sent_byte_for_byte(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    body = b'{ "n" : 0.70, "n": 1e400 }\n'
    upstream.answers(201, body, headers={"openai-organization": "o", "X-Request-Id": "mine"})
    reply = await http.post("/anything", json={})
    assert (reply.status_code, reply.content, reply.headers["openai-organization"]) == (201, body, "o")
    assert reply.headers.get_list("x-request-id") == ["mine"]
    upstream.says()
    assert (await http.post("/anything", json={})).status_code == 404


async def test_one_shot_faults_are_met_in_order_and_then_none(
    http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat
) -> None:
    upstream.then(Fault.status(500), Fault.rate_limited(retry_after=2))
    replies = [await http.post("/chat/completions", json=chat()) for _ in range(3)]
    assert [r.status_code for r in replies] == [500, 429, 200]
    assert replies[1].headers["retry-after"] == "2"
    assert replies[1].json()["error"]["code"] == "rate_limit_exceeded"


async def test_a_constant_fault_lasts_until_told_otherwise(
    http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat
) -> None:
    upstream.always(Fault.status(503))
    codes = [(await http.post("/chat/completions", json=chat())).status_code for _ in range(2)]
    codes.append((await http.get(upstream.origin + "/health")).status_code)
    upstream.always(None)
    codes.append((await http.post("/chat/completions", json=chat())).status_code)
    assert codes == [503, 503, 503, 200]


async def test_a_share_of_faults_is_spread_evenly(http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat) -> None:
    upstream.always(Fault.status(500), share=0.25)
    codes = [(await http.post("/chat/completions", json=chat())).status_code for _ in range(8)]
    assert codes == [200, 200, 200, 500] * 2


async def test_stopping_ends_what_is_open_and_cancels_nothing(chat: Chat, wire_to: WireTo) -> None:
    upstream = FakeUpstream()
    await upstream.start()
    upstream.always(Fault.silence())
    async with wire_to(upstream) as wire:
        wire.ask(chat())
        received = await upstream.next_received()
        await upstream.stop()
    assert received.done.is_set()
    assert (received.cancelled, upstream.cancelled) == (False, 0)
    await upstream.stop()


async def test_an_upstream_comes_back_on_its_port() -> None:
    upstream = FakeUpstream()
    await upstream.start()
    url, port = upstream.base_url, upstream.port
    await upstream.stop()
    async with httpx2.AsyncClient() as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get(url + "/models")
        await upstream.start(port=port)
        assert (await http.get(url + "/models")).status_code == 200
        await upstream.stop()


async def test_until_gives_up_and_says_what_it_saw(upstream: FakeUpstream) -> None:
    with pytest.raises(TimeoutError, match="0 received, 0 cancelled, 0 connections open"):
        await upstream.until(lambda u: u.cancelled == 1, timeout_s=0.01)


async def test_serve_runs_until_cancelled(unused_tcp_port: int, chat: Chat) -> None:
    serving = asyncio.gather(serve("127.0.0.1", unused_tcp_port, tokens=3, fault=Fault.status(500), fault_rate=0.5))
    async with httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(retries=5)) as http:
        url = f"http://127.0.0.1:{unused_tcp_port}/v1/chat/completions"
        codes = [(await http.post(url, json=chat())).status_code for _ in range(4)]
    assert codes == [200, 500, 200, 500]
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_an_answer_may_depend_on_its_request(upstream: FakeUpstream, http, chat) -> None:
    def choose(asked: Received) -> FakeAnswer | str:
        return FakeAnswer(b"{}", status=418) if asked.json["model"] == "teapot" else f"you asked {asked.json['model']}"

    upstream.replies(choose)
    reply = (await http.post("/chat/completions", json=chat(model="one"))).json()
    assert reply["choices"][0]["message"]["content"] == "you asked one"
    assert (await http.post("/chat/completions", json=chat(model="teapot"))).status_code == 418
    upstream.says("a script again")
    reply = (await http.post("/chat/completions", json=chat(model="teapot"))).json()
    assert reply["choices"][0]["message"]["content"] == "a script again"
