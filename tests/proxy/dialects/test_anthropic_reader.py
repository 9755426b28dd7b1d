"""Anthropic's answers and streams: OpenAI's form for OpenAI's clients, the same bytes for its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from fixtures.piece_sizes import STEPS, piece_sizes
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Usage
from gateway.proxy.dialects.anthropic_reader import (
    FINISH,
    MessagesReader,
    ToChatReader,
    to_chat,
    to_openai_error,
    usage_in,
)
from gateway.proxy.dialects.chat_reader import chat_usage
from gateway.proxy.dialects.types import Cut, Reader
from gateway.proxy.request.call import Call

MakeCall = Callable[..., Call]
Read = Callable[[Reader, bytes, int], bytes]
DataOf = Callable[[bytes], list[dict[str, Any]]]

ASKED = {"stream_options": {"include_usage": True}}
TEXT = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}\n\n'
FINISHED = b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def chat_reader(call: Call, keep_text: bool = False) -> ToChatReader:
    return ToChatReader(call, keep_text=keep_text)


def test_a_chat_client_gets_every_part(sse: Any, make_call: MakeCall, read: Read, data_of: DataOf) -> None:
    reader = chat_reader(make_call(stream=True, **ASKED), keep_text=True)
    out = read(reader, sse.stream, 10_000)
    chunks = [c for c in data_of(out) if c.get("choices")]
    choices = [c["choices"][0] for c in chunks]
    assert tuple(c["delta"] for c in choices if c["delta"]) == sse.deltas
    assert next((c["finish_reason"] for c in choices if c["finish_reason"]), None) == sse.finish
    assert (reader.usage, reader.error) == (sse.usage, sse.error)
    assert {(c["id"], c["object"], c["created"]) for c in chunks} <= {("msg_1", "chat.completion.chunk", 1764000000)}
    assert out.endswith(b"data: [DONE]\n\n") is (sse.error is None)
    assert reader.continuable is sse.plain
    assert reader.text == ("".join(d.get("content", "") for d in sse.deltas) if sse.plain else "")


@STEPS
def test_pieces_of_any_size_give_the_same_chunks(sse: Any, make_call: MakeCall, read: Read, step: int) -> None:
    whole = read(chat_reader(make_call(stream=True, **ASKED)), sse.stream, len(sse.stream))
    for size in piece_sizes(len(sse.stream), step):
        reader = chat_reader(make_call(stream=True, **ASKED))
        assert read(reader, sse.stream, size) == whole, size
        assert reader.usage == sse.usage


def test_usage_comes_last_and_only_if_it_was_asked_for(
    sse: Any, make_call: MakeCall, read: Read, data_of: DataOf
) -> None:
    if sse.error is not None:
        return
    asked = data_of(read(chat_reader(make_call(stream=True, **ASKED)), sse.stream, 10_000))
    usage = asked[-1]["usage"]
    assert asked[-1]["choices"] == []
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (
        sse.usage.input_tokens,
        sse.usage.output_tokens,
    )
    silent = data_of(read(chat_reader(make_call(stream=True)), sse.stream, 10_000))
    assert not any("usage" in chunk for chunk in silent)


@STEPS
def test_an_anthropic_client_gets_the_same_bytes(sse: Any, read: Read, step: int) -> None:
    supplied = STOP if sse.name == "no message_stop" else b""
    for size in piece_sizes(len(sse.stream), step):
        reader = MessagesReader()
        assert read(reader, sse.stream, size) == sse.stream + supplied, size
        assert (reader.usage, reader.error) == (sse.usage, sse.error)


def test_events_after_the_end_are_left_out() -> None:
    """vLLM's Messages API closes with OpenAI's [DONE]."""
    assert MessagesReader().feed(TEXT + FINISHED + STOP + b"data: [DONE]\n\n") == TEXT + FINISHED + STOP


@pytest.mark.parametrize("stream", [b"", TEXT, TEXT + FINISHED[:40], b": ping\n\n"])
def test_a_stream_without_a_stop_reason_is_cut(make_call: MakeCall, stream: bytes) -> None:
    for reader in (MessagesReader(), chat_reader(make_call(stream=True))):
        reader.feed(stream)
        with pytest.raises(Cut):
            reader.end()


def test_the_end_is_sent_once(make_call: MakeCall) -> None:
    for reader in (MessagesReader(), chat_reader(make_call(stream=True))):
        reader.feed(TEXT + FINISHED)
        assert reader.end()
        assert reader.end() == b""


def test_content_is_seen_when_it_comes(make_call: MakeCall) -> None:
    start = b'data: {"type":"message_start","message":{"usage":{"input_tokens":1}}}\n\n'
    empty = b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    for reader in (MessagesReader(), chat_reader(make_call(stream=True))):
        reader.feed(start + empty)
        assert not reader.first_content
        reader.feed(TEXT)
        assert reader.first_content


def test_half_a_surrogate_pair_is_said_as_it_came(make_call: MakeCall) -> None:
    out = chat_reader(make_call(stream=True)).feed(TEXT.replace(b'"x"', b'"\\ud83e"'))
    assert b'"content": "\\ud83e"' in out


SHAPES = st.sampled_from(
    [TEXT, FINISHED, STOP, b'data: {"type":"content_block_delta","delta":7}\n\n', b'data: {"type":"message_start"}\n\n',
     b'data: {"type":"message_delta","delta":"x","usage":3}\n\n', b'data: {"type":[],"error":{}}\n\n', b"data: {}\n\n",
     b'data: {"type":"content_block_start","index":"a","content_block":{"type":"tool_use"}}\n\n', b"data: {oops\n\n",
     b'data: {"type":"message_start","message":[1]}\n\n', b'data: {"type":"error","error":null}\n\n']
)  # fmt: skip


@given(st.lists(SHAPES, max_size=8))
def test_no_shape_breaks_a_reader(make_call: MakeCall, shapes: list[bytes]) -> None:
    for reader in (MessagesReader(), chat_reader(make_call(stream=True), keep_text=True)):
        for shape in shapes:
            reader.feed(shape)
        assert isinstance(reader.text, str)


def message(*blocks: dict[str, Any], stop: str = "end_turn", **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 1, "output_tokens": 2}
    return {"id": "msg_1", "type": "message", "model": "claude", "content": list(blocks), "stop_reason": stop,
            "usage": usage, **more}  # fmt: skip


def message_in(chat: dict[str, Any]) -> dict[str, Any]:
    choice: dict[str, Any] = chat["choices"][0]["message"]
    return choice


def test_a_message_of_text() -> None:
    chat = to_chat(message({"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}), created=7)
    assert chat == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": 7,
        "model": "claude",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 2,
            "total_tokens": 11,
            "prompt_tokens_details": {"cached_tokens": 3},
        },
    }


def test_thinking_and_tool_calls() -> None:
    chat = to_chat(
        message(
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
            stop="tool_use",
        ),
        created=0,
    )
    assert message_in(chat) == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning": "Hm.",
        "tool_calls": [{"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
    }


def test_a_refusal_says_why() -> None:
    chat = to_chat(message(stop="refusal", stop_details={"type": "refusal", "explanation": "no"}), created=0)
    assert message_in(chat)["refusal"] == "no"
    assert chat["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.parametrize(("stop", "finish"), [*FINISH.items(), ("not_known_yet", "stop")])
def test_every_stop_reason_has_a_finish_reason(stop: str, finish: str) -> None:
    assert to_chat(message(stop=stop), created=0)["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({"input_tokens": 5, "output_tokens": 2}, Usage(5, 2)),
        ({"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 0}, Usage(5, 2, 0)),
        (
            {"input_tokens": 5, "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 1}},
            Usage(5, 2, None, 1),
        ),
        ({}, None),
    ],
)
def test_usage_is_read_as_reported(raw: dict[str, Any], usage: Usage | None) -> None:
    assert usage_in(raw) == usage


def test_tokens_that_were_not_counted_are_left_out() -> None:
    assert chat_usage(Usage(5, 2)) == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert chat_usage(Usage(5, 2, 0, 0))["completion_tokens_details"] == {"reasoning_tokens": 0}


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [
        ("invalid_request_error", "max_tokens: required", None),
        ("invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum", "context_length_exceeded"),
        ("rate_limit_error", "slow down", "rate_limit_exceeded"),
        ("billing_error", "pay", "insufficient_quota"),
        ("overloaded_error", "Overloaded", "overloaded"),
        ("authentication_error", "invalid x-api-key", "invalid_api_key"),
        ("not_found_error", "model: claude-9", "model_not_found"),
        ("api_error", "Internal", None),
    ],
)
def test_errors_keep_their_words_and_get_openais_codes(kind: str, text: str, code: str | None) -> None:
    body = orjson.dumps({"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_1"})
    expected = {"error": {"message": text, "type": kind, "param": None, "code": code}}
    assert to_openai_error(400, body) == expected


@pytest.mark.parametrize(
    ("body", "text"), [(b"<html>Bad Gateway", "<html>Bad Gateway"), (b"", "HTTP 502"), (b'"x"', "x")]
)
def test_any_error_body_becomes_an_error(body: bytes, text: str) -> None:
    assert to_openai_error(502, body)["error"]["message"] == text
