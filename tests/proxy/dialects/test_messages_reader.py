"""Chat's answers as messages, and its streams as the events that Anthropic's clients build messages from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from gateway.core.exchange import Usage
from gateway.proxy.dialects.messages_reader import ToMessagesReader, to_anthropic_error, to_message, usage_block
from gateway.proxy.dialects.types import Cut, Reader

Read = Callable[[Reader, bytes, int], bytes]
DataOf = Callable[[bytes], list[dict[str, Any]]]


def built(heard: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content that a client builds; every block is opened before it is spoken of, and closed at most once."""
    blocks: list[dict[str, Any]] = []
    pieces: dict[int, str] = {}
    for event in heard:
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_delta":
            kind = event["delta"]["type"]
            if kind == "input_json_delta":
                pieces[event["index"]] = pieces.get(event["index"], "") + event["delta"]["partial_json"]
            else:
                blocks[event["index"]][kind.removesuffix("_delta")] += event["delta"][kind.removesuffix("_delta")]
    for index, piece in pieces.items():
        blocks[index]["input"] = orjson.loads(piece)
    return blocks


def test_the_events_build_the_message(chat_sse: Any, read: Read, data_of: DataOf) -> None:
    reader = ToMessagesReader()
    out = read(reader, chat_sse.stream, 10_000)
    heard = data_of(out)
    assert built(heard) == list(chat_sse.blocks)
    assert (reader.usage, reader.error) == (chat_sse.usage, chat_sse.error)
    if chat_sse.stop is None:
        assert heard[-1] == {
            "type": "error",
            "error": {"type": "api_error", "message": chat_sse.error, "code": "oom"},
        }
    else:
        assert heard[0]["type"] == "message_start"
        assert [e["type"] for e in heard][-2:] == ["message_delta", "message_stop"]
        assert heard[-2]["delta"] == dict(zip(("stop_reason", "stop_sequence"), chat_sse.stop, strict=True))
        assert heard[-2]["usage"] == usage_block(chat_sse.usage)
        opened, closed = (sum(e["type"] == f"content_block_{x}" for e in heard) for x in ("start", "stop"))
        assert opened == closed == len(chat_sse.blocks)


def test_every_size_of_pieces_gives_the_same_events(chat_sse: Any, read: Read) -> None:
    whole = read(ToMessagesReader(), chat_sse.stream, len(chat_sse.stream))
    for size in range(1, len(chat_sse.stream)):
        assert read(ToMessagesReader(), chat_sse.stream, size) == whole, size


def test_a_stream_without_a_finish_is_cut() -> None:
    reader = ToMessagesReader()
    reader.feed(b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n')
    with pytest.raises(Cut):
        reader.end()


def completion(message: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **more}
    return {"id": "chatcmpl-1", "model": "m", "choices": [choice],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2}}  # fmt: skip


def test_a_completion_is_a_message() -> None:
    assert to_message(completion({"content": "Hi"})) == {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 2},
    }


def test_reasoning_and_tool_calls_are_blocks() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    message = to_message(completion({"content": None, "reasoning": "Hm.", "tool_calls": [call]}, "tool_calls"))
    assert message["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
    ]
    assert message["stop_reason"] == "tool_use"


def test_a_refusal_is_text_and_a_stop_reason() -> None:
    message = to_message(completion({"content": None, "refusal": "No."}))
    assert (message["content"], message["stop_reason"]) == ([{"type": "text", "text": "No."}], "refusal")


@pytest.mark.parametrize("arguments", ["{oops", "[1]", "7"])
def test_arguments_that_are_no_object_are_no_answer(arguments: str) -> None:
    call = {"id": "call_1", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(ValueError, match="'f' are not a JSON object"):
        to_message(completion({"tool_calls": [call]}))


@pytest.mark.parametrize("chat", [{}, {"choices": []}, {"choices": None}])
def test_an_answer_without_a_choice_is_none(chat: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no choices"):
        to_message(chat)


def test_cached_input_is_counted_apart() -> None:
    assert usage_block(Usage(9, 2, 4)) == {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 4}
    assert usage_block(Usage(9, 2, 0)) == {"input_tokens": 9, "output_tokens": 2, "cache_read_input_tokens": 0}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (404, "not_found_error"), (429, "rate_limit_error"),
     (500, "api_error"), (503, "overloaded_error"), (504, "timeout_error"), (418, "api_error")],
)  # fmt: skip
def test_errors_have_anthropics_type_for_their_status(status: int, kind: str) -> None:
    error = orjson.loads(to_anthropic_error(status, b'{"error":{"message":"no","code":404}}'))
    assert error == {"type": "error", "error": {"type": kind, "message": "no"}}


def test_the_error_code_is_kept_for_the_fallback() -> None:
    body = b'{"error":{"message":"long","code":"context_length_exceeded"}}'
    assert orjson.loads(to_anthropic_error(400, body))["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("body", "text"), [(b"Internal Server Error", "Internal Server Error"), (b"", "HTTP 500"), (b"[]", "[]")]
)
def test_any_error_body_becomes_an_error(body: bytes, text: str) -> None:
    assert orjson.loads(to_anthropic_error(500, body))["error"]["message"] == text
