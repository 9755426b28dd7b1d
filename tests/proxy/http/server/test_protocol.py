"""An answer's head and its first bytes leave in one write, and the wire says nothing that uvicorn's own would not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn

from gateway.proxy.http.server.protocol import HttpProtocol
from gateway.proxy.http.write_batching import FEW, WriteBatcher


@pytest.fixture
async def ask() -> AsyncIterator[Callable[..., Any]]:
    """Serves what `answer` sends, asks once (or more often, on one connection), and gives the pieces that came."""
    async with contextlib.AsyncExitStack() as stack:

        async def go(messages: Any, request: bytes = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", until: bytes = b"") -> bytes:
            port = await stack.enter_async_context(serving(messages))
            return await asked(port, request, until)

        yield go


@contextlib.asynccontextmanager
async def serving(messages: list[dict[str, Any]]) -> AsyncIterator[int]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    async with served(app) as port:
        yield port


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    config = uvicorn.Config(app, http=HttpProtocol, lifespan="off", log_config=None, port=0, server_header=False)
    server = uvicorn.Server(config)
    with contextlib.closing(config.bind_socket()) as sock:
        task = asyncio.get_running_loop().create_task(server._serve([sock]))
        async with asyncio.timeout(60):
            while not server.started:
                await asyncio.sleep(0.002)
        yield sock.getsockname()[1]
        server.should_exit = True
        await task


async def asked(port: int, request: bytes, until: bytes) -> bytes:
    """Everything that comes until the connection ends, or ends in `until`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    came = b""
    async with asyncio.timeout(60):
        while not (until and came.endswith(until)) and (data := await reader.read(65536)):
            came += data
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return came


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_a_plain_answer_is_framed_by_its_length(ask: Any) -> None:
    came = await ask([start(201, (b"content-length", b"2"), (b"x-a", b"b")), body(b"hi")], until=b"hi")
    head, _, rest = came.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 201 Created\r\n")
    assert b"\r\nx-a: b" in head
    assert b"transfer-encoding" not in head
    assert rest == b"hi"


async def test_a_stream_is_framed_in_chunks_and_ends_with_the_last(ask: Any) -> None:
    came = await ask([start(), body(b"one", True), body(b"", True), body(b"two", True), body()], until=b"0\r\n\r\n")
    head, _, rest = came.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert rest == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


async def test_the_head_and_the_first_bytes_are_one_write(monkeypatch: pytest.MonkeyPatch, ask: Any) -> None:
    written: list[bytes] = []
    real = asyncio.selector_events._SelectorSocketTransport.write  # type: ignore[attr-defined]

    def write(self: Any, data: bytes) -> None:
        if bytes(data).startswith((b"HTTP/1.1 200", b"3\r\n")):
            written.append(bytes(data))
        real(self, data)

    monkeypatch.setattr(asyncio.selector_events._SelectorSocketTransport, "write", write)  # type: ignore[attr-defined]
    await ask([start(), body(b"one", True), body(b"two", False)], until=b"0\r\n\r\n")
    assert written[0].endswith(b"\r\n\r\n3\r\none\r\n")


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: x", b"a\nb", b"a\rb"])
async def test_no_header_hides_another(ask: Any, value: bytes) -> None:
    came = await ask([start(200, (b"x-a", value)), body(b"hi")])
    assert b"set-cookie" not in came
    assert came == b"" or came.startswith(b"HTTP/1.1 500")


async def test_head_has_the_length_and_no_body(ask: Any) -> None:
    request = b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n"
    came = await ask([start(200, (b"content-length", b"2")), body(b"hi")], request, until=b"\r\n\r\n")
    assert b"content-length: 2" in came
    assert came.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_is_not_chunked(ask: Any, status: int) -> None:
    came = await ask([start(status), body()], until=b"\r\n\r\n")
    assert b"transfer-encoding" not in came


async def test_a_connection_answers_one_request_after_another(ask: Any) -> None:
    request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 2 + b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    came = await ask([start(200, (b"content-length", b"2")), body(b"hi")], request)
    assert came.count(b"HTTP/1.1 200 OK") == came.count(b"\r\n\r\nhi") == 3
    assert came.count(b"connection: close") == 1


async def test_an_http_1_0_client_may_keep_its_connection(ask: Any) -> None:
    request = b"GET / HTTP/1.0\r\nhost: x\r\nconnection: keep-alive\r\n\r\n"
    came = await ask([start(200, (b"content-length", b"2")), body(b"hi")], request, until=b"hi")
    assert b"\r\nconnection: keep-alive\r\n" in came
    streamed = await ask([start(), body(b"one", True), body()], request)
    assert b"\r\nconnection: close\r\n" in streamed, "its end is the end of the answer"
    assert streamed.endswith(b"\r\n\r\none")
    assert b"keep-alive" not in await ask(
        [start(200, (b"content-length", b"2")), body(b"hi")], b"GET / HTTP/1.0\r\n\r\n"
    )


