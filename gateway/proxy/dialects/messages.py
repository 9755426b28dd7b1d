"""Anthropic's clients on an upstream that answers chats: `/v1/messages` is translated to a chat and back.

A part of a request that a chat cannot express is refused by name, never dropped silently. Dropped, because they do not
change the meaning of an answer: cache_control, service_tier, speed, diagnostics, a tool result's is_error, and the
thinking of earlier turns, which only Anthropic can verify; with it goes a context_management that only clears thinking.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from gateway.config.upstreams import Upstream
from gateway.core.completion import usage_of
from gateway.core.errors import GatewayError, NotImplementedHere
from gateway.core.exchange import Usage
from gateway.core.json_values import as_object
from gateway.core.providers import CHATS
from gateway.core.sse import Event
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.event_reader import TranslatingReader, error_in, error_message
from gateway.proxy.dialects.lenient_json import translated
from gateway.proxy.dialects.plain_answer import read_answer
from gateway.proxy.dialects.types import Cut, Dialect, PlainReply, Reader
from gateway.proxy.dialects.unsupported import unsupported_parameter
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call

_KNOWS_COMPLETION_LIMIT = frozenset(
    {"openai", "azure"}
)  # their reasoning models refuse max_tokens; other providers know only max_tokens


class Messages:
    """Translates for Anthropic's clients, around the dialect of one upstream."""

    def __init__(self, upstream: Upstream, inner: Dialect) -> None:
        self._inner = inner
        self._reads_chat = upstream.provider.dialect in CHATS
        self._limit_name = "max_completion_tokens" if upstream.kind in _KNOWS_COMPLETION_LIMIT else "max_tokens"

    def request(self, call: Call, model: str) -> UpstreamRequest:
        if call.api == "count_tokens":
            raise NotImplementedHere(
                f"the upstream of {call.alias!r} cannot count tokens of messages; only one that speaks Anthropic's "
                "Messages API can",
                retry=False,
            )
        fields, body = translated(call, lambda fields: to_chat_request(fields, self._limit_name))
        headers = [h for h in call.headers if not h[0].startswith(b"anthropic-")]
        request = self._inner.request(replace(_chat(call, fields, body), headers=headers), model)
        return (
            request if self._reads_chat else replace(request, recorded=call.body_with({"model": orjson.dumps(model)}))
        )

    def reader(self, call: Call, keep_text: bool) -> Reader:
        if self._reads_chat:
            return ToMessagesReader()
        asked = {"stream_options": {"include_usage": True}}
        return ToMessagesReader(self._inner.reader(_chat(call, asked, b""), False))

    def answer(self, call: Call, body: bytes) -> PlainReply:
        if self._reads_chat:
            usage = read_answer(body)
        else:
            body, usage, *_ = self._inner.answer(_chat(call, {}, b""), body)
        try:
            return PlainReply(lenient_json.dumps(to_message(lenient_json.loads(body))), usage)
        except (AttributeError, TypeError, LookupError) as error:
            raise ValueError(f"the body is not a chat completion: {error}") from error

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        return to_anthropic_error(status, self._inner.error(_chat(call, {}, b""), status, body))

    def broken(self, call: Call, error: GatewayError) -> bytes:
        return b"\n\nevent: error\ndata: " + error.anthropic_body() + b"\n\n"


def _chat(call: Call, fields: dict[str, Any], body: bytes) -> Call:
    """The call as the inner dialect gets it."""
    return replace(call.with_body(body, fields), api="chat", path=b"/chat/completions")


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
    error = error_in(status, body)
    out = {"type": _KINDS.get(status, "api_error"), "message": error_message(error)}
    code = as_object(error).get("code")
    if isinstance(code, str):
        out["code"] = code
    return lenient_json.dumps({"type": "error", "error": out})


