"""Chat completions, chunks and errors → Anthropic's messages, events and errors. Pure."""

from __future__ import annotations

from typing import Any

from gateway.core.completion import usage_of
from gateway.core.exchange import Usage
from gateway.core.json_values import as_object
from gateway.core.sse import Event
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.event_reader import EventReader, error_message

_STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}

Block = dict[str, Any]


def to_message(chat: dict[str, Any]) -> dict[str, Any]:
    """A chat.completion as a message.

    Raises ValueError if it has no choice, or if the arguments of a tool call are not a JSON object, which Anthropic's
    clients require.
    """
    choices = chat.get("choices")
    if not choices:
        raise ValueError("the body has no choices")
    message = choices[0].get("message") or {}
    content: list[Block] = []
    thought = message.get("reasoning") or message.get("reasoning_content")
    if thought:
        content.append({"type": "thinking", "thinking": thought, "signature": ""})
    text = message.get("content") or message.get("refusal")
    if text:
        content.append({"type": "text", "text": text})
    content += [_tool_use(call) for call in message.get("tool_calls") or ()]
    reason, sequence = stop_of(choices[0], refused=bool(message.get("refusal")))
    return {
        "id": chat.get("id"),
        "type": "message",
        "role": "assistant",
        "model": chat.get("model"),
        "content": content,
        "stop_reason": reason or "end_turn",
        "stop_sequence": sequence,
        "usage": usage_block(usage_of(chat.get("usage"))),
    }


def _tool_use(call: dict[str, Any]) -> Block:
    function = call.get("function") or {}
    try:
        given = lenient_json.loads((function.get("arguments") or "{}").encode())
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise ValueError(f"the arguments of its call to {function.get('name')!r} are not a JSON object")
    return {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": given}


def stop_of(choice: dict[str, Any], *, refused: bool = False) -> tuple[str | None, str | None]:
    """(stop_reason, stop_sequence). Only vLLM reports the matched stop string, in `stop_reason`."""
    finish = choice.get("finish_reason")
    if not finish:
        return None, None
    matched = choice.get("stop_reason")
    if finish == "stop" and isinstance(matched, str):
        return "stop_sequence", matched
    return "refusal" if refused else _STOPS.get(finish, "end_turn"), None


def usage_block(usage: Usage | None) -> dict[str, Any]:
    """Usage in Anthropic's form, which counts cached input separately."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    cached = usage.cached_input_tokens
    out = {"input_tokens": usage.input_tokens - (cached or 0), "output_tokens": usage.output_tokens}
    return out if cached is None else out | {"cache_read_input_tokens": cached}


def to_anthropic_error(status: int, body: bytes) -> bytes:
    """An upstream's error in Anthropic's format, plus its `code`, which decides whether a fallback is tried."""
    try:
        error = lenient_json.loads(body)
    except ValueError:
        error = body.decode("utf-8", "replace")[:1000] or f"HTTP {status}"
    error = error.get("error") or error if isinstance(error, dict) else error
    out = {"type": _KINDS.get(status, "api_error"), "message": error_message(error)}
    code = as_object(error).get("code")
    if isinstance(code, str):
        out["code"] = code
    return lenient_json.dumps({"type": "error", "error": out})


class ToMessagesReader(EventReader):
    """Chat chunks → Anthropic's events. The final usage is sent with the upstream's last chunk."""

    __slots__ = ("_at", "_calls", "_kind", "_refused", "_started", "_stop")

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._at = -1  # index of the last block
        self._kind = ""  # of the open block; "": none
        self._calls: dict[int, int] = {}  # index among the tool calls → index of its block
        self._stop: tuple[str | None, str | None] = (None, None)
        self._refused = False

    def _part(self, part: dict[str, Any], event: Event) -> bytes:
        if part.get("error"):
            self.fail(part["error"])
            status = 400 if self.error_source == "request" else 500
            return b"event: error\ndata: " + to_anthropic_error(status, event.data) + b"\n\n"
        self.usage = usage_of(part.get("usage")) or self.usage
        out = [] if self._started else [self._message_start(part)]
        for choice in part.get("choices") or ():
            out += self._choice(choice)
        return b"".join(out)

    def _done(self, event: Event) -> bytes:
        return self._owed()

    def _owed(self) -> bytes:
        reason, sequence = self._stop
        delta = {"stop_reason": reason or "end_turn", "stop_sequence": sequence}
        closing = _event("message_delta", delta=delta, usage=usage_block(self.usage))
        start = b"" if self._started else self._message_start({})
        return start + self._close() + closing + _event("message_stop")

    def _message_start(self, part: dict[str, Any]) -> bytes:
        self._started = True
        message: dict[str, Any] = {
            "id": part.get("id"),
            "type": "message",
            "role": "assistant",
            "model": part.get("model"),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_block(self.usage),
        }
        return _event("message_start", message=message)

    def _choice(self, choice: dict[str, Any]) -> list[bytes]:
        delta = choice.get("delta") or {}
        out = []
        thought = delta.get("reasoning") or delta.get("reasoning_content")
        if thought:
            out += [self._open("thinking", {"thinking": "", "signature": ""}), self._delta("thinking", thought)]
        self._refused = self._refused or bool(delta.get("refusal"))
        text = delta.get("content") or delta.get("refusal")
        if text:
            out += [self._open("text", {"text": ""}), self._delta("text", text)]
        for position, call in enumerate(delta.get("tool_calls") or ()):
            out += self._call(call.get("index", position), call)
        if choice.get("finish_reason"):
            self.finished = True
            self._stop = stop_of(choice, refused=self._refused)
            out.append(self._close())
        return out

    def _call(self, index: int, call: dict[str, Any]) -> list[bytes]:
        function = call.get("function") or {}
        out = []
        if index not in self._calls:
            block: Block = {"id": call.get("id") or f"call_{index}", "name": function.get("name"), "input": {}}
            out.append(self._open("tool_use", block, always=True))
            self._calls[index] = self._at
        if function.get("arguments"):
            delta = {"type": "input_json_delta", "partial_json": function["arguments"]}
            out.append(_event("content_block_delta", index=self._calls[index], delta=delta))
        return out

    def _delta(self, kind: str, text: str) -> bytes:
        return _event("content_block_delta", index=self._at, delta={"type": f"{kind}_delta", kind: text})

    def _open(self, kind: str, block: Block, *, always: bool = False) -> bytes:
        """Starts a block, unless one of that kind is open. always: even then, because each tool call has its own."""
        self.first_content = True
        if kind == self._kind and not always:
            return b""
        out = self._close()
        self._at += 1
        self._kind = kind
        return out + _event("content_block_start", index=self._at, content_block={"type": kind, **block})

    def _close(self) -> bytes:
        if not self._kind:
            return b""
        self._kind = ""
        return _event("content_block_stop", index=self._at)


def _event(kind: str, **members: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + lenient_json.dumps({"type": kind, **members}) + b"\n\n"