async def test_three_hundred_pipelined_requests_are_answered_in_order(ask: Any) -> None:
    request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 299 + b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    came = await ask([start(200, (b"content-length", b"2")), body(b"hi")], request)
    assert came.count(b"HTTP/1.1 200 OK") == came.count(b"\r\n\r\nhi") == 300


async def test_answers_of_one_round_leave_together_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    all_came, go_on = asyncio.Event(), asyncio.Event()
    count = 2 * FEW

    async def app(scope: Any, receive: Any, send: Any) -> None:
        happened.append("came")
        if happened.count("came") == count:
            all_came.set()
        await go_on.wait()
        happened.append("made")
        await send(start(200, (b"content-length", b"2")))
        await send(body(b"hi"))

    real = asyncio.selector_events._SelectorSocketTransport.write  # type: ignore[attr-defined]

    def write(self: Any, data: bytes) -> None:
        if bytes(data).startswith(b"HTTP/1.1 200"):
            happened.append("written")
        real(self, data)

    class Shared:
        """One WriteBatcher for all connections, as an App has it."""

        def __init__(self) -> None:
            self.direct = self
            self.outbox = WriteBatcher()

        def find(self, method: bytes, path: bytes) -> None:
            return None

        def canonical(self, path: bytes) -> bytes:
            return path

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

    monkeypatch.setattr(asyncio.selector_events._SelectorSocketTransport, "write", write)  # type: ignore[attr-defined]
    request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    async with served(Shared()) as port, asyncio.TaskGroup() as group:
        asking = [group.create_task(asked(port, request, b"hi")) for _ in range(count)]
        await all_came.wait()
        go_on.set()
    assert all(one.result().endswith(b"\r\n\r\nhi") for one in asking)
    assert happened == ["came"] * count + ["made"] * count + ["written"] * count


async def test_the_next_request_does_not_wait_for_settling() -> None:
    settle, answered = asyncio.Event(), 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal answered
        await send(start(200, (b"content-length", b"2")))
        await send(body(b"hi"))
        answered += 1
        if answered == 1:
            await settle.wait()

    request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    async with served(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(60):
            for _ in range(2):
                writer.write(request)
                await reader.readuntil(b"\r\n\r\nhi")
        settle.set()
        writer.close()


WRONG = [
    ([start(200, (b"content-length", b"2")), body(b"longer")], b"longer"),
    ([start(200, (b"content-length", b"9")), body(b"short")], None),
    ([start(), body(b"one", True)], None),
    ([body(b"no head")], b"no head"),
]


@pytest.mark.parametrize(("messages", "never"), WRONG, ids=["too long", "too short", "unfinished", "no head"])
async def test_an_answer_that_is_not_right_never_looks_whole(ask: Any, messages: Any, never: bytes | None) -> None:
    came = await ask(messages)
    assert never is None or never not in came
    assert b"\r\n0\r\n\r\n" not in came


async def test_the_last_bytes_do_not_wait_for_a_client_that_stalls() -> None:
    ended = asyncio.Event()

    class Endless:
        """Answers by itself, as the gateway does: until the client no longer reads."""

        def __init__(self) -> None:
            self.direct = self
            self.outbox = WriteBatcher()

        def find(self, method: bytes, path: bytes) -> object:
            return self

        def canonical(self, path: bytes) -> bytes:
            return path

        async def answer(self, endpoint: object, request: Any, client: Any) -> None:
            client.start(200, [])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    while True:
                        await client.write(b"x" * 1_000_000)
            await client.end_nowait(b"last")
            ended.set()

    app: Any = Endless()
    config = uvicorn.Config(
        app, http=HttpProtocol, interface="asgi3", proxy_headers=False, lifespan="off", log_config=None, port=0
    )
    server = uvicorn.Server(config)
    with contextlib.closing(config.bind_socket()) as sock, socket.socket() as client:
        task = asyncio.get_running_loop().create_task(server._serve([sock]))
        async with asyncio.timeout(60):
            while not server.started:
                await asyncio.sleep(0.002)
            client.connect(("127.0.0.1", sock.getsockname()[1]))
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await ended.wait()
        server.should_exit = True
        await task


async def answer_hello(scope: Any, receive: Any, send: Any) -> None:
    await send(start())
    await send(body(b"hello"))


async def test_a_new_connection_is_answered_while_the_server_stops(talk: Any) -> None:
    """The kernel had accepted it already: its client cannot know that the server stops."""
    line = await talk(answer_hello, fresh_grace_s=30.0)
    await line.stop_listening()
    await line.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = await line.rest()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in answer.lower()


async def test_an_idle_new_connection_does_not_delay_the_stop(talk: Any) -> None:
    line = await talk(answer_hello, fresh_grace_s=0.01)
    await line.stop_listening()
    assert await line.rest() == b""
