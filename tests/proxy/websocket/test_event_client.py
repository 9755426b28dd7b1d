"""The hot path's output as messages."""

from __future__ import annotations

import json
from typing import Any

from gateway.proxy.websocket.event_client import EventClient

EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]


class Kept:
    """A connection that keeps what is sent."""

    writable = True

    def __init__(self, *, paused: bool = False) -> None:
        self.paused = paused
        self.sent: list[Any] = []
        self.aborted = False
        self.drained = 0

    def send(self, texts: list[bytes]) -> None:
        self.sent += map(json.loads, texts)

    async def drain(self) -> None:
        self.paused = False
        self.drained += 1

    def abort(self) -> None:
        self.aborted = True


async def test_events_in_any_dress() -> None:
    """Several in one write, with CRLF, without a name, with comments; and [DONE] is none."""
    connection = Kept(paused=True)
    client = EventClient(connection, "a")
    client.start(200, EVENTS)
    await client.write(b': note\n\nevent: x\r\ndata: {"type":"x"}\r\n\r\ndata: {"type":"y",\ndata: "n":1}\n\n')
    assert connection.drained == 1, "a client that does not read is waited for"
    await client.end(b"data: [DONE]\n\n")
    assert connection.sent == [{"stream_id": "a", "type": "x"}, {"stream_id": "a", "type": "y", "n": 1}]
    client.fail_unended()
    assert (connection.sent[-1]["type"], connection.sent[-1]["error"]["code"]) == ("error", "stream_cut")


async def test_the_end_is_reported_before_it_is_sent() -> None:
    connection = Kept()
    client = EventClient(connection, None)
    seen: list[Any] = []
    client.on_end = lambda ended: seen.append((ended.response, list(connection.sent)))
    client.start(200, EVENTS)
    client.write_nowait(b'data: {"type":"response.incomplete","response":{"id":"r","output":[{"a":1}]}}\n\n')
    assert seen == [(("r", b'{"a":1}'), [])]
    client.fail_unended()
    assert len(connection.sent) == 1


async def test_bytes_that_are_not_utf_8_are_replaced() -> None:
    connection = Kept()
    client = EventClient(connection, None)
    client.start(200, EVENTS)
    client.write_nowait('data: {"type":"x","delta":"é"}\n\n'.encode() + b'data: {"type":"x","delta":"\xff"}\n\n')
    assert [event["delta"] for event in connection.sent] == ["é", "\ufffd"]


async def test_a_failed_response_is_not_continued() -> None:
    client = EventClient(Kept(), None)
    client.start(200, EVENTS)
    client.write_nowait(b'data: {"type":"response.failed","response":{"id":"r","output":[]}}\n\n')
    assert (client.ended, client.refused, client.response) == (True, False, None)


async def test_a_broken_end_does_not_wait_for_a_client_that_does_not_read() -> None:
    connection = Kept(paused=True)
    client = EventClient(connection, None)
    client.start(200, EVENTS)
    await client.end_nowait(b"")
    assert connection.aborted
