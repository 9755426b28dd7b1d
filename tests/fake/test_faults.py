"""The effect of each fault on the wire, and the names of faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
import pytest

from gateway.fake import FakeUpstream, Fault, parse_fault

Chat = Callable[..., dict[str, Any]]
EventsOf = Callable[[str], list[Any]]
TextOf = Callable[[list[Any]], str]
WireTo = Callable[[FakeUpstream], AbstractAsyncContextManager[Any]]
TEXT = "Hello from the fake upstream."


async def test_refuse_prefill_refuses_nothing_else(
    http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat
) -> None:
    upstream.always(Fault.refuse_prefill())
    codes = [
        (await http.post("/chat/completions", json=chat(**more))).status_code
        for more in ({}, {"continue_final_message": False}, {"continue_final_message": True})
    ]
    assert codes == [200, 200, 400]


async def test_reset_comes_before_any_byte(upstream: FakeUpstream, chat: Chat, wire_to: WireTo) -> None:
    upstream.then(Fault.reset())
    async with wire_to(upstream) as wire:
        wire.ask(chat())
        with pytest.raises(ConnectionResetError):
            await wire.rest()
    assert (await upstream.next_received()).done.is_set()
    assert upstream.cancelled == 0


async def test_silence_lasts_until_the_client_leaves(upstream: FakeUpstream, chat: Chat, wire_to: WireTo) -> None:
    upstream.then(Fault.silence())
    async with wire_to(upstream) as wire:
        wire.ask(chat())
        received = await upstream.next_received()
        upstream.release()
        assert not received.done.is_set()
    await upstream.until(lambda _: received.cancelled)


async def test_slow_head_says_nothing_before_its_time(
    http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat
) -> None:
    upstream.then(Fault.slow_head(0.05))
    clock = asyncio.get_running_loop().time
    start = clock()
    assert (await http.post("/chat/completions", json=chat())).status_code == 200
    assert clock() - start >= 0.05


@pytest.mark.parametrize("stream", [False, True])
async def test_slow_first_token_gives_the_headers_at_once(
    upstream: FakeUpstream, stream: bool, chat: Chat, wire_to: WireTo
) -> None:
    upstream.then(Fault.slow_first_token(0.05))
    clock = asyncio.get_running_loop().time
    async with wire_to(upstream) as wire:
        start = clock()
        wire.ask(chat(stream=stream))
        await wire.until(b"\r\n\r\n")
        assert clock() - start < 0.05
        await wire.until(b"upstream.")
        assert clock() - start >= 0.05


@pytest.mark.parametrize(("deltas", "text"), [(0, ""), (2, "Hello from "), (99, TEXT)])
async def test_cut_after_closes_without_an_end(
    upstream: FakeUpstream, deltas: int, text: str, chat: Chat, events_of: EventsOf, text_of: TextOf, wire_to: WireTo
) -> None:
    upstream.then(Fault.cut_after(deltas))
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        raw = await wire.rest()
    assert text_of(events_of(raw.decode())) == text
    assert b'"finish_reason":"' not in raw
    assert not raw.endswith(b"0\r\n\r\n")
    assert upstream.cancelled == 0


async def test_cut_after_halves_a_plain_body(http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat) -> None:
    upstream.then(Fault.cut_after(2))
    with pytest.raises(httpx2.RemoteProtocolError):
        await http.post("/chat/completions", json=chat())


@pytest.mark.parametrize("stream", [False, True])
async def test_stall_after_is_silent_and_can_be_released(
    upstream: FakeUpstream, stream: bool, chat: Chat, wire_to: WireTo
) -> None:
    upstream.then(Fault.stall_after(2))
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=stream))
        await wire.until(b'"from "' if stream else b"{")
        received = await upstream.next_received()
        assert not received.done.is_set()
        upstream.release()
        await wire.until(b"[DONE]" if stream else b"}}}")
        await upstream.until(lambda _: received.done.is_set())


async def test_malformed_after_spoils_one_event(
    http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat, events_of: EventsOf, text_of: TextOf
) -> None:
    upstream.then(Fault.malformed_after(2), Fault.malformed_after(2))
    reply = await http.post("/chat/completions", json=chat(stream=True))
    blocks = reply.text.split("\n\n")
    with pytest.raises(json.JSONDecodeError):
        json.loads(blocks[3].removeprefix("data: "))
    del blocks[3]
    assert text_of(events_of("\n\n".join(blocks))) == TEXT

    with pytest.raises(json.JSONDecodeError):
        (await http.post("/chat/completions", json=chat())).json()


async def test_broken_chunk_after_breaks_the_framing(
    http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat
) -> None:
    upstream.then(Fault.broken_chunk_after(2))
    with pytest.raises(httpx2.RemoteProtocolError):
        await http.post("/chat/completions", json=chat(stream=True))


async def test_no_done_finishes_but_does_not_end(upstream: FakeUpstream, chat: Chat, wire_to: WireTo) -> None:
    upstream.then(Fault.no_done())
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True, stream_options={"include_usage": True}))
        await wire.until(b'"finish_reason":"stop"')
        await wire.until(b'"usage":{')
        received = await upstream.next_received()
        assert not received.done.is_set()
    await upstream.until(lambda _: received.cancelled)


async def test_no_done_can_end_cleanly(upstream: FakeUpstream, chat: Chat, wire_to: WireTo) -> None:
    upstream.then(Fault.no_done(close=True))
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        raw = await wire.rest()
    assert b"[DONE]" not in raw
    assert b'"finish_reason":"stop"' in raw
    assert raw.endswith(b"\r\n0\r\n\r\n")


async def test_short_ends_cleanly_and_says_no_finish(
    http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat, events_of: EventsOf, text_of: TextOf
) -> None:
    upstream.then(Fault.short(), Fault.short())
    reply = await http.post("/chat/completions", json=chat(stream=True))
    events = events_of(reply.text)
    assert text_of(events) == "Hello from "
    assert all(c["finish_reason"] is None for e in events for c in e["choices"])
    assert (await http.post("/chat/completions", json=chat())).content == b""


@pytest.mark.parametrize("path", ["/chat/completions", "/messages", "/responses"])
async def test_error_body_is_a_200(
    http: httpx2.AsyncClient, upstream: FakeUpstream, path: str, events_of: EventsOf
) -> None:
    upstream.always(Fault.error_body())
    asked = {"model": "m", "messages": [], "input": "x"}
    plain = await http.post(path, json=asked)
    stream = await http.post(path, json=asked | {"stream": True})
    assert (plain.status_code, stream.status_code) == (200, 200)
    assert "error" in plain.json()
    (event,) = events_of(stream.text)
    assert "error" in event or event["type"] == "error"


@pytest.mark.parametrize("path", ["/chat/completions", "/messages", "/responses"])
async def test_error_event_after_some_deltas(
    http: httpx2.AsyncClient, upstream: FakeUpstream, path: str, events_of: EventsOf
) -> None:
    upstream.then(Fault.error_event_after(1))
    reply = await http.post(path, json={"model": "m", "messages": [], "input": "x", "stream": True})
    *before, last = events_of(reply.text)
    assert "error" in last or last["type"] == "error"
    assert json.dumps(before).count("Hello ") == 1
    assert "from" not in json.dumps(before)


async def test_header_drip_never_ends_the_head(upstream: FakeUpstream, chat: Chat, wire_to: WireTo) -> None:
    upstream.then(Fault.header_drip(0.001))
    async with wire_to(upstream) as wire:
        wire.ask(chat())
        assert b"\r\n\r\n" not in await wire.until(b"x-drip-5: drip\r\n")
    await upstream.until(lambda u: u.cancelled == 1)


@pytest.mark.parametrize(("stream", "filler"), [(True, b": keep-alive\n\n"), (False, b" ")])
async def test_comments_forever_say_nothing(
    upstream: FakeUpstream, stream: bool, filler: bytes, chat: Chat, wire_to: WireTo
) -> None:
    upstream.then(Fault.comments_forever(0.001))
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=stream))
        await wire.until(b"\r\n\r\n")
        for _ in range(4):
            assert await wire.until(filler + b"\r\n") == b"%x\r\n%b\r\n" % (len(filler), filler)
    await upstream.until(lambda u: u.cancelled == 1)


async def test_garbage_is_not_http(http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat) -> None:
    upstream.then(Fault.garbage())
    with pytest.raises(httpx2.RemoteProtocolError):
        await http.post("/chat/completions", json=chat())


@pytest.mark.parametrize(
    "text",
    [
        "status:503",
        "rate_limited",
        "rate_limited:2",
        "reset",
        "silence",
        "slow_head:0.5",
        "slow_first_token:20",
        "cut_after:3",
        "stall_after:0",
        "malformed_after:1",
        "broken_chunk_after:1",
        "no_done",
        "no_done_close",
        "short",
        "error_body",
        "error_event_after:2",
        "context_length",
        "content_policy",
        "refuse_prefill",
        "header_drip:0.1",
        "comments_forever:1",
        "garbage",
    ],
)
def test_a_fault_is_read_by_the_name_it_has(text: str) -> None:
    assert parse_fault(text).name == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cut_aftr:3", 'did you mean "cut_after"?'),
        ("xyzzy", "expected one of broken_chunk_after, "),
        ("cut_after", "needs a number, such as 'cut_after:3'"),
        ("cut_after:soon", "not 'soon'"),
        ("silence:3", "takes no number"),
    ],
)
def test_a_fault_that_cannot_be_read_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_fault(text)
