"""WebSockets to upstreams: what a server may do wrong, and the error that each is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from websockets.asyncio.server import ServerConnection, serve

from gateway.core.errors import BadResponse, BodyCut, ConnectFailed, ConnectionLost, ConnectTimeout
from gateway.proxy.http.client.resolver import Resolver
from gateway.proxy.http.client.tls import UpstreamTls
from gateway.proxy.http.client.transport import UpgradeRefused
from gateway.proxy.http.client.upstream_websocket import HIGH_WATER, MOST_BYTES, UpstreamWebSocket
from gateway.proxy.http.client.websocket import WebSocketConnector


@contextlib.asynccontextmanager
async def to(origin: str, connect_s: float = 30) -> AsyncIterator[UpstreamWebSocket]:
    connector = WebSocketConnector(UpstreamTls(), Resolver())
    socket = await connector.open(origin, b"/v1/responses?a=1", [(b"x-a", b"1"), (b"host", b"other")], connect_s)
    try:
        yield socket
    finally:
        socket.abort()


@contextlib.asynccontextmanager
async def server(run: Callable[[ServerConnection], object]) -> AsyncIterator[str]:
    async with serve(run, "127.0.0.1", 0, max_size=None) as listening:  # type: ignore[arg-type]
        yield f"http://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}"


@contextlib.asynccontextmanager
async def raw(answer: bytes) -> AsyncIterator[str]:
    """A server that answers every request with these bytes and closes."""

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(answered, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def test_messages_go_out_and_come_in() -> None:
    async def run(connection: ServerConnection) -> None:
        assert connection.request is not None
        assert (connection.request.path, connection.request.headers["x-a"]) == ("/v1/responses?a=1", "1")
        async for message in connection:
            await connection.send([message, " in", " pieces"])  # type: ignore[list-item]

    async with server(run) as origin, to(origin) as socket:
        for text in (b"one", b"two"):
            socket.send(text)
            assert await socket.messages() == [text + b" in pieces"]


async def test_unread_bytes_stop_the_sender() -> None:
    """The rest of an answer is not taken for the next."""

    async def run(connection: ServerConnection) -> None:
        await connection.recv()
        for _ in range(200):
            await connection.send("a" * 65_536)
        await connection.recv()
        await connection.send("second")

    async with server(run) as origin, to(origin) as socket:
        socket.send(b"first")
        await socket.messages()
        while not (messages := await socket.messages())[0].startswith(b"a"):
            pass
        assert sum(map(len, messages)) <= HIGH_WATER + 2 * 1024 * 1024
        socket.send(b"next")
        while (messages := await socket.messages())[-1] != b"second":
            pass


async def test_the_end_of_a_connection_is_a_cut_with_its_reason() -> None:
    async def run(connection: ServerConnection) -> None:
        await connection.send("last")
        await connection.close(1011, "out of order")

    async with server(run) as origin, to(origin) as socket:
        assert await socket.messages() == [b"last"]
        with pytest.raises(BodyCut, match="with code 1011: out of order"):
            await socket.messages()
        assert not socket.open


@pytest.mark.parametrize("message", [b"binary", "a" * (MOST_BYTES + 1)], ids=["binary", "too long"])
async def test_a_message_that_is_none_ends_it(message: bytes | str) -> None:
    async def run(connection: ServerConnection) -> None:
        await connection.send(message)
        await connection.wait_closed()

    async with server(run) as origin, to(origin) as socket:
        with pytest.raises(BodyCut):
            await socket.messages()


async def test_an_answer_by_http_is_given_on() -> None:
    async with raw(b"HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nwait") as origin:
        with pytest.raises(UpgradeRefused) as refused:
            async with to(origin):
                pass
    assert (refused.value.status, refused.value.body) == (429, b"wait")
    assert (b"retry-after", b"7") in refused.value.headers


SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", ConnectionLost),
        (b"HTTP/1.1 101 Switching Protocols\r\n", ConnectionLost),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", (BadResponse, ConnectionLost)),
        (SWITCHED, (BadResponse, ConnectionLost)),
    ],
    ids=["nothing", "half a head", "another protocol", "without the key's answer"],
)  # fmt: skip
async def test_a_handshake_that_fails(answer: bytes, error: type[Exception]) -> None:
    async with raw(answer) as origin:
        with pytest.raises(error):
            async with to(origin):
                pass


async def test_nobody_listens() -> None:
    async with raw(b"") as origin:
        pass
    with pytest.raises(ConnectFailed):
        async with to(origin):
            pass


async def test_a_connection_has_its_time() -> None:
    with pytest.raises(ConnectTimeout):
        async with to("http://127.0.0.1:9", connect_s=0):
            pass
