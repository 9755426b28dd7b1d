"""One connection over a real socket: what it reads, when it writes, and what it does when the client leaves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import httpx2
import pytest

from gateway.fake import HOLD, Delay, FakeUpstream

Chat = Callable[..., dict[str, Any]]
EventsOf = Callable[[str], list[Any]]
TextOf = Callable[[list[Any]], str]
WireTo = Callable[[FakeUpstream], AbstractAsyncContextManager[Any]]


async def test_connections_are_kept_and_numbered(http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat) -> None:
    for _ in range(2):
        await http.post("/chat/completions", json=chat())
    assert [r.connection for r in upstream.received] == [1, 1]
    assert upstream.open_connections == 1
    upstream.hang_up()
    await upstream.until(lambda u: u.open_connections == 0)
    await http.post("/chat/completions", json=chat())
    assert upstream.received[-1].connection == 2


@pytest.mark.parametrize("turns", range(6))
async def test_a_stop_closes_what_was_just_accepted(turns: int) -> None:
    """Some turns of the loop lie between the accepted socket and its protocol."""
    async with FakeUpstream() as upstream:
        with socket.create_connection(("127.0.0.1", upstream.port)) as client:
            for _ in range(turns):
                await asyncio.sleep(0)
            await upstream.stop()
            for _ in range(turns):
                await asyncio.sleep(0)
            client.settimeout(60)
            await asyncio.to_thread(closed, client)
            assert upstream.open_connections == 0


def closed(client: socket.socket) -> None:
    with suppress(ConnectionResetError):
        assert client.recv(1) == b""


async def test_connection_close_is_honoured(upstream: FakeUpstream, wire_to: WireTo) -> None:
    async with wire_to(upstream) as wire:
        wire.writer.write(b"GET /health HTTP/1.1\r\nhost: fake\r\nconnection: close\r\n\r\n")
        assert (await wire.rest()).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_requests_that_came_together_are_answered_in_order(
    upstream: FakeUpstream, chat: Chat, wire_to: WireTo
) -> None:
    async with wire_to(upstream) as wire:
        wire.ask(chat(model="one"))
        wire.ask(chat(model="two"))
        assert b'"model":"one"' in await wire.until(b'"cached_tokens":0}}}')
        assert b'"model":"two"' in await wire.until(b'"cached_tokens":0}}}')


async def test_a_request_may_come_in_any_pieces(upstream: FakeUpstream, wire_to: WireTo) -> None:
    async with wire_to(upstream) as wire:
        head = b"POST /v1/files?a=b HTTP/1.1\r\nhost: fake\r\ntransfer-encoding: chunked\r\n\r\n"
        for byte in head + b"3\r\none\r\n4\r\n two\r\n0\r\n\r\n":
            wire.writer.write(bytes([byte]))
            await wire.writer.drain()
        await wire.until(b"}")
    received = await upstream.next_received()
    assert (received.path, received.query, received.body) == ("/v1/files", "a=b", b"one two")


async def test_a_client_that_waits_for_100_continue_gets_it(upstream: FakeUpstream, wire_to: WireTo) -> None:
    async with wire_to(upstream) as wire:
        head = b"POST /v1/files HTTP/1.1\r\nhost: fake\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n"
        wire.writer.write(head)
        assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.writer.write(b"body")
        assert b'"bytes":4' in await wire.until(b"}")


async def test_bytes_that_are_not_http_close_the_connection(upstream: FakeUpstream, wire_to: WireTo) -> None:
    async with wire_to(upstream) as wire:
        wire.writer.write(b"EHLO fake\r\n\r\n")
        with suppress(ConnectionError):
            assert await wire.rest() == b""
    assert upstream.received == []


async def test_stream_pieces_are_read_one_by_one(upstream: FakeUpstream, chat: Chat, wire_to: WireTo) -> None:
    pieces = [b'data: {"a', b'": "\xc3', b'\xa9"}', b"\n", b"\n"]
    upstream.streams(pieces)
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        await wire.until(b"\r\n\r\n")
        read = [await wire.reader.read(9999) for _ in range(len(pieces) + 1)]
    assert [chunk.split(b"\r\n")[1] for chunk in read[:-1]] == pieces
    assert read[-1] == b"0\r\n\r\n"


async def test_a_hold_is_silent_until_released(upstream: FakeUpstream, chat: Chat, wire_to: WireTo) -> None:
    upstream.says("one ", HOLD, "two ", HOLD, "three")
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        assert b"two" not in await wire.until(b'"one "')
        received = await upstream.next_received()
        assert not received.done.is_set()
        upstream.release()
        assert b"three" not in await wire.until(b'"two "')
        upstream.release()
        await wire.until(b"[DONE]")
        await upstream.until(lambda _: received.done.is_set())
    assert not received.cancelled


async def test_delays_keep_to_the_clock(
    http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat, events_of: EventsOf, text_of: TextOf
) -> None:
    upstream.says(*[part for _ in range(10) for part in (Delay(0.005), "x ")])
    clock = asyncio.get_running_loop().time
    start = clock()
    assert text_of(events_of((await http.post("/chat/completions", json=chat(stream=True))).text)) == "x " * 10
    assert clock() - start >= 0.05


async def test_a_client_that_leaves_is_counted_once_and_its_timers_end(
    upstream: FakeUpstream, chat: Chat, wire_to: WireTo
) -> None:
    upstream.says("one ", Delay(3600), "two ")
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        await wire.until(b'"one "')
    received = await upstream.next_received()
    await upstream.until(lambda u: u.cancelled == 1)
    assert received.cancelled
    assert received.done.is_set()
    assert upstream.open_connections == 0
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # the only place that shows timers
    assert not [timer for timer in scheduled if "Connection._play" in repr(timer) and not timer.cancelled()]
    upstream.release()
    assert upstream.cancelled == 1


async def test_it_runs_without_tasks(upstream: FakeUpstream, chat: Chat, wire_to: WireTo) -> None:
    upstream.says("one ", Delay(3600))
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        await wire.until(b'"one "')
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_client_that_leaves_a_hold_is_not_released_later(
    upstream: FakeUpstream, chat: Chat, wire_to: WireTo
) -> None:
    upstream.says(HOLD, "one")
    async with wire_to(upstream) as wire:
        wire.ask(chat())
        await upstream.next_received()
    await upstream.until(lambda u: u.cancelled == 1)
    upstream.release()


async def test_a_client_that_stops_reading_stops_the_script(
    upstream: FakeUpstream, chat: Chat, wire_to: WireTo
) -> None:
    upstream.says(*["x" * 50_000] * 400)
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        await wire.until(b"\r\n\r\n")
        received = await upstream.next_received()
        assert not received.done.is_set()
        while not (await wire.reader.read(1_000_000)).endswith(b"0\r\n\r\n"):
            pass
        await upstream.until(lambda _: received.done.is_set())


async def test_many_streams_at_once_all_arrive(upstream: FakeUpstream, chat: Chat, wire_to: WireTo) -> None:
    upstream.says(*[part for _ in range(5) for part in (Delay(0.001), "x ")])

    async def one() -> bytes:
        async with wire_to(upstream) as wire:
            wire.ask(chat(stream=True))
            answer: bytes = await wire.until(b"[DONE]")
            return answer

    assert all(raw.count(b'"x "') == 5 for raw in await asyncio.gather(*[one() for _ in range(200)]))
