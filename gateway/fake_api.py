"""What the fake upstream says: the right answer of each API, whole or as events. Pure: no socket, no fault."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

CREATED = 1_700_000_000
EVENT_STREAM = "text/event-stream"


class HOLD:
    """In a script: silent from here until `release()` or the end."""


class CUT:
    """In a script: the connection closes here, in the middle of the answer."""


@dataclass(frozen=True, slots=True)
class Delay:
    """In a script: a pause."""

    seconds: float


class Delta(bytes):
    """An event that carries content: what `cut_after(n)` and its kin count."""


class Done(bytes):
    """The event that ends a stream: `[DONE]`, or what the API says in its place."""


Part = str | Delay | type[HOLD] | type[CUT]
Event = bytes | Delay | type[HOLD] | type[CUT]
Dialect = Literal["openai", "anthropic", "responses"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One right answer, before it meets the wire.

    events: of a stream, in order. pauses and body: of a plain answer; the pauses come before its first byte, and a CUT
    among them halves the body. dialect: how this API words an error.
    """

    body: bytes = b""
    events: Sequence[Event] = ()
    pauses: Sequence[Event] = ()
    stream: bool = False
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    dialect: Dialect = "openai"


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    arguments: str
    id: str


@dataclass(frozen=True, slots=True)
class Script:
    """What answers of chat, completions, responses and messages say. chosen: a test wrote it; it is not the default."""

    parts: tuple[Part, ...]
    chosen: bool = True
    tool: ToolCall | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as the answers need it. path: without /v1. orca: the load format asked for; None: not asked."""

    serial: int
    method: str
    path: str
    content_type: str
    body: bytes
    fields: dict[str, Any]
    script: Script
    default_model: str
    vllm: bool
    orca: str | None
    load: Mapping[str, float]

    @property
    def model(self) -> str:
        return str(self.fields.get("model") or self.default_model)

    @property
    def stream(self) -> bool:
        return bool(self.fields.get("stream"))

    @property
    def logprobs(self) -> bool:
        return bool(self.fields.get("logprobs"))

    @property
    def choices(self) -> int:
        return int(self.fields.get("n") or 1)

    @property
    def usage_asked(self) -> bool:
        return bool((self.fields.get("stream_options") or {}).get("include_usage"))


@dataclass(frozen=True, slots=True)
class Speech:
    """What is said to one request. whole: False when max_tokens ended it."""

    parts: tuple[Part, ...]
    text: str
    words: int
    whole: bool
    tool: ToolCall | None

    @property
    def pauses(self) -> tuple[Event, ...]:
        return tuple(p for p in self.parts if not isinstance(p, str))

    def finish(self, stop: str, length: str, tool: str) -> str:
        """The API's own word for how this ended."""
        return tool if self.tool else stop if self.whole else length

    def fragments(self) -> list[str]:
        """The tool call's arguments as a stream gives them."""
        text = self.tool.arguments if self.tool else ""
        return [text[i : i + 8] for i in range(0, len(text), 8)]


def answer(ask: Ask) -> Answer:
    """The right answer to this request; for a path no API has, or fields nobody could answer, the right error."""
    api = _APIS.get((ask.method, ask.path)) or next((a for p, a in _PREFIXES if ask.path.startswith(p)), None)
    if api is None:
        return error("openai", 404, f"no such path here: {ask.method} {ask.path}", code="not_found")
    missing = [field for field in _REQUIRED.get(ask.path, ()) if field not in ask.fields]
    if missing:
        return error(dialect_of(ask.path), 400, f"the body is no JSON object with {missing[0]!r}", param=missing[0])
    try:
        return api(ask)
    except (AttributeError, KeyError, TypeError, ValueError) as wrong:
        return error(dialect_of(ask.path), 400, f"a field has the wrong type: {wrong!r}")


def dialect_of(path: str) -> Dialect:
    """How the API at this path, without /v1, words an error."""
    return "anthropic" if path.startswith("/messages") else "responses" if path == "/responses" else "openai"


def split(text: str) -> tuple[str, ...]:
    """The words of a text, each with the space after it; joined, they are the text."""
    return tuple(re.findall(r"\s*\S+\s*", text))


