"""The replacement of a blocked answer: the API's own form of a refusal, or an error. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from gateway.config.guards import GuardConfig
from gateway.core.errors import BlockedByGuard, ErrorShape
from gateway.core.guards import CONTENT_FILTER
from gateway.core.json_values import parse_object
from gateway.proxy.guards.coverage import ENDPOINTS
from gateway.proxy.request.call import DECISION_APIS, Api, Call
from gateway.proxy.types import Headers

_JSON: Headers = [(b"content-type", b"application/json")]
_EVENTS: Headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


def blocked_error(text: str) -> BlockedByGuard:
    return BlockedByGuard(text, retry=False)


@dataclass(slots=True)
class StreamSoFar:
    """State of the stream that a refusal within it repeats."""

    id: str = ""
    created: int = 0
    model: str = ""
    sequence: int = -1
    """The number of the last event of the Responses API; -1: none came."""
    block: int | None = None
    """The content block of the Messages API that is open; None if none is."""
    blocks: int = 0
    """The number of content blocks that have begun."""
    response: dict[str, Any] | None = None
    """The response object of the Responses API, as its first event had it."""

    def note(self, api: str, part: dict[str, Any]) -> None:
        """Notes an event that the client gets."""
        if api == "messages":
            self._note_message(part)
        elif api == "responses":
            if isinstance(part.get("sequence_number"), int):
                self.sequence = part["sequence_number"]
            if self.response is None and isinstance(part.get("response"), dict):
                self.response = part["response"]
        elif not self.id:
            self.id, self.model = str(part.get("id") or ""), str(part.get("model") or "")
            self.created = part["created"] if isinstance(part.get("created"), int) else 0

    def _note_message(self, part: dict[str, Any]) -> None:
        kind, index = part.get("type"), part.get("index")
        if kind == "message_start" and isinstance(part.get("message"), dict):
            self.id, self.model = str(part["message"].get("id") or ""), str(part["message"].get("model") or "")
        elif kind == "content_block_start" and isinstance(index, int):
            self.block, self.blocks = index, max(self.blocks, index + 1)
        elif kind == "content_block_stop":
            self.block = None


class RefusalResponse(NamedTuple):
    """A complete response in place of the one that a guard has refused."""

    status: int
    headers: Headers
    body: bytes


_SHAPES: Mapping[Api, ErrorShape] = {
    "messages": "anthropic", "count_tokens": "anthropic", "systemone": "systemone",
}  # fmt: skip
"""The shape of errors where it is not OpenAI's."""


def refusal_of(call: Call, config: GuardConfig, text: str, answer: bytes) -> RefusalResponse:
    """The response that refuses a call. answer: the plain one that it replaces; b"" if there is none."""
    model = call.named or call.alias
    if _responds_with_error(call.api, config):
        error = blocked_error(text)
        body = error.body_for(_SHAPES.get(call.api, "openai"))
        return RefusalResponse(error.status, [*_JSON, *error.headers()], body)
    if call.stream and not answer:
        return RefusalResponse(200, _EVENTS, stream_refusal(call.api, text, call.id, model, None))
    replaced = parse_object(answer) if answer else None
    return RefusalResponse(200, _JSON, plain_refusal(call.api, text, call.id, model, replaced))


def _responds_with_error(api: Api, config: GuardConfig) -> bool:
    if ENDPOINTS[api] != "judged" or api in DECISION_APIS:
        return True  # an API without refusals
    if config.respond is not None:
        return config.respond == "error"
    return config.on == "request" and api != "messages"


def plain_refusal(api: str, text: str, call_id: str, model: str, answer: dict[str, Any] | None = None) -> bytes:
    """A complete answer that contains only the refusal. answer: the one that it replaces, for its model and its usage;
    None if there is none. Its id is not repeated: by it the upstream would return the answer."""
    given = answer or {}
    named = {"id": f"blocked-{call_id}", "model": given.get("model") or model}
    if api == "messages":
        content, usage = [{"type": "text", "text": text}], given.get("usage") or {"input_tokens": 0, "output_tokens": 0}
        stopped = {"stop_reason": "refusal", "stop_sequence": None, "usage": usage}
        return orjson.dumps({**named, "type": "message", "role": "assistant", "content": content, **stopped})
    if api == "responses":
        return orjson.dumps(_response(text, {**given, **named}))
    usage = {"usage": given["usage"]} if given.get("usage") else {}
    kind = "chat.completion" if api == "chat" else "text_completion"
    head = {**named, "object": kind, "created": given.get("created") or 0}
    return orjson.dumps({**head, "choices": [_choice(api, text)], **usage})


