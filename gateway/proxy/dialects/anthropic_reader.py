"""Reads Anthropic's answers: plain ones, usage and errors as OpenAI's, and streams as chat chunks or unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.core.completion import usage_of
from gateway.core.exchange import Usage
from gateway.core.json_values import as_object
from gateway.core.sse import Event
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.chat_reader import ChatChunkReader, chat_usage
from gateway.proxy.dialects.event_reader import PassingReader, error_in, error_message, says_something
from gateway.proxy.request.call import Call


class ToChatReader(ChatChunkReader):
    """Anthropic's events → chat chunks."""

    __slots__ = ("_calls", "_owes_input", "_raw_usage")

    def __init__(self, call: Call, *, keep_text: bool) -> None:
        super().__init__(call, keep_text=keep_text)
        self._calls: dict[int, int] = {}  # index of Anthropic's block → index among the tool calls
        self._owes_input: set[int] = set()  # tool blocks without input so far
        self._raw_usage: dict[str, Any] = {}

    def _part(self, part: dict[str, Any], event: Event) -> bytes:
        kind = part.get("type")
        if kind == "content_block_delta":
            return self._delta(part.get("index", 0), part.get("delta") or {})
        if kind == "content_block_start":
            return self._block_start(part.get("index", 0), part.get("content_block") or {})
        if kind == "content_block_stop":
            return self._block_stop(part.get("index", 0))
        if kind == "message_start":
            return self._message_start(part.get("message") or {})
        if kind == "message_delta":
            return self._message_delta(part)
        if kind == "message_stop":
            self.finished = self.complete = True
            return self._owed()
        return self._error(part) if kind == "error" or part.get("error") else b""

    def _error(self, part: dict[str, Any]) -> bytes:
        error = to_openai_error(200, lenient_json.dumps(part))
        self.fail(error["error"])
        return b"data: " + lenient_json.dumps(error) + b"\n\n"

    def _message_start(self, message: dict[str, Any]) -> bytes:
        self._head["id"] = message.get("id") or self._head["id"]
        self._head["model"] = message.get("model") or self._head["model"]
        self._count(message.get("usage"))
        return self._chunk({"role": "assistant", "content": ""})

    def _block_start(self, index: int, block: dict[str, Any]) -> bytes:
        if block.get("type") == "tool_use":
            position = self._calls.setdefault(index, len(self._calls))
            given = block.get("input")
            arguments = lenient_json.dumps(given).decode() if given else ""
            if not given:
                self._owes_input.add(index)
            function = {"name": block.get("name"), "arguments": arguments}
            call = {"index": position, "id": block.get("id"), "type": "function", "function": function}
            return self._content({"tool_calls": [call]}, plain=False)
        return self._delta(index, block)

    def _delta(self, index: int, delta: dict[str, Any]) -> bytes:
        text = delta.get("text")
        if text:
            self._keep_piece(text)
            return self._said("content", text)
        if delta.get("thinking"):
            return self._said("reasoning", delta["thinking"], plain=False)
        if delta.get("partial_json") and index in self._calls:
            self._owes_input.discard(index)
            return self._arguments(index, delta["partial_json"])
        return b""

    def _block_stop(self, index: int) -> bytes:
        """A call without input has the arguments `{}` in OpenAI's API: its clients parse them."""
        if index not in self._owes_input:
            return b""
        self._owes_input.discard(index)
        return self._arguments(index, "{}")

    def _arguments(self, index: int, piece: str) -> bytes:
        return self._content(
            {"tool_calls": [{"index": self._calls[index], "function": {"arguments": piece}}]}, plain=False
        )

    def _message_delta(self, part: dict[str, Any]) -> bytes:
        self._count(part.get("usage"))
        reason = (part.get("delta") or {}).get("stop_reason")
        if not reason:
            return b""
        self.finished = True
        return self._chunk({}, finish=FINISH.get(reason, "stop"))

    def _count(self, usage: Any) -> None:
        """Counts usage. The last usage repeats changed members; omitted ones remain valid."""
        if isinstance(usage, dict):
            self._raw_usage |= {name: value for name, value in usage.items() if value is not None}
            self.usage = usage_in(self._raw_usage)

    def _said(self, name: str, text: Any, *, plain: bool = True) -> bytes:
        out = self._content({name: text}, plain=plain)
        self._piece = text if isinstance(text, str) else None
        return out


class MessagesReader(PassingReader):
    """Anthropic's events for Anthropic's clients: passed through unchanged."""

    __slots__ = ("_raw_usage",)

    def __init__(self) -> None:
        super().__init__()
        self._raw_usage: dict[str, Any] = {}

    def _marked(self, block: bytes) -> bool:
        return block.find(b"message_") >= 0 or block.find(b"error") >= 0

    def _read(self, part: dict[str, Any]) -> bool:
        kind = part.get("type")
        if kind == "message_start":
            self._count((part.get("message") or {}).get("usage"))
        elif kind in ("content_block_delta", "content_block_start"):
            content = part.get("delta") or part.get("content_block") or {}
            self.first_content = self.first_content or any(
                v for n, v in content.items() if n not in ("type", "signature")
            )
        elif kind == "message_delta":
            self._count(part.get("usage"))
            self.finished = self.finished or bool((part.get("delta") or {}).get("stop_reason"))
        elif kind == "message_stop":
            self.finished = self.complete = True
        elif kind == "error" or part.get("error"):
            self.fail(part.get("error") or part)
        elif kind not in _EMPTY and not self.first_content:
            self.first_content = says_something(part, _EMPTY_MEMBERS)
        return True

    def _count(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self._raw_usage |= {name: value for name, value in usage.items() if value is not None}
            self.usage = usage_in(self._raw_usage)

    def _owed(self) -> bytes:
        return b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


_EMPTY = frozenset({"ping", "content_block_stop"})
_EMPTY_MEMBERS = frozenset({"type", "id"})
"""Members of an event of an unknown kind that are no content."""
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
    error = error_in(status, body)
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