def speech(ask: Ask, prefix: str = "") -> Speech:
    """What the script gives for this request: after `prefix` if it begins with it, up to the token limit."""
    if ask.script.tool:
        return Speech((), "", 1 + len(ask.script.tool.arguments.split()), True, ask.script.tool)
    parts: tuple[Part, ...] = ask.script.parts
    if not ask.script.chosen and _wants_json(ask.fields):
        parts = split(orjson.dumps({"answer": _text(parts).strip()}).decode())
    if prefix and _text(parts).startswith(prefix):
        parts = _slice(parts, len(prefix), None)
    text = _text(parts)
    words, limit = len(text.split()), _limit(ask.fields)
    if limit is None or words <= limit:
        return Speech(parts, text, words, True, None)
    end = sum(len(word) for word in split(text)[:limit])
    return Speech(_slice(parts, 0, end), text[:end], limit, False, None)


def _text(parts: Sequence[Part]) -> str:
    return "".join([p for p in parts if isinstance(p, str)])


def _slice(parts: Sequence[Part], start: int, end: int | None) -> tuple[Part, ...]:
    """The parts between two places of their text. What stands exactly at a start > 0 belonged to the part before."""
    out: list[Part] = []
    at = 0
    for part in parts:
        if not isinstance(part, str):
            if (at > start or not start) and (end is None or at < end):
                out.append(part)
            continue
        kept = part[max(0, start - at) : None if end is None else max(0, end - at)]
        at += len(part)
        if kept:
            out.append(kept)
    return tuple(out)


def _limit(fields: dict[str, Any]) -> int | None:
    names = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    return next((int(fields[n]) for n in names if fields.get(n) is not None), None)


def _wants_json(fields: dict[str, Any]) -> bool:
    wanted = fields.get("response_format") or (fields.get("text") or {}).get("format") or {}
    return wanted.get("type") in {"json_object", "json_schema"}


def count_words(value: Any) -> int:
    """The words in a prompt of any API: a string, token numbers (one each), messages, content parts, lists of these."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(count_words(v) for v in value)
    if isinstance(value, dict):
        return sum(count_words(value.get(key)) for key in ("content", "text", "input"))
    return int(isinstance(value, int))


def _last_assistant(ask: Ask) -> str:
    """The text of a last assistant message; empty: the last message is somebody else's."""
    messages = ask.fields.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return ""
    content = last.get("content")
    return content if isinstance(content, str) else "".join(str(p.get("text", "")) for p in content or ())


def error(
    dialect: Dialect,
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Answer:
    """An error as the whole answer."""
    body = orjson.dumps(_error_object(dialect, status, message, code, param))
    return Answer(body, status=status, headers=headers, dialect=dialect)


def error_event(dialect: Dialect, message: str) -> bytes:
    """The same, as an event inside a stream."""
    if dialect == "responses":
        return _named({"type": "error", "code": "server_error", "message": message, "param": None})
    said = _error_object(dialect, 500, message, "server_error", None)
    return _named(said) if dialect == "anthropic" else b"data: " + orjson.dumps(said) + b"\n\n"


_ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def _error_object(dialect: Dialect, status: int, message: str, code: str | None, param: str | None) -> dict[str, Any]:
    if dialect == "anthropic":
        kind = _ANTHROPIC_ERRORS.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req-fake"}
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _chat(ask: Ask) -> Answer:
    continues = ask.vllm and ask.fields.get("continue_final_message")
    said = speech(ask, _last_assistant(ask) if continues else "")
    usage = _usage(count_words(ask.fields["messages"]), said.words * ask.choices)
    if ask.stream:
        frame = _frame(ask, "chatcmpl", "chat.completion.chunk")
        return _events([*_chat_events(ask, said, frame), *_ending(ask, frame, usage)])
    message: dict[str, Any] = {"role": "assistant", "content": said.text, "refusal": None}
    if said.tool:
        message = message | {"content": None, "tool_calls": [_tool_object(said.tool)]}
    finish = said.finish("stop", "length", "tool_calls")
    logprobs = _logprobs(split(said.text), ask) if ask.logprobs else None
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}
    return _plain(ask, "chatcmpl", "chat.completion", [choice | {"index": i} for i in range(ask.choices)], usage, said)


