"""The APIs of the fake upstream: which one answers a path, and all but chat and completions, which are in chat.py."""

from __future__ import annotations

import base64
import hashlib
import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from gateway.fake.answers import (
    CREATED,
    Delta,
    Dialect,
    Event,
    FakeAnswer,
    FakeRequest,
    FakeToolCall,
    StreamDone,
    error,
    named_event,
    streamed,
)
from gateway.fake.chat import chat, completions
from gateway.fake.decisions import decisions, systemone
from gateway.fake.similarity import similarity, vector
from gateway.fake.speech import ScriptedAnswer, count_words, last_assistant, speech, text_of


def messages(ask: FakeRequest) -> FakeAnswer:
    scripted = speech(ask, last_assistant(ask))
    text = {"type": "text", "text": scripted.text}
    block = _tool_block(scripted.tool) if scripted.tool else text
    usage = {
        "input_tokens": count_words(ask.fields["messages"]) + count_words(ask.fields.get("system")),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": scripted.words,
    }
    whole = {
        "id": f"msg-fake-{ask.serial}",
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": [block],
        "stop_reason": scripted.finish("end_turn", "max_tokens", "tool_use"),
        "stop_sequence": None,
        "usage": usage,
    }
    if ask.stream:
        return streamed(list(_message_events(whole, scripted)), "anthropic")
    return FakeAnswer(orjson.dumps(whole), pauses=scripted.pauses, dialect="anthropic")


def _message_events(whole: dict[str, Any], scripted: ScriptedAnswer) -> Iterator[Event]:
    usage = whole["usage"]
    begun = whole | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    empty = {"type": "text", "text": ""} if scripted.tool is None else _tool_block(scripted.tool) | {"input": {}}
    yield named_event({"type": "message_start", "message": begun})
    yield named_event({"type": "content_block_start", "index": 0, "content_block": empty})
    yield named_event({"type": "ping"})
    for part in scripted.fragments() if scripted.tool else scripted.parts:
        if isinstance(part, str):
            kind, key = ("input_json_delta", "partial_json") if scripted.tool else ("text_delta", "text")
            yield Delta(named_event({"type": "content_block_delta", "index": 0, "delta": {"type": kind, key: part}}))
        else:
            yield part
    yield named_event({"type": "content_block_stop", "index": 0})
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield named_event({"type": "message_delta", "delta": ending, "usage": usage})
    yield StreamDone(named_event({"type": "message_stop"}))


def _tool_block(tool: FakeToolCall) -> dict[str, Any]:
    """The content block of a tool call. Arguments that are not a JSON object go under a key of their own."""
    try:
        given = orjson.loads(tool.arguments)
    except orjson.JSONDecodeError:
        given = {"unparsed": tool.arguments}
    return {"type": "tool_use", "id": tool.id, "name": tool.name, "input": given}


def count_tokens(ask: FakeRequest) -> FakeAnswer:
    words = count_words(ask.fields["messages"]) + count_words(ask.fields.get("system"))
    return FakeAnswer(orjson.dumps({"input_tokens": words}), dialect="anthropic")


def responses(ask: FakeRequest) -> FakeAnswer:
    scripted = speech(ask)
    whole = _response_object(ask, scripted)
    if not ask.stream:
        return FakeAnswer(orjson.dumps(whole), pauses=scripted.pauses, dialect="responses")
    serial = iter(range(1_000_000))
    events: list[Event] = []
    for event in _response_events(whole, scripted):
        if isinstance(event, dict):
            data = named_event(event | {"sequence_number": next(serial)})
            kind = (
                Delta if event["type"].endswith(".delta") else StreamDone if event["type"] in _RESPONSE_ENDS else bytes
            )
            events.append(kind(data))
        else:
            events.append(event)
    return streamed(events, "responses")


_RESPONSE_ENDS = {"response.completed", "response.incomplete"}


def _response_object(ask: FakeRequest, scripted: ScriptedAnswer) -> dict[str, Any]:
    prompt = count_words(ask.fields["input"]) + count_words(ask.fields.get("instructions"))
    status = "completed" if scripted.complete else "incomplete"
    content = [{"type": "output_text", "text": scripted.text, "annotations": [], "logprobs": []}]
    item: dict[str, Any] = {"type": "message", "id": f"msg-fake-{ask.serial}", "role": "assistant", "content": content}
    if scripted.tool:
        call = {"call_id": scripted.tool.id, "name": scripted.tool.name, "arguments": scripted.tool.arguments}
        item = {"type": "function_call", "id": f"fc-fake-{ask.serial}"} | call
    return {
        "id": f"resp-fake-{ask.serial}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None if scripted.complete else {"reason": "max_output_tokens"},
        "model": ask.model,
        "output": [item | {"status": status}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": ask.fields.get("tools") or [],
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": scripted.words,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + scripted.words,
        },
    }