def _choice(api: str, text: str) -> dict[str, Any]:
    if api == "chat":
        message = {"role": "assistant", "content": None, "refusal": text}
        return {"index": 0, "message": message, "finish_reason": CONTENT_FILTER, "logprobs": None}
    return {"index": 0, "text": text, "finish_reason": CONTENT_FILTER, "logprobs": None}


def _response(text: str, given: dict[str, Any]) -> dict[str, Any]:
    content = [{"type": "refusal", "refusal": text}]
    item = {"type": "message", "id": "msg_blocked", "role": "assistant", "status": "incomplete", "content": content}
    ended = {"status": "incomplete", "incomplete_details": {"reason": CONTENT_FILTER}, "error": None, "output": [item]}
    kept = {name: given[name] for name in _NO_TEXT if name in given}
    return {"object": "response", "created_at": 0, **kept, **ended}


_NO_TEXT = ("id", "model", "created_at", "usage", "metadata", "parallel_tool_calls", "tool_choice", "tools")
"""Members of a response object that a refusal repeats."""


def stream_refusal(api: str, text: str, call_id: str, model: str, sent: StreamSoFar | None) -> bytes:
    """The events that end a stream with a refusal. sent: the part that the client has; None: nothing, and they are a
    complete stream."""
    so_far = sent or StreamSoFar()
    if not so_far.id:
        so_far.id, so_far.model = f"blocked-{call_id}", model
    if api == "messages":
        return _messages_events(text, so_far, whole=sent is None)
    if api == "responses":
        return _responses_events(text, so_far)
    kind = "chat.completion.chunk" if api == "chat" else "text_completion"
    head = {"id": so_far.id, "object": kind, "created": so_far.created, "model": so_far.model}
    said: dict[str, Any] = {"text": text}
    if api == "chat":
        said = {"delta": {**({"role": "assistant"} if sent is None else {}), "refusal": text}}
    last: dict[str, Any] = {"delta": {}} if api == "chat" else {"text": ""}
    chunks = [{"index": 0, **said, "finish_reason": None}, {"index": 0, **last, "finish_reason": CONTENT_FILTER}]
    return b"".join(_event({**head, "choices": [chunk]}) for chunk in chunks) + b"data: [DONE]\n\n"


def _messages_events(text: str, so_far: StreamSoFar, *, whole: bool) -> bytes:
    events: list[dict[str, Any]] = []
    if whole:
        usage = {"input_tokens": 0, "output_tokens": 0}
        head = {"id": so_far.id, "type": "message", "role": "assistant", "model": so_far.model, "content": []}
        start = {**head, "stop_reason": None, "stop_sequence": None, "usage": usage}
        events.append({"type": "message_start", "message": start})
    if so_far.block is not None:
        events.append({"type": "content_block_stop", "index": so_far.block})
    at = so_far.blocks
    block, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": text}
    stopped = {"stop_reason": "refusal", "stop_sequence": None}
    events += [
        {"type": "content_block_start", "index": at, "content_block": block},
        {"type": "content_block_delta", "index": at, "delta": delta},
        {"type": "content_block_stop", "index": at},
        {"type": "message_delta", "delta": stopped, "usage": {"output_tokens": 0}},
        {"type": "message_stop"},
    ]
    return b"".join(_event(event, named=True) for event in events)


def _responses_events(text: str, so_far: StreamSoFar) -> bytes:
    given = so_far.response or {"id": so_far.id, "model": so_far.model}
    place = {"item_id": "msg_blocked", "output_index": 0, "content_index": 0}
    begun = {**_response(text, given), "status": "in_progress", "output": []}
    events: list[dict[str, Any]] = []
    if so_far.response is None:
        events.append({"type": "response.created", "response": begun})
    events += [
        {"type": "response.refusal.delta", **place, "delta": text},
        {"type": "response.refusal.done", **place, "refusal": text},
        {"type": "response.incomplete", "response": _response(text, given)},
    ]
    numbered = ({**event, "sequence_number": at} for at, event in enumerate(events, so_far.sequence + 1))
    return b"".join(_event(event, named=True) for event in numbered)


def _event(part: dict[str, Any], *, named: bool = False) -> bytes:
    name = b"event: %b\n" % str(part["type"]).encode() if named else b""
    return name + b"data: " + orjson.dumps(part) + b"\n\n"