def _chat_events(ask: Ask, said: Speech, frame: tuple[bytes, bytes]) -> Iterator[Event]:
    head, tail = frame

    def event(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return head + orjson.dumps(choice) + tail

    choices = range(ask.choices)
    for i in choices:
        yield event(i, {"role": "assistant", "content": None if said.tool else ""})
        if said.tool:
            yield Delta(event(i, {"tool_calls": [{"index": 0, **_tool_object(said.tool, arguments="")}]}))
        for fragment in said.fragments():
            yield Delta(event(i, {"tool_calls": [{"index": 0, "function": {"arguments": fragment}}]}))
    for part in said.parts:
        if not isinstance(part, str):
            yield part
            continue
        # Put together from encoded pieces: most of a benchmark's time here would else be spent in dumps.
        said_as = orjson.dumps(part)
        odds = orjson.dumps(_logprobs((part,), ask)) if ask.logprobs else b"null"
        for i in choices:
            lead = b'%b{"index":%d,"delta":{"content":' % (head, i)
            yield Delta(b'%b%b},"logprobs":%b,"finish_reason":null}%b' % (lead, said_as, odds, tail))
    for i in choices:
        yield event(i, {}, said.finish("stop", "length", "tool_calls"))


def _completions(ask: Ask) -> Answer:
    said, prompt = speech(ask), ask.fields["prompt"]
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    choices = range(ask.choices * prompts)
    usage = _usage(count_words(prompt), said.words * len(choices))
    finish = said.finish("stop", "length", "stop")
    if not ask.stream:
        choice = {"index": 0, "text": said.text, "logprobs": None, "finish_reason": finish}
        return _plain(ask, "cmpl", "text_completion", [choice | {"index": i} for i in choices], usage, said)
    head, tail = frame = _frame(ask, "cmpl", "text_completion")

    def event(index: int, text: str, finish: str | None) -> bytes:
        choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
        return head + orjson.dumps(choice) + tail

    events: list[Event] = []
    for part in said.parts:
        events += [Delta(event(i, part, None)) for i in choices] if isinstance(part, str) else [part]
    events += [event(i, "", finish) for i in choices]
    return _events([*events, *_ending(ask, frame, usage)])


def _frame(ask: Ask, prefix: str, object_: str) -> tuple[bytes, bytes]:
    """What stands before and after the choices in every event of one stream."""
    named = {"id": f"{prefix}-fake-{ask.serial}", "object": object_, "created": CREATED, "model": ask.model}
    head = b"data: " + orjson.dumps(named)[:-1] + b',"choices":['
    return head, b'],"usage":null}\n\n' if ask.usage_asked else b"]}\n\n"


def _ending(ask: Ask, frame: tuple[bytes, bytes], usage: dict[str, Any]) -> Iterator[Event]:
    if ask.usage_asked:
        yield b'%b],"usage":%b}\n\n' % (frame[0], orjson.dumps(usage))
    yield Done(b"data: [DONE]\n\n")


def _plain(ask: Ask, prefix: str, object_: str, choices: list[Any], usage: dict[str, Any], said: Speech) -> Answer:
    named = {"id": f"{prefix}-fake-{ask.serial}", "object": object_, "created": CREATED, "model": ask.model}
    return Answer(orjson.dumps(named | {"choices": choices, "usage": usage}), pauses=said.pauses, headers=_orca(ask))


def _events(events: list[Event], dialect: Dialect = "openai") -> Answer:
    return Answer(events=events, stream=True, content_type=EVENT_STREAM, dialect=dialect)


def _usage(prompt: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _tool_object(tool: ToolCall, arguments: str | None = None) -> dict[str, Any]:
    function = {"name": tool.name, "arguments": tool.arguments if arguments is None else arguments}
    return {"id": tool.id, "type": "function", "function": function}


def _logprobs(words: Sequence[str], ask: Ask) -> dict[str, Any]:
    tokens = [{"token": w, "logprob": -0.125, "bytes": list(w.encode())} for w in words]
    top = bool(ask.fields.get("top_logprobs"))
    return {"content": [t | {"top_logprobs": [t] if top else []} for t in tokens], "refusal": None}


def _orca(ask: Ask) -> tuple[tuple[str, str], ...]:
    """vLLM's load report: a header of plain answers, in the format that was asked for."""
    if not ask.vllm or ask.orca is None or ask.orca.lower() not in {"json", "text"}:
        return ()
    if ask.orca.lower() == "json":
        return (("endpoint-load-metrics", "JSON " + orjson.dumps({"named_metrics": dict(ask.load)}).decode()),)
    return (("endpoint-load-metrics", "TEXT " + ", ".join(f"named_metrics.{k}={v}" for k, v in ask.load.items())),)


def _named(event: dict[str, Any]) -> bytes:
    """An event whose SSE name is its `type`, as responses and messages have them."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))


def _responses(ask: Ask) -> Answer:
    said = speech(ask)
    whole = _response_object(ask, said)
    if not ask.stream:
        return Answer(orjson.dumps(whole), pauses=said.pauses, dialect="responses")
    serial = iter(range(1_000_000))
    events: list[Event] = []
    for event in _response_events(whole, said):
        if isinstance(event, dict):
            data = _named(event | {"sequence_number": next(serial)})
            kind = Delta if event["type"].endswith(".delta") else Done if event["type"] in _RESPONSE_ENDS else bytes
            events.append(kind(data))
        else:
            events.append(event)
    return _events(events, "responses")


_RESPONSE_ENDS = {"response.completed", "response.incomplete"}


def _response_object(ask: Ask, said: Speech) -> dict[str, Any]:
    prompt = count_words(ask.fields["input"]) + count_words(ask.fields.get("instructions"))
    status = "completed" if said.whole else "incomplete"
    content = [{"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}]
    item: dict[str, Any] = {"type": "message", "id": f"msg-fake-{ask.serial}", "role": "assistant", "content": content}
    if said.tool:
        call = {"call_id": said.tool.id, "name": said.tool.name, "arguments": said.tool.arguments}
        item = {"type": "function_call", "id": f"fc-fake-{ask.serial}"} | call
    return {
        "id": f"resp-fake-{ask.serial}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None if said.whole else {"reason": "max_output_tokens"},
        "model": ask.model,
        "output": [item | {"status": status}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": ask.fields.get("tools") or [],
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": said.words,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + said.words,
        },
    }


def _response_events(whole: dict[str, Any], said: Speech) -> Iterator[dict[str, Any] | Event]:
    item = whole["output"][0]
    place = {"item_id": item["id"], "output_index": 0}
    begun = whole | {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    empty: dict[str, Any] = {"arguments": ""} if said.tool else {"content": []}
    added = item | {"status": "in_progress"} | empty
    yield {"type": "response.output_item.added", "output_index": 0, "item": added}
    if said.tool:
        for fragment in said.fragments():
            yield {"type": "response.function_call_arguments.delta", **place, "delta": fragment}
        arguments = {"name": said.tool.name, "arguments": said.tool.arguments}
        yield {"type": "response.function_call_arguments.done", **place, **arguments}
    else:
        yield from _response_text_events(item, place | {"content_index": 0}, said)
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed" if said.whole else "response.incomplete", "response": whole}


def _response_text_events(
    item: dict[str, Any], place: dict[str, Any], said: Speech
) -> Iterator[dict[str, Any] | Event]:
    content = item["content"][0]
    yield {"type": "response.content_part.added", **place, "part": content | {"text": ""}}
    for part in said.parts:
        delta = {"type": "response.output_text.delta", **place, "delta": part, "logprobs": []}
        yield delta if isinstance(part, str) else part
    yield {"type": "response.output_text.done", **place, "text": said.text, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": content}


def _messages(ask: Ask) -> Answer:
    said = speech(ask, _last_assistant(ask))
    text = {"type": "text", "text": said.text}
    block = _tool_block(said.tool) if said.tool else text
    usage = {
        "input_tokens": count_words(ask.fields["messages"]) + count_words(ask.fields.get("system")),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": said.words,
    }
    whole = {
        "id": f"msg-fake-{ask.serial}",
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": [block],
        "stop_reason": said.finish("end_turn", "max_tokens", "tool_use"),
        "stop_sequence": None,
        "usage": usage,
    }
    if ask.stream:
        return _events(list(_message_events(whole, said)), "anthropic")
    return Answer(orjson.dumps(whole), pauses=said.pauses, dialect="anthropic")


def _message_events(whole: dict[str, Any], said: Speech) -> Iterator[Event]:
    usage = whole["usage"]
    begun = whole | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    empty = {"type": "text", "text": ""} if said.tool is None else _tool_block(said.tool) | {"input": {}}
    yield _named({"type": "message_start", "message": begun})
    yield _named({"type": "content_block_start", "index": 0, "content_block": empty})
    yield _named({"type": "ping"})
    for part in said.fragments() if said.tool else said.parts:
        if isinstance(part, str):
            kind, key = ("input_json_delta", "partial_json") if said.tool else ("text_delta", "text")
            yield Delta(_named({"type": "content_block_delta", "index": 0, "delta": {"type": kind, key: part}}))
        else:
            yield part
    yield _named({"type": "content_block_stop", "index": 0})
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield _named({"type": "message_delta", "delta": ending, "usage": usage})
    yield Done(_named({"type": "message_stop"}))


def _tool_block(tool: ToolCall) -> dict[str, Any]:
    """Arguments that are no JSON cannot be said as a block; they stand under a key of their own."""
    try:
        given = orjson.loads(tool.arguments)
    except orjson.JSONDecodeError:
        given = {"unparsed": tool.arguments}
    return {"type": "tool_use", "id": tool.id, "name": tool.name, "input": given}


def _count_tokens(ask: Ask) -> Answer:
    words = count_words(ask.fields["messages"]) + count_words(ask.fields.get("system"))
    return Answer(orjson.dumps({"input_tokens": words}), dialect="anthropic")


def _json(value: Any) -> Answer:
    return Answer(orjson.dumps(value))


def vector(text: str, dimensions: int = 64) -> list[float]:
    """A unit vector of the text's words: texts that share words point the same way. All zeros: no words."""
    values = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()):
        mark = zlib.crc32(word.encode())
        values[(mark >> 1) % dimensions] += 1.0 if mark & 1 else -1.0
    norm = math.sqrt(sum(v * v for v in values)) or 1.0
    return [v / norm for v in values]


def _likeness(a: str, b: str) -> float:
    return sum(x * y for x, y in zip(vector(a), vector(b), strict=True))


def _embeddings(ask: Ask) -> Answer:
    given = ask.fields["input"]
    texts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    vectors = [vector(str(t), int(ask.fields.get("dimensions") or 64)) for t in texts]
    packed = ask.fields.get("encoding_format") == "base64"
    said = [base64.b64encode(array("f", v).tobytes()).decode() for v in vectors] if packed else vectors
    items = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(said)]
    usage = {"prompt_tokens": count_words(given), "total_tokens": count_words(given)}
    return _json({"object": "list", "data": items, "model": ask.model, "usage": usage})


