"""Reads the content of an answer from its bytes. Pure; the only module that knows each API's format of an answer.

The consumer reads every exchange through it; the gateway only where a tail rule or a redaction rule needs the content.
An answer is empty if it came with HTTP 200 and has no content for a reader, such as that of a reasoning model that
spends its tokens on thinking. Scorers of text do not apply to it, so it would leave a comparison without a trace;
experiments count it as failed unless their plan allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from gateway.core.exchange import IMPORTED, Exchange, Usage
from gateway.core.json_values import content_text, parse_object
from gateway.core.output_tokens import OUTPUT_LIMITS
from gateway.core.sse import events, parse


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str  # the JSON text as the model wrote it, valid or not


@dataclass(frozen=True, slots=True)
class Completion:
    """The content of the first choice of an answer."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None  # the API's own word; None if the answer was cut off
    usage: Usage | None = None
    model: str | None = None
    upstream_id: str | None = None
    mean_logprob: float | None = None  # over the answer's tokens; None if the upstream sent none
    choices: int = 1  # how many choices the answer had
    error: str | None = None  # the message of an error that came as, or in, the answer
    other: bool = False  # audio, an image or another item that no field above holds

    def to_json(self) -> bytes:
        """The canonical form that enters the stream in place of raw bytes when a rule had to read the answer."""
        return orjson.dumps(self)


def from_json(data: bytes) -> Completion:
    """The inverse of Completion.to_json; an object without these fields gives an empty Completion."""
    raw = parse_object(data) or {}
    known = {k: raw[k] for k in Completion.__dataclass_fields__ if k in raw}
    known["tool_calls"] = tuple(ToolCall(**c) for c in known.get("tool_calls") or ())
    known["usage"] = Usage(**known["usage"]) if known.get("usage") else None
    return Completion(**known)


def completion_of(exchange: Exchange) -> Completion:
    """The content of this exchange's answer, as far as it was received."""
    if exchange.form == "assembled":
        return from_json(exchange.response)
    streamed = exchange.stream and exchange.role != IMPORTED  # a trace has the whole answer, however it came
    return assemble(exchange.api, streamed, exchange.response)


def assemble(api: str, stream: bool, response: bytes) -> Completion:
    """Reads one answer. Never raises: what cannot be read is left out.

    api: chat, completions, responses or messages; any other gives usage and error only. stream: the bytes are
    server-sent events; else one JSON body. A truncated answer gives what is complete in it.
    """
    parts = _events(response) if stream else _bodies(response)
    if api == "chat" and not stream and parts and (plain := _plain_chat(parts[0])) is not None:
        return plain
    draft = _Draft()
    read = _READERS.get(api, _read_other)
    for part in parts:
        if isinstance(part.get("error"), dict | str):
            draft.error = _message(part["error"])
        try:
            read(draft, part)
        except (AttributeError, KeyError, TypeError, IndexError, ValueError):
            continue  # a part of an unknown shape is skipped; the others still count
    return draft.done()