def _response_events(whole: dict[str, Any], scripted: ScriptedAnswer) -> Iterator[dict[str, Any] | Event]:
    item = whole["output"][0]
    place = {"item_id": item["id"], "output_index": 0}
    begun = whole | {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    empty: dict[str, Any] = {"arguments": ""} if scripted.tool else {"content": []}
    added = item | {"status": "in_progress"} | empty
    yield {"type": "response.output_item.added", "output_index": 0, "item": added}
    if scripted.tool:
        for fragment in scripted.fragments():
            yield {"type": "response.function_call_arguments.delta", **place, "delta": fragment}
        arguments = {"name": scripted.tool.name, "arguments": scripted.tool.arguments}
        yield {"type": "response.function_call_arguments.done", **place, **arguments}
    else:
        yield from _response_text_events(item, place | {"content_index": 0}, scripted)
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed" if scripted.complete else "response.incomplete", "response": whole}


def _response_text_events(
    item: dict[str, Any], place: dict[str, Any], scripted: ScriptedAnswer
) -> Iterator[dict[str, Any] | Event]:
    content = item["content"][0]
    yield {"type": "response.content_part.added", **place, "part": content | {"text": ""}}
    for part in scripted.parts:
        delta = {"type": "response.output_text.delta", **place, "delta": part, "logprobs": []}
        yield delta if isinstance(part, str) else part
    yield {"type": "response.output_text.done", **place, "text": scripted.text, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": content}


def _json(value: Any) -> FakeAnswer:
    return FakeAnswer(orjson.dumps(value))


def embeddings(ask: FakeRequest) -> FakeAnswer:
    given = ask.fields["input"]
    texts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    vectors = [vector(str(t), int(ask.fields.get("dimensions") or 64)) for t in texts]
    packed = ask.fields.get("encoding_format") == "base64"
    encoded = [base64.b64encode(array("f", v).tobytes()).decode() for v in vectors] if packed else vectors
    items = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(encoded)]
    usage = {"prompt_tokens": count_words(given), "total_tokens": count_words(given)}
    return _json({"object": "list", "data": items, "model": ask.model, "usage": usage})


def moderations(ask: FakeRequest) -> FakeAnswer:
    given = ask.fields["input"]
    texts = given if isinstance(given, list) else [given]
    result = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.0}}
    return _json({"id": f"modr-fake-{ask.serial}", "model": ask.model, "results": [result for _ in texts]})


def _document(value: Any) -> str:
    return str(value.get("text", "")) if isinstance(value, dict) else str(value)


def rerank(ask: FakeRequest) -> FakeAnswer:
    query, documents = str(ask.fields["query"]), [_document(d) for d in ask.fields["documents"]]
    scored = sorted(((similarity(query, d), -i) for i, d in enumerate(documents)), reverse=True)
    results = [{"index": -i, "document": {"text": documents[-i]}, "relevance_score": s} for s, i in scored]
    usage = {"total_tokens": count_words(query) + count_words(documents)}
    kept = results[: ask.fields.get("top_n") or None]
    return _json({"id": f"rerank-fake-{ask.serial}", "model": ask.model, "usage": usage, "results": kept})


def score(ask: FakeRequest) -> FakeAnswer:
    one, two = ask.fields["text_1"], ask.fields["text_2"]
    lefts, rights = ([t] if isinstance(t, str) else t for t in (one, two))
    lefts = lefts * len(rights) if len(lefts) == 1 else lefts
    scores = [similarity(a, b) for a, b in zip(lefts, rights, strict=False)]
    items = [{"index": i, "object": "score", "score": s} for i, s in enumerate(scores)]
    words = count_words(one) + count_words(two)
    usage = {"prompt_tokens": words, "total_tokens": words, "completion_tokens": 0}
    named = {"id": f"score-fake-{ask.serial}", "object": "list", "created": CREATED, "model": ask.model}
    return _json(named | {"data": items, "usage": usage})


def tokenize(ask: FakeRequest) -> FakeAnswer:
    """Tokens are code points here, so that detokenize can reverse it."""
    text = ask.fields.get("prompt") or "".join(_document(m) for m in ask.fields.get("messages") or ())
    return _json({"count": len(text), "max_model_len": 4096, "tokens": [ord(c) for c in text]})


def detokenize(ask: FakeRequest) -> FakeAnswer:
    return _json({"prompt": "".join(chr(t) for t in ask.fields["tokens"])})


def transcription(ask: FakeRequest) -> FakeAnswer:
    """Reports the received file, so that a test can compare it with the one sent. `file` is null if there was none."""
    boundary = re.search(r'boundary="?([^";]+)', ask.content_type)
    if boundary is None:
        return error("openai", 400, "the body must be a multipart form", param="file")
    parts = ask.body.split(b"--" + boundary[1].encode())[1:-1]
    file = next((f for f in map(_form_file, parts) if f), None)
    return _json({"text": text_of(ask.script.parts), "file": file})


def _form_file(part: bytes) -> dict[str, Any] | None:
    head, _, rest = part.partition(b"\r\n\r\n")
    name = re.search(rb'filename="([^"]*)"', head)
    data = rest.removesuffix(b"\r\n")
    return {"filename": name[1].decode(), "size": len(data), "sha256": _sha256(data)} if name else None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def speech_audio(_: FakeRequest) -> FakeAnswer:
    return FakeAnswer(bytes(range(256)) * 16, content_type="audio/mpeg")


