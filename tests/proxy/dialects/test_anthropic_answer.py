"""Anthropic's messages, usage and errors in OpenAI's shapes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.core.exchange import Usage
from gateway.proxy.dialects.anthropic_answer import FINISH, chat_usage, to_chat, to_openai_error, usage_in


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
