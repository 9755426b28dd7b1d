"""The messages of an ASGI application become an answer on the gateway's connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import pytest

from gateway.proxy.http.server.asgi import DisconnectWatcher, run_asgi
from gateway.runtime.tasks import Tasks


class Sender:
    """An ASGI receive that gives these messages, and then waits."""

    def __init__(self, messages: Iterable[dict[str, Any]]) -> None:
        self.messages = list(messages)

    async def __call__(self) -> dict[str, Any]:
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)


GONE = {"type": "http.disconnect"}


async def test_a_watch_reports_the_disconnect() -> None:
    gone = asyncio.Event()
    async with Tasks() as tasks:
        watch = DisconnectWatcher(Sender([{"type": "http.request"}, GONE]), gone.set, tasks)
        watch.start()
        await asyncio.wait_for(gone.wait(), 60)
        watch.stop()


class Answer:
    """The answer that run_asgi makes of the messages."""

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


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_framing_is_the_answers_own() -> None:
    headers = ((b"A", b"b"), (b"Content-Length", b"2"), (b"Connection", b"close"), (b"Transfer-Encoding", b"chunked"))
    answer = await answered(start(201, *headers), body(b"hi"))
    assert answer.did == [(201, [(b"a", b"b")], 2), (b"hi", "end")]
    assert answer.closes


async def test_pieces_are_written_as_they_come() -> None:
    answer = await answered(start(), body(b"one", True), body(b"two"))
    assert answer.did[1:] == [b"one", (b"two", "end")]


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
