"""Chat's answers, chunks and errors in Anthropic's words. Pure."""

from __future__ import annotations

from typing import Any

from gateway.core.completion import usage_of
from gateway.core.exchange import Usage
from gateway.core.sse import Event
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.event_reader import EventReader, message_of

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
    """A chat.completion as a message. Raises ValueError when it has no choice, or a tool call's arguments are no JSON
    object, which Anthropic's clients must be given."""
    choices = chat.get("choices")
    if not choices:
        raise ValueError("its body has no choices")
    said = choices[0].get("message") or {}
    content: list[Block] = []
    thought = said.get("reasoning") or said.get("reasoning_content")
    if thought:
        content.append({"type": "thinking", "thinking": thought, "signature": ""})
    text = said.get("content") or said.get("refusal")
    if text:
        content.append({"type": "text", "text": text})
    content += [_tool_use(call) for call in said.get("tool_calls") or ()]
    reason, sequence = stop_of(choices[0], refused=bool(said.get("refusal")))
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
        raise ValueError(f"the arguments of its call of {function.get('name')!r} are not a JSON object")
    return {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": given}


def stop_of(choice: dict[str, Any], *, refused: bool = False) -> tuple[str | None, str | None]:
    """(stop_reason, stop_sequence). vLLM says in `stop_reason` which stop string it met; others do not say."""
    finish = choice.get("finish_reason")
    if not finish:
        return None, None
    met = choice.get("stop_reason")
    if finish == "stop" and isinstance(met, str):
        return "stop_sequence", met
    return "refusal" if refused else _STOPS.get(finish, "end_turn"), None


def usage_block(usage: Usage | None) -> dict[str, Any]:
    """In Anthropic's form, which counts cached input apart."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    cached = usage.cached_input_tokens
    out = {"input_tokens": usage.input_tokens - (cached or 0), "output_tokens": usage.output_tokens}
    return out if cached is None else out | {"cache_read_input_tokens": cached}


def to_anthropic_error(status: int, body: bytes) -> bytes:
    """An upstream's error in Anthropic's shape. `code` is kept beside it: it says what may be asked elsewhere."""
    try:
        error = lenient_json.loads(body)
    except ValueError:
        error = body.decode("utf-8", "replace")[:1000] or f"HTTP {status}"
    error = error.get("error") or error if isinstance(error, dict) else error
    out = {"type": _KINDS.get(status, "api_error"), "message": message_of(error)}
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str):
        out["code"] = code
    return lenient_json.dumps({"type": "error", "error": out})


class ToMessagesReader(EventReader):
    """Chat chunks → Anthropic's events. The closing usage waits for the upstream's last chunk."""

    __slots__ = ("_at", "_calls", "_kind", "_refused", "_started", "_stop")

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._at = -1  # the last block's index
        self._kind = ""  # of the block that is open; "": none is
        self._calls: dict[int, int] = {}  # place among the tool calls → block
        self._stop: tuple[str | None, str | None] = (None, None)
        self._refused = False

    def _part(self, part: dict[str, Any], event: Event) -> bytes:
        if part.get("error"):
            self.fail(message_of(part["error"]))
            return b"event: error\ndata: " + to_anthropic_error(500, event.data) + b"\n\n"
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
            out += [self._open("thinking", {"thinking": "", "signature": ""}), self._says("thinking", thought)]
        self._refused = self._refused or bool(delta.get("refusal"))
        text = delta.get("content") or delta.get("refusal")
        if text:
            out += [self._open("text", {"text": ""}), self._says("text", text)]
        for place, call in enumerate(delta.get("tool_calls") or ()):
            out += self._call(call.get("index", place), call)
        if choice.get("finish_reason"):
            self.finished = True
            self._stop = stop_of(choice, refused=self._refused)
            out.append(self._close())
        return out

    def _call(self, place: int, call: dict[str, Any]) -> list[bytes]:
        function = call.get("function") or {}
        out = []
        if place not in self._calls:
            block: Block = {"id": call.get("id") or f"call_{place}", "name": function.get("name"), "input": {}}
            out.append(self._open("tool_use", block, always=True))
            self._calls[place] = self._at
        if function.get("arguments"):
            delta = {"type": "input_json_delta", "partial_json": function["arguments"]}
            out.append(_event("content_block_delta", index=self._calls[place], delta=delta))
        return out

    def _says(self, kind: str, text: str) -> bytes:
        return _event("content_block_delta", index=self._at, delta={"type": f"{kind}_delta", kind: text})

    def _open(self, kind: str, block: Block, *, always: bool = False) -> bytes:
        """Begins a block, unless the open one is of that kind. always: each tool call has its own."""
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