def _moderations(ask: Ask) -> Answer:
    given = ask.fields["input"]
    texts = given if isinstance(given, list) else [given]
    result = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.0}}
    return _json({"id": f"modr-fake-{ask.serial}", "model": ask.model, "results": [result for _ in texts]})


def _document(value: Any) -> str:
    return str(value.get("text", "")) if isinstance(value, dict) else str(value)


def _rerank(ask: Ask) -> Answer:
    query, documents = str(ask.fields["query"]), [_document(d) for d in ask.fields["documents"]]
    scored = sorted(((_likeness(query, d), -i) for i, d in enumerate(documents)), reverse=True)
    results = [{"index": -i, "document": {"text": documents[-i]}, "relevance_score": s} for s, i in scored]
    usage = {"total_tokens": count_words(query) + count_words(documents)}
    kept = results[: ask.fields.get("top_n") or None]
    return _json({"id": f"rerank-fake-{ask.serial}", "model": ask.model, "usage": usage, "results": kept})


def _score(ask: Ask) -> Answer:
    one, two = ask.fields["text_1"], ask.fields["text_2"]
    lefts, rights = ([t] if isinstance(t, str) else t for t in (one, two))
    lefts = lefts * len(rights) if len(lefts) == 1 else lefts
    scores = [_likeness(a, b) for a, b in zip(lefts, rights, strict=False)]
    items = [{"index": i, "object": "score", "score": s} for i, s in enumerate(scores)]
    words = count_words(one) + count_words(two)
    usage = {"prompt_tokens": words, "total_tokens": words, "completion_tokens": 0}
    named = {"id": f"score-fake-{ask.serial}", "object": "list", "created": CREATED, "model": ask.model}
    return _json(named | {"data": items, "usage": usage})