def usage_of(raw: Any) -> Usage | None:
    """Tokens from a `usage` object in OpenAI's, Responses' or Anthropic's spelling; None if it is not one.

    Anthropic counts cached input separately; Usage.input_tokens includes it, as OpenAI's prompt_tokens does.
    """
    if type(raw) is not dict:
        return None
    if raw.keys() == _PLAIN_USAGE:  # most upstreams report nothing else
        read, written = raw["prompt_tokens"], raw["completion_tokens"]
        if type(read) is int and type(written) is int and 0 <= read < _MOST_TOKENS and 0 <= written < _MOST_TOKENS:
            return Usage(read, written)
    read = "prompt_tokens" if "prompt_tokens" in raw else "input_tokens"
    written = "completion_tokens" if "completion_tokens" in raw else "output_tokens"
    input_tokens, output_tokens = raw.get(read), raw.get(written)
    if not isinstance(input_tokens, int) and not isinstance(output_tokens, int):
        return None
    cached = _detail(raw, ("prompt_tokens_details", "input_tokens_details"), "cached_tokens")
    reasoning = _detail(raw, ("completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
    if reasoning is None and "output_tokens_details" in raw:
        reasoning = _detail(raw, ("output_tokens_details",), "thinking_tokens")
    tokens = _number(input_tokens) or 0
    if "cache_read_input_tokens" in raw or "cache_creation_input_tokens" in raw:
        cached = _number(raw.get("cache_read_input_tokens")) or 0
        tokens += cached + (_number(raw.get("cache_creation_input_tokens")) or 0)
    return Usage(tokens, _number(output_tokens) or 0, cached, reasoning)


def billed_usage_of(raw: Any) -> Usage | None:
    """Reads a usage with the dollars that a service of decisions says that it bills (`cost`, as OpenRouter has it)."""
    usage = usage_of(raw)
    usd = None if usage is None else billed_usd(raw)
    return usage if usage is None or usd is None else replace(usage, usd=usd)


def billed_usd(usage: Mapping[str, Any]) -> float | None:
    """The dollars of a `usage` object; None if its `cost` is not one."""
    cost = usage.get("cost")
    if not isinstance(cost, int | float) or isinstance(cost, bool):
        return None
    return float(cost) if 0 <= cost < _MOST_USD else None


_MOST_USD = 1e6  # of one call; more is a cost in another unit
_PLAIN_USAGE = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
_MOST_TOKENS = 1 << 53  # more is an upstream's mistake; a sum of larger ones would not fit a record


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else None  # a bool is not a count


def _detail(raw: dict[str, Any], sections: Iterable[str], name: str) -> int | None:
    for section in sections:
        if section in raw and type(raw[section]) is dict:
            return _number(raw[section].get(name))
    return None


def _bodies(response: bytes) -> list[dict[str, Any]]:
    body = parse_object(response)
    return [] if body is None else [body]


def _events(response: bytes) -> list[dict[str, Any]]:
    payloads = _payloads(response)
    try:
        # One parser call for a hundred small objects costs a third of a hundred calls.
        parts: list[dict[str, Any]] = orjson.loads(b"[" + b",".join(payloads) + b"]")
    except orjson.JSONDecodeError:
        parts = []
    if len(parts) != len(payloads):  # one of them is malformed, so each is parsed on its own
        parts = [part for payload in payloads if (part := parse_object(payload)) is not None]
    return parts


def _payloads(response: bytes) -> list[bytes]:
    """The data of each complete event that looks like an object.

    The usual form, one `data: ` line, is cut out without parsing the event.
    """
    if b"\r" in response:
        return [event.data for event in events(response) if event.data[:1] == b"{"]
    found = []
    for block in response[: response.rfind(b"\n\n") + 1].split(b"\n\n"):
        block = block.strip(b"\n")
        data = block[6:] if block.startswith(b"data: {") and b"\n" not in block else parse(block + b"\n\n").data
        if data[:1] == b"{":
            found.append(data)
    return found


def _message(error: Any) -> str:
    return str(error.get("message", error) if isinstance(error, dict) else error)


@dataclass(slots=True)
class _Draft:
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: dict[int, list[str]] = field(default_factory=dict)  # index → [id, name, *argument pieces]
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    upstream_id: str | None = None
    choices: int = 1
    error: str | None = None
    other: bool = False

    def done(self) -> Completion:
        calls = tuple([ToolCall(c[0], c[1], "".join(c[2:])) for _, c in sorted(self.calls.items())])
        mean = sum(self.logprobs) / len(self.logprobs) if self.logprobs else None
        return Completion(
            text="".join(self.text),
            reasoning="".join(self.reasoning),
            refusal="".join(self.refusal),
            tool_calls=calls,
            finish_reason=self.finish_reason,
            usage=self.usage,
            model=self.model,
            upstream_id=self.upstream_id,
            mean_logprob=mean,
            choices=self.choices,
            error=self.error,
            other=self.other,
        )

    def head(self, part: dict[str, Any]) -> None:
        self.model = self.model or part.get("model")
        self.upstream_id = self.upstream_id or part.get("id")
        self.usage = usage_of(part.get("usage")) or self.usage

    def call(self, index: int, call_id: str | None, name: str | None, arguments: str | None) -> None:
        entry = self.calls.setdefault(index, ["", ""])
        entry[0] = entry[0] or call_id or ""
        entry[1] = entry[1] or name or ""
        entry.append(arguments or "")


def _read_chat(draft: _Draft, part: dict[str, Any]) -> None:
    draft.head(part)
    for choice in part.get("choices") or ():
        draft.choices = max(draft.choices, int(choice.get("index") or 0) + 1)
        if not choice.get("index"):
            _read_choice(draft, choice)


def _read_choice(draft: _Draft, choice: dict[str, Any]) -> None:
    message = choice.get("message") or choice.get("delta") or {}
    draft.text.append(content_text(message.get("content")))
    draft.reasoning.append(content_text(message.get("reasoning") or message.get("reasoning_content")))
    draft.refusal.append(content_text(message.get("refusal")))
    draft.other = draft.other or bool(message.get("audio") or message.get("images"))
    for at, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or call.get("custom") or {}
        written = function.get("arguments", function.get("input"))  # a custom tool's input is free text
        draft.call(call.get("index", at), call.get("id"), function.get("name"), written)
    old = message.get("function_call")
    if isinstance(old, dict):
        draft.call(0, None, old.get("name"), old.get("arguments"))
    draft.finish_reason = choice.get("finish_reason") or draft.finish_reason
    for token in (choice.get("logprobs") or {}).get("content") or ():
        draft.logprobs.append(float(token["logprob"]))


_PLAIN_MESSAGE = frozenset({"role", "content", "refusal", "annotations", "audio", "tool_calls", "function_call"})


def _plain_chat(part: dict[str, Any]) -> Completion | None:
    """A chat completion of one choice that is only text, read as _read_chat would, in a third of the time. None if it
    is something else.
    """
    choices = part.get("choices")
    if "error" in part or type(choices) is not list or len(choices) != 1:
        return None
    choice = choices[0]
    message = choice.get("message") if type(choice) is dict and not choice.get("index") else None
    if type(message) is not dict or not _PLAIN_MESSAGE.issuperset(message) or choice.get("logprobs"):
        return None
    text, reason = message.get("content"), choice.get("finish_reason")
    if type(text) is not str or message.get("refusal") or message.get("tool_calls") or message.get("function_call"):
        return None
    if message.get("audio"):
        return None
    model, upstream_id = part.get("model"), part.get("id")
    return Completion(text, "", "", (), reason or None, usage_of(part.get("usage")), model, upstream_id)


def _read_completions(draft: _Draft, part: dict[str, Any]) -> None:
    draft.head(part)
    for choice in part.get("choices") or ():
        draft.choices = max(draft.choices, int(choice.get("index") or 0) + 1)
        if not choice.get("index"):
            draft.text.append(content_text(choice.get("text")))
            draft.finish_reason = choice.get("finish_reason") or draft.finish_reason
            given = (choice.get("logprobs") or {}).get("token_logprobs") or ()
            draft.logprobs += [float(x) for x in given if x is not None]


def _read_messages(draft: _Draft, part: dict[str, Any]) -> None:
    """Anthropic: a message, or its events message_start, content_block_start / _delta, message_delta."""
    message = part.get("message") if part.get("type") == "message_start" else part
    if isinstance(message, dict) and message.get("type") == "message":
        draft.head(message)
        for at, block in enumerate(message.get("content") or ()):
            _read_block(draft, at, block)
        draft.finish_reason = message.get("stop_reason") or draft.finish_reason
    elif part.get("type") == "content_block_start":
        _read_block(draft, part["index"], part["content_block"])
    elif part.get("type") == "content_block_delta":
        delta = part["delta"]
        draft.text.append(content_text(delta.get("text")))
        draft.reasoning.append(content_text(delta.get("thinking")))
        if "partial_json" in delta:
            draft.call(part["index"], None, None, delta["partial_json"])
    elif part.get("type") == "message_delta":
        draft.finish_reason = part["delta"].get("stop_reason") or draft.finish_reason
        draft.usage = _later(draft.usage, part.get("usage"))


_WRITTEN_BLOCKS = ("text", "thinking", "redacted_thinking", "tool_use", "server_tool_use")


def _read_block(draft: _Draft, index: int, block: dict[str, Any]) -> None:
    draft.text.append(content_text(block.get("text")))
    draft.reasoning.append(content_text(block.get("thinking")))
    draft.other = draft.other or block.get("type") not in _WRITTEN_BLOCKS
    if block.get("type") in ("tool_use", "server_tool_use"):
        given = block.get("input")
        draft.call(index, block.get("id"), block.get("name"), orjson.dumps(given).decode() if given else "")


def _later(first: Usage | None, raw: Any) -> Usage | None:
    """Anthropic's closing usage repeats what changed: output always, input only from newer servers."""
    last = usage_of(raw)
    if last is None or first is None or last.input_tokens:
        return last or first
    return Usage(first.input_tokens, last.output_tokens, first.cached_input_tokens, last.reasoning_tokens)


_CALLS = ("function_call", "custom_tool_call")
_WRITTEN_ITEMS = ("message", "reasoning", *_CALLS)


def _read_responses(draft: _Draft, part: dict[str, Any]) -> None:
    """OpenAI Responses: the object, or its events; the closing event repeats the complete object."""
    kind = part.get("type", "")
    if kind == "response.output_text.delta":
        draft.text.append(part["delta"])
    elif kind in ("response.reasoning_text.delta", "response.reasoning_summary_text.delta"):
        draft.reasoning.append(part["delta"])
    elif kind == "response.refusal.delta":
        draft.refusal.append(part["delta"])
    elif kind in ("response.function_call_arguments.delta", "response.custom_tool_call_input.delta"):
        draft.call(part["output_index"], None, None, part["delta"])
    elif kind == "response.output_item.added" and part["item"].get("type") in _CALLS:
        draft.call(part["output_index"], part["item"].get("call_id"), part["item"].get("name"), "")
    elif kind in ("response.completed", "response.incomplete", "response.failed"):
        _read_response(draft, part["response"])
    elif part.get("object") == "response":
        _read_response(draft, part)


def _read_response(draft: _Draft, response: dict[str, Any]) -> None:
    draft.head(response)
    draft.finish_reason = (response.get("incomplete_details") or {}).get("reason") or response.get("status")
    if isinstance(response.get("error"), dict):
        draft.error = _message(response["error"])
    text, reasoning, refusal, calls = [], [], [], {}
    for at, item in enumerate(response.get("output") or ()):
        content = item.get("content") or ()
        if item.get("type") == "message":
            text += [content_text(c.get("text")) for c in content]
            refusal += [content_text(c.get("refusal")) for c in content]
        elif item.get("type") == "reasoning":
            reasoning += [content_text(c.get("text")) for c in (*content, *(item.get("summary") or ()))]
        elif item.get("type") in _CALLS:
            written = item.get("arguments") or item.get("input") or ""
            calls[at] = [item.get("call_id") or "", item.get("name") or "", written]
        draft.other = draft.other or item.get("type") not in _WRITTEN_ITEMS
    draft.text, draft.reasoning, draft.refusal, draft.calls = text, reasoning, refusal, calls


def _read_other(draft: _Draft, part: dict[str, Any]) -> None:
    draft.head(part)


_READERS: dict[str, Callable[[_Draft, dict[str, Any]], None]] = {
    "chat": _read_chat,
    "completions": _read_completions,
    "responses": _read_responses,
    "messages": _read_messages,
}


_APIS = frozenset({"chat", "completions", "responses", "messages"})
_ONE = 1  # token: a prompt that is sent to warm a cache or to read its log-probabilities asks for no more


def is_empty(exchange: Exchange, answer: Completion) -> bool | None:
    """Whether a complete answer holds nothing.

    Reasoning alone is empty. Audio, an image, a refusal, tool calls, and any answer of at most one token that was asked
    for are not. None if unknown, since only metadata was recorded or the record was cut.
    """
    if answer.text and not answer.text.isspace():  # nearly every answer: it decides without reading the request
        return False
    if exchange.outcome != "ok" or exchange.status >= 400 or exchange.api not in _APIS or exchange.likelihood:
        return False
    if answer.tool_calls or answer.refusal or answer.other or answer.finish_reason == "refusal":
        return False
    if exchange.truncated or exchange.request in (b"", b"{}"):
        return None
    return not _asks_for_nothing(exchange.request)


def _asks_for_nothing(request: bytes) -> bool:
    fields = parse_object(request) or {}
    limits = [fields[name] for name in OUTPUT_LIMITS if isinstance(fields.get(name), int | float)]
    return bool(limits) and min(limits) <= _ONE
