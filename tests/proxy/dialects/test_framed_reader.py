"""Readers of frames: what they make of events is shown with the dialects that have frames; here, what they survive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.proxy.dialects.framed_reader import AnthropicEvent, framed_reader
from gateway.proxy.dialects.types import Cut

START = {"type": "message_start", "message": {"id": "m", "role": "assistant", "usage": {}}}
SAID = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}
ODD: list[AnthropicEvent] = [
    {"type": "content_block_delta", "index": 0, "delta": "text"},
    {"type": "message_start", "message": 7},
    {},
]
END = [
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]


class Events:
    """Frames that are events already, one for each feed; `owed` comes at the end."""

    def __init__(self, owed: list[AnthropicEvent], *, stopped: bool = False) -> None:
        self.owed = owed
        self.stopped = stopped
        self.next: list[AnthropicEvent] = []

    def feed(self, data: bytes) -> Iterator[AnthropicEvent]:
        return iter(self.next)

    def rest(self) -> Iterator[AnthropicEvent]:
        return iter(self.owed)


@pytest.mark.parametrize("api", ["chat", "messages"])
def test_an_event_of_an_unknown_shape_is_left_out(api: str, make_call: Any) -> None:
    frames = Events([])
    reader: Any = framed_reader(make_call(api, stream=True), frames, keep_text=False)
    frames.next = [dict(START), *ODD, SAID, *END]
    out = reader.feed(b"x")
    assert b"Hi" in out
    assert (reader.complete, reader.finished, reader.first_content) == (True, True, True)
    assert (reader.feed(b"x"), reader.end(), reader.passes(b"x")) == (b"", b"", 0)


@pytest.mark.parametrize("api", ["chat", "messages"])
def test_a_stream_that_has_stopped_ends_with_what_is_owed(api: str, make_call: Any) -> None:
    frames = Events(END, stopped=True)
    reader: Any = framed_reader(make_call(api, stream=True), frames, keep_text=False)
    frames.next = [dict(START), SAID]
    reader.feed(b"x")
    assert reader.finished
    assert not reader.complete
    assert reader.end().rstrip().endswith((b"[DONE]", b'"type":"message_stop"}'))
    with pytest.raises(Cut):
        framed_reader(make_call(api, stream=True), Events([]), keep_text=False).end()
