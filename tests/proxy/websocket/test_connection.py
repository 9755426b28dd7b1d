"""Bounds and endings of a connection: on real sockets, with hostile clients and a stopping server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from gateway.fake import HOLD, FakeUpstream
from gateway.proxy.http.server.upgrade import WebSocketLimits

HANDSHAKE = (
    b"GET /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-key\r\nupgrade: websocket\r\n"
    b"connection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CREATE = json.dumps({"type": "response.create", "model": "chat", "input": "hi"}).encode()


def text(data: bytes, *, fin: bool = True) -> bytes:
    return Frame(Opcode.TEXT, data, fin).serialize(mask=True)


@contextlib.asynccontextmanager
async def raw(gateway: Any, sent: bytes = HANDSHAKE) -> Any:
    """A socket on which these bytes were sent, and the head of the answer was read."""
    host, _, port = gateway.base_url.removeprefix("http://").removesuffix("/v1").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(sent)
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"), head
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """(opcode, payload) of the next frame of a server."""
    async with asyncio.timeout(30):
        first, length = await reader.readexactly(2)
        if length == 126:
            [length] = struct.unpack("!H", await reader.readexactly(2))
        elif length == 127:
            [length] = struct.unpack("!Q", await reader.readexactly(8))
        return first & 0x0F, await reader.readexactly(length)


async def close_code(reader: asyncio.StreamReader) -> tuple[int, str]:
    while True:
        opcode, payload = await frame(reader)
        if opcode == Opcode.CLOSE:
            [code] = struct.unpack("!H", payload[:2])
            return code, payload[2:].decode()


async def test_the_answer_to_the_handshake(gateway: Any) -> None:
    """The sample of RFC 6455, section 1.3. No extension is accepted."""
    offered = HANDSHAKE.replace(
        b"upgrade: websocket", b"sec-websocket-extensions: permessage-deflate\r\nupgrade: WebSocket"
    )
    host, _, port = gateway.base_url.removeprefix("http://").removesuffix("/v1").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(offered)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n" in head
    assert b"server: assay-gateway\r\n" in head
    assert b"extensions" not in head
    assert b"content-length" not in head
    writer.close()
    await writer.wait_closed()


async def test_a_message_may_come_with_the_handshake(gateway: Any) -> None:
    async with raw(gateway, HANDSHAKE + text(CREATE)) as (reader, _):
        _, payload = await frame(reader)
        assert json.loads(payload)["type"] == "response.created"


async def test_a_long_message_may_come_with_the_handshake(gateway: Any, upstream: FakeUpstream) -> None:
    long = json.dumps({"type": "response.create", "model": "chat", "input": "a" * 300_000}).encode()
    async with raw(gateway, HANDSHAKE + text(long)) as (reader, _):
        _, payload = await frame(reader)
        assert json.loads(payload)["type"] == "response.created"
    assert len(json.loads(upstream.calls[0].body)["input"]) == 300_000


async def test_behind_another_request_there_is_no_upgrade(gateway: Any) -> None:
    host, _, port = gateway.base_url.removeprefix("http://").removesuffix("/v1").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(HANDSHAKE.replace(b"upgrade", b"x-up").replace(b"/v1/responses", b"/v1/models") + HANDSHAKE)
    assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    answer = await reader.readuntil(b"without a body")
    assert b"HTTP/1.1 501" in answer
    writer.close()
    await writer.wait_closed()


BAD_FRAMES = {
    "unmasked": (Frame(Opcode.TEXT, b"{}").serialize(mask=False), 1002),
    "a reserved bit": (Frame(Opcode.TEXT, b"{}").serialize(mask=True).replace(b"\x81", b"\xc1", 1), 1002),
    "an unknown opcode": (Frame(Opcode.TEXT, b"{}").serialize(mask=True).replace(b"\x81", b"\x83", 1), 1002),
    "a continuation of nothing": (Frame(Opcode.CONT, b"{}").serialize(mask=True), 1002),
    "a message in a message": (text(b"{", fin=False) + text(b"}"), 1002),
    "a long ping": (Frame(Opcode.TEXT, b"a" * 126).serialize(mask=True).replace(b"\x81", b"\x89", 1), 1002),
    "binary": (Frame(Opcode.BINARY, b"{}").serialize(mask=True), 1003),
    "not UTF-8": (text(b'{"\xff"}'), 1007),
    "too long": (b"\x81\xff" + struct.pack("!Q", 33_000_000) + b"mask", 1009),
    "too long in pieces": (text(b"a" * 20_000_000, fin=False) + b"\x80\xff" + struct.pack("!Q", 13_000_000), 1009),
}


async def test_bad_frames_end_the_connection_with_their_code(gateway: Any, upstream: FakeUpstream) -> None:
    """Responses in flight on it end too."""
    upstream.says("a", HOLD)
    for number, (sent, (data, code)) in enumerate(BAD_FRAMES.items(), 1):
        async with raw(gateway) as (reader, writer):
            writer.write(text(CREATE))
            _, payload = await frame(reader)
            assert json.loads(payload)["type"] == "response.created"
            writer.write(data)
            found, reason = await close_code(reader)
            assert found == code, (sent, reason)
            assert reason
        await upstream.until(lambda fake, number=number: fake.cancelled == number)
        assert gateway.process.bodies.held == 0, sent


async def test_a_client_that_does_not_read_is_disconnected(start: Any, configured: Any, upstream: FakeUpstream) -> None:
    """Messages that wait for it are bounded meanwhile: the upstream is not read either."""
    gateway = await start(configured(upstream), websocket_limits=WebSocketLimits(write_s=0.5, ping_s=0.1))
    upstream.says(*["a" * 60_000] * 200)
    async with raw(gateway) as (_, writer):
        writer.transport.pause_reading()
        writer.write(text(CREATE))
        await upstream.until(lambda fake: fake.cancelled == 1)
        await gateway.until(lambda: gateway.process.websockets.sessions.number == 0)


async def test_a_client_that_sends_and_does_not_read_is_disconnected(gateway: Any) -> None:
    """Each of its messages is answered with an error, and each ping with a pong."""
    async with raw(gateway) as (_, writer):
        writer.transport.pause_reading()
        many = text(b"[]") * 100 + Frame(Opcode.PING, b"a" * 125).serialize(mask=True) * 100
        with pytest.raises(ConnectionError):
            await _sending(writer, many)


async def _sending(writer: asyncio.StreamWriter, data: bytes) -> None:
    async with asyncio.timeout(60):
        while True:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0)


async def test_half_a_message_is_not_waited_for_without_end(
    start: Any, configured: Any, upstream: FakeUpstream
) -> None:
    gateway = await start(configured(upstream), websocket_limits=WebSocketLimits(piece_s=0.2, ping_s=0.1))
    async with raw(gateway) as (reader, writer):
        writer.write(text(b"a" * 100_000)[:80_000])
        assert await close_code(reader) == (1008, "the rest of a message did not arrive in time")
    assert gateway.process.bodies.held == 0


async def test_half_messages_count_in_the_memory_of_all_bodies(
    start: Any, configured: Any, upstream: FakeUpstream
) -> None:
    gateway = await start(configured(upstream, limits={"inflight_mb": 1}))
    async with raw(gateway) as (_, first), raw(gateway) as (reader, second):
        first.write(text(b"a" * 700_000)[:600_000])
        await gateway.until(lambda: gateway.process.bodies.held > 590_000)
        second.write(text(b"a" * 700_000)[:600_000])
        code, reason = await close_code(reader)
        assert (code, "limits.inflight_mb" in reason) == (1013, True)
    await gateway.until(lambda: gateway.process.bodies.held == 0)


async def test_waiting_messages_count_in_the_memory_of_all_bodies(
    start: Any, configured: Any, upstream: FakeUpstream, opened: Any
) -> None:
    gateway = await start(configured(upstream, limits={"inflight_mb": 1}))
    ws = await opened(gateway)
    upstream.says("a", HOLD)
    await ws.create("a" * 400_000)
    await gateway.until(lambda: len(upstream.calls) == 1)  # its body is held until it is answered
    await ws.create("a" * 400_000)
    refused = await ws.until("error")
    assert (refused["status"], refused["error"]["code"]) == (503, "too_many_bytes_in_flight")
    await gateway.until(lambda: gateway.process.bodies.held == 0)


async def test_a_silent_client_gets_pings(start: Any, configured: Any, upstream: FakeUpstream) -> None:
    """The client need not answer: some programs read only while they expect something."""
    limits = WebSocketLimits(ping_s=0.02)
    gateway = await start(configured(upstream), websocket_limits=limits)
    async with raw(gateway) as (reader, writer):
        for _ in range(20):
            assert await frame(reader) == (Opcode.PING, b"")
        writer.write(text(CREATE))
        while (await frame(reader))[0] != Opcode.TEXT:
            pass


async def test_an_old_connection_ends_with_its_error(
    start: Any, configured: Any, upstream: FakeUpstream, opened: Any
) -> None:
    """The connection ends after the response that it carries."""
    gateway = await start(configured(upstream), websocket_limits=WebSocketLimits(age_s=0.3))
    upstream.says("a", HOLD)
    ws = await opened(gateway)
    await ws.create()
    await ws.until("response.output_text.delta")
    while (refused := await ws.answer(lane="other", generate=False))["type"] != "error":
        pass
    assert (refused["status"], refused["error"]["code"]) == (400, "websocket_connection_limit_reached")
    upstream.release()
    code, _ = await ws.closed()
    assert code == 1001
    assert [event["type"] for event in ws.events][-2:] == ["response.completed", "error"]
    assert ws.events[-1]["error"]["code"] == "websocket_connection_limit_reached"


async def test_a_stopping_server_ends_responses_and_then_connections(
    start: Any, configured: Any, upstream: FakeUpstream, opened: Any
) -> None:
    gateway = await start(configured(upstream), websocket_limits=WebSocketLimits(grace_s=0.05))
    idle, busy = await opened(gateway), await opened(gateway)
    upstream.says("a", HOLD)
    await busy.create()
    await busy.create(stream_id="waits")
    await busy.until("response.output_text.delta")
    gateway.server.should_exit = True
    assert await idle.closed() == (1001, "the gateway is stopping; open another connection")
    upstream.release()
    assert (await busy.closed())[0] == 1001
    ends = [event.get("stream_id") for event in busy.events if event["type"] == "response.completed"]
    assert ends == [None, "waits"], "what had arrived is answered"
    with pytest.raises((OSError, InvalidStatus, ConnectionClosed)):
        await opened(gateway)


@pytest.mark.parametrize("asks", [True, False])
async def test_a_kept_connection_of_a_stopping_server_still_upgrades(
    start: Any, configured: Any, upstream: FakeUpstream, asks: bool
) -> None:
    """A proxy sends an upgrade on a connection that it keeps: the response is answered, then the client comes again."""
    limits = WebSocketLimits(grace_s=0.05)
    gateway = await start(configured(upstream), idle_grace_s=60.0, websocket_limits=limits)
    upstream.says("a")
    host, _, port = gateway.base_url.removeprefix("http://").removesuffix("/v1").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
    gateway.server.should_exit = True
    await gateway.until(lambda: not any(server.is_serving() for server in gateway.server.servers))
    writer.write(HANDSHAKE + (text(CREATE) if asks else b""))
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    events = []
    while (received := await frame(reader))[0] == Opcode.TEXT:
        events.append(json.loads(received[1])["type"])
    assert received[1][:2] == struct.pack("!H", 1001)
    assert events[-1:] == (["response.completed"] if asks else [])
    writer.close()


async def test_a_response_that_outlasts_the_drain_ends_with_an_error(
    start: Any, configured: Any, upstream: FakeUpstream, opened: Any
) -> None:
    gateway = await start(configured(upstream, limits={"drain_s": 1}))
    ws = await opened(gateway)
    upstream.says("a", HOLD)
    await ws.create()
    await ws.until("response.output_text.delta")
    gateway.server.should_exit = True
    failed = await ws.until("error")
    assert "the gateway is stopping" in failed["error"]["message"]
    assert (await ws.closed())[0] == 1001
    [exchange] = await gateway.recorded()
    assert exchange.outcome == "cut"


async def test_a_disabled_key_ends_its_responses(gateway: Any, ws: Any, upstream: FakeUpstream) -> None:
    upstream.says("a", HOLD)
    await ws.create()
    await ws.until("response.output_text.delta")
    assert gateway.process.app.end_calls({"tester"}) == 1
    failed = await ws.until("error")
    assert failed["error"]["code"] == "key_disabled"