def images(ask: FakeRequest) -> FakeAnswer:
    pixel = base64.b64encode(b"\x89PNG\r\n\x1a\n fake").decode()
    return _json({"created": CREATED, "data": [{"b64_json": pixel} for _ in range(ask.choices)]})


def echo(ask: FakeRequest) -> FakeAnswer:
    """Describes the request exactly as received, for paths that a gateway passes through."""
    seen = {"method": ask.method, "path": ask.path, "content_type": ask.content_type}
    body = {"bytes": len(ask.body), "sha256": _sha256(ask.body)}
    return _json({"id": f"file-fake-{ask.serial}", "object": "file"} | seen | body)


def models(ask: FakeRequest) -> FakeAnswer:
    length = {"max_model_len": 4096} if ask.vllm else {}
    model = {"id": ask.default_model, "object": "model", "created": CREATED, "owned_by": "fake"} | length
    adapters = [model | {"id": name, "parent": parent} for name, parent in ask.adapters.items()]
    named = ask.path.removeprefix("/models/")
    return _json(model | {"id": named} if named != ask.path else {"object": "list", "data": [model, *adapters]})


def health(_: FakeRequest) -> FakeAnswer:
    return FakeAnswer(content_type="text/plain")


def metrics(ask: FakeRequest) -> FakeAnswer:
    """The lines of vLLM's /metrics from which a gateway reads the load."""
    lines = [
        f'# TYPE vllm:{name} gauge\nvllm:{name}{{engine="0",model_name="{ask.default_model}"}} {value}\n'
        for name, value in ask.load.items()
    ]
    return FakeAnswer("".join(lines).encode(), content_type="text/plain; version=0.0.4; charset=utf-8")


def correct_answer(ask: FakeRequest) -> FakeAnswer:
    """The correct answer to this request; the correct error for an unknown path, or for fields of the wrong type."""
    api = _APIS.get((ask.method, ask.path)) or next((a for p, a in _PREFIXES if ask.path.startswith(p)), None)
    if api is None:
        return error("openai", 404, f"the fake upstream has no {ask.method} {ask.path}", code="not_found")
    missing = [field for field in _REQUIRED.get(ask.path, ()) if field not in ask.fields]
    if missing:
        return error(
            dialect_of(ask.path),
            400,
            f"the body must be a JSON object with {missing[0]!r}",
            param=missing[0],
        )
    try:
        return api(ask)
    except (AttributeError, KeyError, TypeError, ValueError) as wrong:
        return error(dialect_of(ask.path), 400, f"a field has the wrong type: {wrong!r}")


def dialect_of(path: str) -> Dialect:
    """The dialect of the API at this path, which has no /v1."""
    return "anthropic" if path.startswith("/messages") else "responses" if path == "/responses" else "openai"


_VERSIONED = re.compile(r"/(?:openai/)?(?:v1|v2|deployments/[^/]+)(?=/)")
_AT_THE_ROOT = {"/health", "/metrics", "/tokenize", "/detokenize", "/rerank", "/score"}


def api_path(path: str) -> str:
    """The path without its version or Azure's deployment. A path that lacks the version it needs matches no API."""
    versioned = _VERSIONED.match(path)
    if versioned:
        return path[versioned.end() :]
    return path if path in _AT_THE_ROOT else f"(no /v1){path}"


_APIS: Mapping[tuple[str, str], Callable[[FakeRequest], FakeAnswer]] = {
    ("POST", "/chat/completions"): chat,
    ("POST", "/completions"): completions,
    ("POST", "/responses"): responses,
    ("POST", "/messages"): messages,
    ("POST", "/messages/count_tokens"): count_tokens,
    ("POST", "/decisions"): decisions,
    ("POST", "/systemone"): systemone,
    ("POST", "/embeddings"): embeddings,
    ("POST", "/moderations"): moderations,
    ("POST", "/rerank"): rerank,
    ("POST", "/score"): score,
    ("POST", "/tokenize"): tokenize,
    ("POST", "/detokenize"): detokenize,
    ("POST", "/audio/transcriptions"): transcription,
    ("POST", "/audio/translations"): transcription,
    ("POST", "/audio/speech"): speech_audio,
    ("POST", "/images/generations"): images,
    ("GET", "/models"): models,
    ("GET", "/health"): health,
    ("GET", "/metrics"): metrics,
}
_PREFIXES: Sequence[tuple[str, Callable[[FakeRequest], FakeAnswer]]] = (
    ("/models/", models),
    ("/files", echo),
    ("/batches", echo),
    ("/uploads", echo),
)
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "/chat/completions": ("messages",),
    "/completions": ("prompt",),
    "/responses": ("input",),
    "/messages": ("messages",),
    "/messages/count_tokens": ("messages",),
    "/decisions": ("input", "questions"),
    "/systemone": ("state", "questions"),
    "/embeddings": ("input",),
    "/moderations": ("input",),
    "/rerank": ("query", "documents"),
    "/score": ("text_1", "text_2"),
    "/detokenize": ("tokens",),
}