class ToMessagesReader(TranslatingReader):
    """Chat chunks → Anthropic's events. The final usage is sent with the upstream's last chunk."""

    __slots__ = ("_at", "_calls", "_kind", "_refused", "_source", "_started", "_stop")

    def __init__(self, source: Reader | None = None) -> None:
        """source: turns the upstream's bytes into chat chunks; None if they are chunks already."""
        super().__init__()
        self._source = source
        self._started = False
        self._at = -1  # index of the last block
        self._kind = ""  # of the open block; "": none
        self._calls: dict[int, int] = {}  # index among the tool calls → index of its block
        self._stop: tuple[str | None, str | None] = (None, None)
        self._refused = False

    def feed(self, data: bytes) -> bytes:
        return super().feed(data if self._source is None else self._source.feed(data))

    def end(self) -> bytes:
        if self._source is None or self.complete or self._ended:
            return super().end()
        try:
            last = self._source.end()
        except Cut:
            self._ended = True
            raise
        return super().feed(last) + super().end()

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
            self._piece = thought if isinstance(thought, str) else None
        self._refused = self._refused or bool(delta.get("refusal"))
        text = delta.get("content") or delta.get("refusal")
        if text:
            out += [self._open("text", {"text": ""}), self._delta("text", text)]
            self._piece = text if isinstance(text, str) and not thought else None
        for position, call in enumerate(delta.get("tool_calls") or ()):
            out += self._call(call.get("index", position), call)
            self._piece = None
        if choice.get("finish_reason"):
            self._piece = None
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


_PASSED = ("temperature", "top_p", "top_k", "stream")
_READ = frozenset(
    {"model", "messages", "system", "max_tokens", "stop_sequences", "tools", "tool_choice", "thinking"}
    | {"output_config", "metadata", *_PASSED}
)
_DROPPED = frozenset({"cache_control", "service_tier", "speed", "diagnostics", "user_profile_id", "workspace_id"})
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_BUDGETS = ((4096, "low"), (16384, "medium"))  # (thinking tokens up to, reasoning_effort)

Part = dict[str, Any]


def to_chat_request(request: dict[str, Any], limit_name: str) -> dict[str, Any]:
    """request: the members of a Messages request. limit_name: the upstream's name for max_tokens. Raises BadRequest."""
    for name, value in request.items():
        if name not in _READ and name not in _DROPPED and value is not None:
            _check_unknown(name, value)
    out: dict[str, Any] = {"model": request.get("model"), "messages": _messages(request)}
    out |= {name: request[name] for name in _PASSED if request.get(name) is not None}
    if request.get("max_tokens") is not None:
        out[limit_name] = request["max_tokens"]
    if request.get("stop_sequences"):
        out["stop"] = request["stop_sequences"]
    _tools(request, out)
    _effort(request, out)
    user = (request.get("metadata") or {}).get("user_id")
    if user:
        out["user"] = user
    return out


def _check_unknown(name: str, value: Any) -> None:
    """Raises BadRequest, unless the member asks for nothing."""
    if name == "context_management" and _clears_only_thinking(value):
        return
    error = _refused(name)
    if name == "thread":  # Anthropic's clients go on without a thread if the refusal has this code
        code = "thread_not_found" if _continues(value) else "thread_unsupported_request"
        error.details = {"details": {"error_code": code}}
    raise error


def _clears_only_thinking(management: Any) -> bool:
    """Whether its edits concern nothing but the thinking of earlier turns, which is not translated anyway.

    Claude Code sends `{"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}`."""
    edits = management.get("edits") or () if isinstance(management, dict) else None
    return isinstance(edits, list | tuple) and all(
        isinstance(edit, dict) and str(edit.get("type")).startswith("clear_thinking_") for edit in edits
    )


def _continues(thread: Any) -> bool:
    return isinstance(thread, dict) and thread.get("previous_message_id") is not None


_refused = partial(unsupported_parameter, "OpenAI's chat API")


