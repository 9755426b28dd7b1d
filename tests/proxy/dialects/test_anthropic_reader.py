"""Anthropic's streams: chat chunks for OpenAI's clients, the same bytes for its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.dialects.anthropic_reader import MessagesReader, ToChatReader
from gateway.proxy.dialects.types import Cut, Reader
from gateway.proxy.request.call import Call

MakeCall = Callable[..., Call]
Read = Callable[[Reader, bytes, int], bytes]
DataOf = Callable[[bytes], list[dict[str, Any]]]

ASKED = {"stream_options": {"include_usage": True}}
TEXT = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}\n\n'
FINISH = b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def to_chat(call: Call, keep_text: bool = False) -> ToChatReader:
    return ToChatReader(call, keep_text=keep_text)


def test_a_chat_client_gets_every_part(sse: Any, make_call: MakeCall, read: Read, data_of: DataOf) -> None:
    reader = to_chat(make_call(stream=True, **ASKED), keep_text=True)
    out = read(reader, sse.stream, 10_000)
    chunks = [c for c in data_of(out) if c.get("choices")]
    choices = [c["choices"][0] for c in chunks]
    assert tuple(c["delta"] for c in choices if c["delta"]) == sse.deltas
    assert next((c["finish_reason"] for c in choices if c["finish_reason"]), None) == sse.finish
    assert (reader.usage, reader.error) == (sse.usage, sse.error)
    assert {(c["id"], c["object"], c["created"]) for c in chunks} <= {("msg_1", "chat.completion.chunk", 1764000000)}
    assert out.endswith(b"data: [DONE]\n\n") is (sse.error is None)
    assert reader.continuable is sse.plain
    assert reader.text == "".join(d.get("content", "") for d in sse.deltas)


def test_every_size_of_pieces_gives_the_same_chunks(sse: Any, make_call: MakeCall, read: Read) -> None:
    whole = read(to_chat(make_call(stream=True, **ASKED)), sse.stream, len(sse.stream))
    for size in range(1, len(sse.stream)):
        reader = to_chat(make_call(stream=True, **ASKED))
        assert read(reader, sse.stream, size) == whole, size
        assert reader.usage == sse.usage


def test_usage_comes_last_and_only_if_it_was_asked_for(
    sse: Any, make_call: MakeCall, read: Read, data_of: DataOf
) -> None:
    if sse.error is not None:
        return
    asked = data_of(read(to_chat(make_call(stream=True, **ASKED)), sse.stream, 10_000))
    usage = asked[-1]["usage"]
    assert asked[-1]["choices"] == []
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (
        sse.usage.input_tokens,
        sse.usage.output_tokens,
    )
    silent = data_of(read(to_chat(make_call(stream=True)), sse.stream, 10_000))
    assert not any("usage" in chunk for chunk in silent)


def test_an_anthropic_client_gets_the_same_bytes(sse: Any, read: Read) -> None:
    supplied = STOP if sse.name == "no message_stop" else b""
    for size in range(1, len(sse.stream) + 1):
        reader = MessagesReader()
        assert read(reader, sse.stream, size) == sse.stream + supplied, size
        assert (reader.usage, reader.error) == (sse.usage, sse.error)


def test_what_follows_the_end_is_left_out() -> None:
    """vLLM's Messages API closes with OpenAI's [DONE]."""
    assert MessagesReader().feed(TEXT + FINISH + STOP + b"data: [DONE]\n\n") == TEXT + FINISH + STOP


@pytest.mark.parametrize("stream", [b"", TEXT, TEXT + FINISH[:40], b": ping\n\n"])
def test_a_stream_without_a_stop_reason_is_cut(make_call: MakeCall, stream: bytes) -> None:
    for reader in (MessagesReader(), to_chat(make_call(stream=True))):
        reader.feed(stream)
        with pytest.raises(Cut):
            reader.end()


def test_the_end_is_sent_once(make_call: MakeCall) -> None:
    for reader in (MessagesReader(), to_chat(make_call(stream=True))):
        reader.feed(TEXT + FINISH)
        assert reader.end()
        assert reader.end() == b""


def test_content_is_seen_when_it_comes(make_call: MakeCall) -> None:
    start = b'data: {"type":"message_start","message":{"usage":{"input_tokens":1}}}\n\n'
    empty = b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    for reader in (MessagesReader(), to_chat(make_call(stream=True))):
        reader.feed(start + empty)
        assert not reader.first_content
        reader.feed(TEXT)
        assert reader.first_content


def test_half_a_surrogate_pair_is_said_as_it_came(make_call: MakeCall) -> None:
    out = to_chat(make_call(stream=True)).feed(TEXT.replace(b'"x"', b'"\\ud83e"'))
    assert b'"content": "\\ud83e"' in out


SHAPES = st.sampled_from(
    [TEXT, FINISH, STOP, b'data: {"type":"content_block_delta","delta":7}\n\n', b'data: {"type":"message_start"}\n\n',
     b'data: {"type":"message_delta","delta":"x","usage":3}\n\n', b'data: {"type":[],"error":{}}\n\n', b"data: {}\n\n",
     b'data: {"type":"content_block_start","index":"a","content_block":{"type":"tool_use"}}\n\n', b"data: {oops\n\n",
     b'data: {"type":"message_start","message":[1]}\n\n', b'data: {"type":"error","error":null}\n\n']
)  # fmt: skip


@given(st.lists(SHAPES, max_size=8))
def test_no_shape_breaks_a_reader(make_call: MakeCall, shapes: list[bytes]) -> None:
    for reader in (MessagesReader(), to_chat(make_call(stream=True), keep_text=True)):
        for shape in shapes:
            reader.feed(shape)
        assert isinstance(reader.text, str)
