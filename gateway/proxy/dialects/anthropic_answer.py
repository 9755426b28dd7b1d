"""Anthropic's plain answers, usage and errors → OpenAI's. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.core.completion import usage_of
from gateway.core.exchange import Usage
from gateway.core.json_values import as_object
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.event_reader import error_message

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def usage_in(raw: Mapping[str, Any]) -> Usage | None:
    """Tokens from Anthropic's usage, including those of thinking, which are part of the output tokens."""
    usage = usage_of(raw)
    details = raw.get("output_tokens_details")
    thinking = as_object(details).get("thinking_tokens")
    return replace(usage, reasoning_tokens=thinking) if usage and isinstance(thinking, int) else usage


def chat_usage(usage: Usage) -> dict[str, Any]:
    """Usage in OpenAI's form. What was not reported is left out; a reported 0 is kept."""
    out: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_input_tokens is not None:
        out["prompt_tokens_details"] = {"cached_tokens": usage.cached_input_tokens}
    if usage.reasoning_tokens is not None:
        out["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return out


def to_chat(message: dict[str, Any], created: int) -> dict[str, Any]:
    """A message as a chat.completion. created: Unix seconds, which Anthropic does not report."""
    answer: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    texts, thoughts, calls = [], [], []
    for block in message.get("content") or ():
        if block.get("type") == "text":
            texts.append(block.get("text") or "")
        elif block.get("type") == "thinking":
            thoughts.append(block.get("thinking") or "")
        elif block.get("type") == "tool_use":
            calls.append(_tool_call(block))
    if texts:
        answer["content"] = "".join(texts)
    if any(thoughts):
        answer["reasoning"] = "".join(thoughts)
    if calls:
        answer["tool_calls"] = calls
    finish = FINISH.get(message.get("stop_reason") or "", "stop")
    if finish == "content_filter":
        answer["refusal"] = (message.get("stop_details") or {}).get("explanation")
    out = {
        "id": message.get("id"),
        "object": "chat.completion",
        "created": created,
        "model": message.get("model"),
        "choices": [{"index": 0, "message": answer, "logprobs": None, "finish_reason": finish}],
    }
    usage = usage_in(message.get("usage") or {})
    return out | ({"usage": chat_usage(usage)} if usage else {})


def _tool_call(block: dict[str, Any]) -> dict[str, Any]:
    function = {"name": block.get("name"), "arguments": lenient_json.dumps(block.get("input") or {}).decode()}
    return {"id": block.get("id"), "type": "function", "function": function}


def to_openai_error(status: int, body: bytes) -> dict[str, Any]:
    """Anthropic's error body, or any other text, in OpenAI's format.

    code: OpenAI's code of the same meaning, so that the client retries it as it would retry OpenAI's.
    """
    try:
        error = lenient_json.loads(body)
    except ValueError:
        error = body.decode("utf-8", "replace")[:1000] or f"HTTP {status}"
    error = error.get("error") or error if isinstance(error, dict) else error
    kind = as_object(error).get("type")
    text = error_message(error)
    code = _CODES.get(str(kind))
    if kind == "invalid_request_error" and text.startswith("prompt is too long"):
        code = "context_length_exceeded"
    return {"error": {"message": text, "type": kind or "upstream_error", "param": None, "code": code}}


_CODES = {
    "rate_limit_error": "rate_limit_exceeded",
    "billing_error": "insufficient_quota",
    "authentication_error": "invalid_api_key",
    "not_found_error": "model_not_found",
    "overloaded_error": "overloaded",
}