def _tokenize(ask: Ask) -> Answer:
    """Tokens here are code points, so that detokenize can turn them back."""
    text = ask.fields.get("prompt") or "".join(_document(m) for m in ask.fields.get("messages") or ())
    return _json({"count": len(text), "max_model_len": 4096, "tokens": [ord(c) for c in text]})


def _detokenize(ask: Ask) -> Answer:
    return _json({"prompt": "".join(chr(t) for t in ask.fields["tokens"])})


def _transcription(ask: Ask) -> Answer:
    """Says which file arrived, so that a test can hold it against the one sent. file: None: no file part came."""
    boundary = re.search(r'boundary="?([^";]+)', ask.content_type)
    if boundary is None:
        return error("openai", 400, "the body is no multipart form", param="file")
    parts = ask.body.split(b"--" + boundary[1].encode())[1:-1]
    file = next((f for f in map(_form_file, parts) if f), None)
    return _json({"text": _text(ask.script.parts), "file": file})


def _form_file(part: bytes) -> dict[str, Any] | None:
    head, _, rest = part.partition(b"\r\n\r\n")
    name = re.search(rb'filename="([^"]*)"', head)
    data = rest.removesuffix(b"\r\n")
    return {"filename": name[1].decode(), "size": len(data), "sha256": _sha256(data)} if name else None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _speech_audio(_: Ask) -> Answer:
    return Answer(bytes(range(256)) * 16, content_type="audio/mpeg")


