"""The client of one response over WebSocket: sends the event stream of the hot path as messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.core.errors import UpstreamFailed
from gateway.core.sse import events
from gateway.proxy.dialects.responses_events import ENDS, done_item, ended_response, kind_of
from gateway.proxy.types import Headers
from gateway.proxy.websocket import server_events

_UPSTREAM_ERROR = 502


class MessageConnection(Protocol):
    """The part of a connection that a response needs."""

    @property
    def writable(self) -> bool: ...
    @property
    def paused(self) -> bool: ...
    def send(self, texts: list[bytes]) -> None: ...
    async def drain(self) -> None: ...
    def abort(self) -> None: ...


class EventClient:
    """A ClientConnection. The events of a response pass as they are, each a message with the `stream_id` of its lane;
    an error answer is the protocol's error event."""

    __slots__ = ("_body", "_connection", "_headers", "_items", "_lane", "_status", "_streams", "ended", "on_end",
                 "refused", "response", "started")  # fmt: skip

    def __init__(self, connection: MessageConnection, lane: str | None) -> None:
        self.started = False
        self.ended = False
        """An event that ends the response, or an error, has been sent."""
        self.refused = False
        """Whether the reply was an error."""
        self.response: tuple[str, bytes] | None = None
        """The id and the output items of the complete response; None if there is none that could be continued."""
        self.on_end: Callable[[EventClient], None] = _nothing
        """Called before the event that ends the response is sent: the client may continue it at once."""
        self._connection = connection
        self._lane = lane
        self._status = 0
        self._streams = False
        self._headers: Headers = []
        self._body: list[bytes] = []  # of an answer that is not a stream
        self._items: list[bytes] = []  # of the response so far

    @property
    def writable(self) -> bool:
        return self._connection.writable

    def start(self, status: int, headers: Headers, length: int | None = None, extra_lines: bytes = b"") -> None:
        self.started = True
        self._status = status
        self._streams = any(n == b"content-type" and v.startswith(b"text/event-stream") for n, v in headers)
        if not self._streams:
            self._headers = [*headers, *server_events.header_lines(extra_lines)]

    async def write(self, data: bytes) -> None:
        if self._connection.paused:
            await self._connection.drain()
        self.write_nowait(data)

    def write_nowait(self, data: bytes) -> None:
        if self._streams:
            self._send([event for found in events(data) if (event := self._event(found.data, found.name))])
        else:
            self._body.append(data)

    async def end(self, data: bytes = b"") -> None:
        if self._connection.paused:
            await self._connection.drain()
        self._finish(data)

    async def end_nowait(self, data: bytes) -> None:
        if self._connection.paused:
            self._connection.abort()
        else:
            self._finish(data)

    def fail_unended(self) -> None:
        """Sends an error if the response has not ended: where HTTP would close its connection."""
        if not self.ended:
            error = UpstreamFailed("the response broke off", code="stream_cut")
            self._refuse(server_events.error_event(error))

    def _finish(self, data: bytes) -> None:
        self.write_nowait(data)
        if self._streams:
            return
        body = b"".join(self._body)
        self._body.clear()
        whole = server_events.events_of_answer(body) if 200 <= self._status < 300 else []
        if whole:
            self._send([event for found in whole if (event := self._event(found, b""))])
        else:
            self._refuse(server_events.error_of_answer(self._status, body, self._headers))

    def _refuse(self, event: bytes) -> None:
        self.ended = self.refused = True
        self._send([event])

    def _send(self, texts: list[bytes]) -> None:
        self._connection.send([server_events.in_lane(text, self._lane) for text in texts])

    def _event(self, data: bytes, name: bytes) -> bytes:
        """The message of one event; b"": the client gets none."""
        if data[:1] != b"{":  # [DONE], or a comment
            return b""
        data = data if data.isascii() else _in_utf8(data)
        kind = name.decode("latin-1") or kind_of(data)
        if kind == "response.output_item.done":
            self._items.append(done_item(data))
        elif kind in ENDS:
            self._end(data, kind)
        elif kind == "error" or (not kind and b'"error"' in data):
            self.ended = self.refused = True
            return server_events.error_in_stream(data, _UPSTREAM_ERROR)
        return data

    def _end(self, data: bytes, kind: str) -> None:
        self.ended = True
        response = ended_response(data)
        if response is not None and response.id and kind != "response.failed":
            # Some servers leave the output of the last event empty.
            self.response = response.id, response.items or b",".join(filter(None, self._items))
        self._items.clear()
        self.on_end(self)


def _in_utf8(event: bytes) -> bytes:
    """The event as a text message must be: one that is not UTF-8 would end the client's connection, with all lanes."""
    return event.decode("utf-8", "replace").encode()


def _nothing(_: EventClient) -> None:
    pass
