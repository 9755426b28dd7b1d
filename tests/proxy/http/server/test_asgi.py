"""ASGI on both sides: what an application sends becomes an answer, and our hot path reads a scope as it does a wire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import TooLarge
from gateway.proxy.http.server.asgi import AsgiClient, AsgiRequest, DisconnectWatcher, run_asgi
from gateway.proxy.types import ClientGone
from gateway.runtime.tasks import Tasks


class Sender:
    """An ASGI receive that gives these messages, and then waits."""

    def __init__(self, messages: Iterable[dict[str, Any]]) -> None:
        self.messages = list(messages)

    async def __call__(self) -> dict[str, Any]:
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)


def in_pieces(*pieces: bytes) -> Sender:
    last = len(pieces) - 1
    return Sender({"type": "http.request", "body": p, "more_body": at < last} for at, p in enumerate(pieces))


GONE = {"type": "http.disconnect"}


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    """Tasks that end with the test."""
    async with Tasks() as tasks:
        yield tasks


def a_request(receive: Sender, tasks: Tasks, *headers: tuple[bytes, bytes]) -> AsgiRequest:
    scope = {"method": "POST", "path": "/v1/é", "raw_path": b"/v1/%C3%A9", "query_string": b"a=b", "headers": headers}
    return AsgiRequest(scope, receive, tasks)


async def test_a_scope_is_read_as_the_wire_was(tasks: Tasks) -> None:
    request = a_request(in_pieces(b""), tasks, (b"a", b"1"), (b"a", b"2"))
    assert (request.method, request.path, request.query) == (b"POST", b"/v1/%C3%A9", b"a=b")
    assert request.fields == {b"a": b"2"}


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=8), st.integers(0, 120))
async def test_a_body_is_whole_in_any_split_or_refused_above_the_limit(pieces: list[bytes], limit: int) -> None:
    body = b"".join(pieces)
    async with Tasks() as tasks:
        request = a_request(in_pieces(*pieces), tasks)
        if len(body) > limit:
            with pytest.raises(TooLarge):
                await request.body(limit)
        else:
            assert await request.body(limit) == body


async def test_an_announced_length_above_the_limit_is_refused_unread(tasks: Tasks) -> None:
    unread = in_pieces(b"x")
    with pytest.raises(TooLarge, match=r"above the limit of 0\.001 MB"):
        await a_request(unread, tasks, (b"content-length", b"1001")).body(1000)
    assert len(unread.messages) == 1


@pytest.mark.parametrize("length", [b"", b"x", b"-1", b"1e9"])
async def test_an_invalid_content_length_is_left_to_the_server(tasks: Tasks, length: bytes) -> None:
    assert await a_request(in_pieces(b"ab"), tasks, (b"content-length", length)).body(10) == b"ab"


@pytest.mark.parametrize("before", [[], [b"half "]])
async def test_a_client_that_leaves_mid_request_is_gone(tasks: Tasks, before: list[bytes]) -> None:
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b, "more_body": True} for b in before]
    with pytest.raises(ClientGone):
        await a_request(Sender([*messages, GONE]), tasks).body(100)


async def test_a_watch_reports_the_disconnect() -> None:
    gone = asyncio.Event()
    async with Tasks() as tasks:
        watch = DisconnectWatcher(Sender([{"type": "http.request"}, GONE]), gone.set, tasks)
        watch.start()
        await asyncio.wait_for(gone.wait(), 60)
        watch.stop()


async def test_a_call_that_is_answered_soon_has_no_watch(tasks: Tasks) -> None:
    """The watch starts after 20 ms: most plain answers of a fast upstream need none."""
    receive, gone = Sender([GONE]), asyncio.Event()
    request = a_request(receive, tasks)
    request.watch(gone.set)
    request.unwatch()
    await asyncio.sleep(0.04)
    assert receive.messages == [GONE], "a watch would have received the disconnect"
    assert not gone.is_set()


class Answer:
    """What run_asgi makes of the messages."""

    def __init__(self) -> None:
        self.started = self.ended = self.closes = False
        self.did: list[Any] = []

    def close_after(self) -> None:
        self.closes = True

    def start(self, status: int, headers: Any, length: int | None = None) -> None:
        self.started = True
        self.did.append((status, headers, length))

    async def write(self, data: bytes) -> None:
        self.did.append(data)

    async def end(self, data: bytes = b"") -> None:
        self.ended = True
        self.did.append((data, "end"))

    async def end_nowait(self, data: bytes) -> None:
        self.ended = True
        self.did.append((data, "end_nowait"))


async def answered(*messages: dict[str, Any]) -> Answer:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    answer: Any = Answer()
    request: Any = Sender([])
    request.receive = request
    await run_asgi(app, {}, request, answer)
    assert isinstance(answer, Answer)
    return answer


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: bytes, more: bool = False, **members: Any) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more, **members}


async def test_framing_is_the_answers_own() -> None:
    headers = ((b"A", b"b"), (b"Content-Length", b"2"), (b"Connection", b"close"), (b"Transfer-Encoding", b"chunked"))
    answer = await answered(start(201, *headers), body(b"hi"))
    assert answer.did == [(201, [(b"a", b"b")], 2), (b"hi", "end")]
    assert answer.closes


async def test_pieces_are_written_and_a_last_word_may_not_wait() -> None:
    answer = await answered(start(), body(b"one", True), body(b"two", now=True))
    assert answer.did[1:] == [b"one", (b"two", "end_nowait")]


async def test_a_failing_application_is_a_500_without_details(caplog: Any) -> None:
    caplog.set_level(logging.CRITICAL, "gateway.proxy.http.server.asgi")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("inner words")

    answer: Any = Answer()
    request: Any = Sender([])
    request.receive = request
    await run_asgi(app, {}, request, answer)
    (status, _, length), (error, _) = answer.did
    assert (status, length) == (500, len(error))
    assert b"internal_error" in error
    assert b"inner words" not in error
    assert answer.closes


@pytest.mark.parametrize("messages", [[body(b"x")], [start(), start()], [start(), body(b""), body(b"x")]])
async def test_messages_out_of_order_are_a_fault(caplog: Any, messages: Any) -> None:
    await answered(*messages)
    assert "unexpected ASGI message" in caplog.text


async def test_a_client_is_started_before_its_head_is_on_the_wire() -> None:
    """While the send waits, nothing else can be asked any more: the head may be out."""
    seen: list[Any] = []

    async def send(message: Any) -> None:
        seen.append((client.started, message["type"], message.get("more_body")))

    client = AsgiClient(send)
    assert not client.started
    client.start(200, [(b"a", b"b")])
    await client.write(b"one")
    await client.end()
    assert seen == [
        (True, "http.response.start", None),
        (True, "http.response.body", True),
        (True, "http.response.body", False),
    ]