def _images(ask: Ask) -> Answer:
    pixel = base64.b64encode(b"\x89PNG\r\n\x1a\n fake").decode()
    return _json({"created": CREATED, "data": [{"b64_json": pixel} for _ in range(ask.choices)]})


def _echo(ask: Ask) -> Answer:
    """For paths that a gateway passes through: what came, as it came."""
    seen = {"method": ask.method, "path": ask.path, "content_type": ask.content_type}
    body = {"bytes": len(ask.body), "sha256": _sha256(ask.body)}
    return _json({"id": f"file-fake-{ask.serial}", "object": "file"} | seen | body)


def _models(ask: Ask) -> Answer:
    length = {"max_model_len": 4096} if ask.vllm else {}
    model = {"id": ask.default_model, "object": "model", "created": CREATED, "owned_by": "fake"} | length
    named = ask.path.removeprefix("/models/")
    return _json(model | {"id": named} if named != ask.path else {"object": "list", "data": [model]})


def _health(_: Ask) -> Answer:
    return Answer(content_type="text/plain")


def _metrics(ask: Ask) -> Answer:
    """The lines of vLLM's /metrics that a gateway reads for load."""
    lines = [
        f'# TYPE vllm:{name} gauge\nvllm:{name}{{engine="0",model_name="{ask.default_model}"}} {value}\n'
        for name, value in ask.load.items()
    ]
    return Answer("".join(lines).encode(), content_type="text/plain; version=0.0.4; charset=utf-8")


_APIS: Mapping[tuple[str, str], Callable[[Ask], Answer]] = {
    ("POST", "/chat/completions"): _chat,
    ("POST", "/completions"): _completions,
    ("POST", "/responses"): _responses,
    ("POST", "/messages"): _messages,
    ("POST", "/messages/count_tokens"): _count_tokens,
    ("POST", "/embeddings"): _embeddings,
    ("POST", "/moderations"): _moderations,
    ("POST", "/rerank"): _rerank,
    ("POST", "/score"): _score,
    ("POST", "/tokenize"): _tokenize,
    ("POST", "/detokenize"): _detokenize,
    ("POST", "/audio/transcriptions"): _transcription,
    ("POST", "/audio/translations"): _transcription,
    ("POST", "/audio/speech"): _speech_audio,
    ("POST", "/images/generations"): _images,
    ("GET", "/models"): _models,
    ("GET", "/health"): _health,
    ("GET", "/metrics"): _metrics,
}
_PREFIXES: Sequence[tuple[str, Callable[[Ask], Answer]]] = (
    ("/models/", _models),
    ("/files", _echo),
    ("/batches", _echo),
    ("/uploads", _echo),
)
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "/chat/completions": ("messages",),
    "/completions": ("prompt",),
    "/responses": ("input",),
    "/messages": ("messages",),
    "/messages/count_tokens": ("messages",),
    "/embeddings": ("input",),
    "/moderations": ("input",),
    "/rerank": ("query", "documents"),
    "/score": ("text_1", "text_2"),
    "/detokenize": ("tokens",),
}
