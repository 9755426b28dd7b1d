"""Readers of streams whose frames hold Anthropic's events, or what is translated to them: for clients of chats and of
messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from gateway.core.sse import Event
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.anthropic_reader import MessagesReader, ToChatReader
from gateway.proxy.dialects.event_reader import EventReader
from gateway.proxy.dialects.types import Reader
from gateway.proxy.request.call import Call

AnthropicEvent = dict[str, Any]
_NO_EVENT = Event(b"", b"", b"")


class AnthropicFrames(Protocol):
    """Frames → Anthropic's events."""

    @property
    def stopped(self) -> bool:
        """Whether the model has finished, which no event may have said yet."""
        ...

    def feed(self, data: bytes) -> Iterator[AnthropicEvent]:
        """Raises Cut for a frame that cannot be decoded."""
        ...

    def rest(self) -> Iterator[AnthropicEvent]:
        """The events that are still owed when the stream has ended."""
        ...


def framed_reader(call: Call, frames: AnthropicFrames, *, keep_text: bool) -> Reader:
    """The reader for the client of this call."""
    if call.api == "messages":
        return FramesToMessagesReader(frames)
    return FramesToChatReader(call, frames, keep_text=keep_text)


class _FramedReader(EventReader):
    """Reads the events of frames in place of server-sent ones."""

    __slots__ = ()
    _frames: AnthropicFrames

    def feed(self, data: bytes) -> bytes:
        return b"" if self.complete else self._read_all(self._frames.feed(data))

    def passes(self, data: bytes) -> int:
        return 0

    def end(self) -> bytes:
        if self.complete or self._ended:
            return b""
        self._ended = True
        return self._closed(self._read_all(self._frames.rest()))

    def _read_all(self, found: Iterator[AnthropicEvent]) -> bytes:
        out = []
        for event in found:
            try:
                out.append(self._client_bytes(event))
            except (AttributeError, KeyError, TypeError, ValueError):
                continue  # an event of an unknown shape is ignored; the others still count
            if self.complete:
                break
        self.finished = self.finished or self._frames.stopped
        return b"".join(out)

    def _client_bytes(self, event: AnthropicEvent) -> bytes:
        """The client's bytes for an event."""
        raise NotImplementedError


class FramesToChatReader(_FramedReader, ToChatReader):
    """Frames → chat chunks."""

    __slots__ = ("_frames",)

    def __init__(self, call: Call, frames: AnthropicFrames, *, keep_text: bool) -> None:
        super().__init__(call, keep_text=keep_text)
        self._frames = frames

    def _client_bytes(self, event: AnthropicEvent) -> bytes:
        return self._part(event, _NO_EVENT)


class FramesToMessagesReader(_FramedReader, MessagesReader):
    """Frames → Anthropic's events, for Anthropic's clients."""

    __slots__ = ("_frames",)

    def __init__(self, frames: AnthropicFrames) -> None:
        super().__init__()
        self._frames = frames

    def _client_bytes(self, event: AnthropicEvent) -> bytes:
        self._read(event)
        if event.get("type") == "message_start" and not event["message"].get("usage"):
            event["message"]["usage"] = {"input_tokens": 0, "output_tokens": 0}  # Anthropic's clients read numbers
        return event_bytes(event)


def event_bytes(event: AnthropicEvent) -> bytes:
    """An event of Anthropic's as it is streamed."""
    return b"event: %b\ndata: %b\n\n" % (str(event.get("type")).encode(), lenient_json.dumps(event))