def _messages(request: dict[str, Any]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    system = _text(request.get("system"), "system")
    if system:
        out.append({"role": "system", "content": system})
    for at, message in enumerate(request.get("messages") or ()):
        path = f"messages[{at}]"
        role, content = message.get("role"), message.get("content")
        if role == "assistant":
            out.append(_assistant(content, path))
        elif role == "user":
            out += _user(content, path)
        elif role == "system":
            out.append({"role": "system", "content": _text(content, path)})
        else:
            raise _refused(f"{path}.role", "expected user or assistant")
    return out


def _listed(content: Any, path: str) -> list[tuple[str, Part]]:
    """(path, block) of each block; a string is one text block."""
    if isinstance(content, str):
        return [(path, {"type": "text", "text": content})]
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise _refused(f"{path}.content", "expected a string or a list of blocks")
    return [(f"{path}.content[{at}]", block) for at, block in enumerate(content)]


def _text(content: Any, path: str) -> str:
    texts = []
    for block_path, block in _listed(content or "", path):
        if block.get("type") != "text":
            raise _refused(block_path, "only text is supported here")
        texts.append(block.get("text") or "")
    return "\n\n".join(texts)


def _assistant(content: Any, path: str) -> dict[str, Any]:
    texts, calls = [], []
    for block_path, block in _listed(content, path):
        kind = block.get("type")
        if kind == "text":
            texts.append(block.get("text") or "")
        elif kind == "tool_use":
            function = {"name": block.get("name"), "arguments": lenient_json.dumps(block.get("input") or {}).decode()}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind not in ("thinking", "redacted_thinking"):
            raise _refused(block_path, f"a block of type {kind!r}")
    out: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    return out | ({"tool_calls": calls} if calls else {})


def _user(content: Any, path: str) -> list[dict[str, Any]]:
    """Tool results come first, as separate messages; images in them follow as parts of the user's message."""
    results: list[dict[str, Any]] = []
    parts: list[Part] = []
    for block_path, block in _listed(content, path):
        if block.get("type") == "tool_result":
            text, images = _result(block.get("content"), block_path)
            results.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text})
            parts += images
        else:
            parts.append(_part(block, block_path))
    if len(parts) == 1 and parts[0]["type"] == "text":
        return [*results, {"role": "user", "content": parts[0]["text"]}]
    return [*results, {"role": "user", "content": parts}] if parts else results


def _result(content: Any, path: str) -> tuple[str, list[Part]]:
    parts = [_part(block, block_path) for block_path, block in _listed(content or "", path)]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n\n".join(texts), [part for part in parts if part["type"] != "text"]


def _part(block: Part, path: str) -> Part:
    kind, source = block.get("type"), block.get("source")
    if kind == "text":
        return {"type": "text", "text": block.get("text") or ""}
    if isinstance(source, dict) and kind == "image":
        return {"type": "image_url", "image_url": {"url": _url(source, path)}}
    if isinstance(source, dict) and kind == "document":
        if source.get("type") == "text":
            return {"type": "text", "text": source.get("data") or ""}
        if source.get("type") == "base64":
            file = {"filename": block.get("title") or "document.pdf", "file_data": _url(source, path)}
            return {"type": "file", "file": file}
    raise _refused(path, f"a block of type {kind!r} with this source")


def _url(source: dict[str, Any], path: str) -> str:
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    if source.get("type") == "url":
        return str(source.get("url"))
    raise _refused(f"{path}.source", "a file id is valid only at the provider that issued it")


def _tools(request: dict[str, Any], out: dict[str, Any]) -> None:
    tools = request.get("tools")
    if tools:
        out["tools"] = [_tool(tool, at) for at, tool in enumerate(tools)]
    choice = request.get("tool_choice")
    if not tools or not choice:
        return
    kind = choice.get("type")
    if kind == "tool":
        out["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif kind in _CHOICES:
        out["tool_choice"] = _CHOICES[kind]
    else:
        raise _refused("tool_choice", f"a choice of type {kind!r}")
    if choice.get("disable_parallel_tool_use"):
        out["parallel_tool_calls"] = False


def _tool(tool: dict[str, Any], at: int) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise _refused(f"tools[{at}].type", "Anthropic's own tools run only at Anthropic")
    function = {"name": tool.get("name"), "parameters": tool.get("input_schema")}
    function |= {name: tool[name] for name in ("description", "strict") if tool.get(name)}
    return {"type": "function", "function": function}


def _effort(request: dict[str, Any], out: dict[str, Any]) -> None:
    thinking, config = request.get("thinking") or {}, request.get("output_config") or {}
    if config.get("effort"):
        out["reasoning_effort"] = config["effort"]
    elif thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens") or 0
        out["reasoning_effort"] = next((effort for most, effort in _BUDGETS if budget <= most), "high")
    form = config.get("format")
    if form:
        schema = {"name": "output", "schema": form.get("schema"), "strict": True}
        out["response_format"] = {"type": "json_schema", "json_schema": schema}
