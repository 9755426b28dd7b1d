"""Answers of a decision model in the form that clients of the chat, Responses and Messages APIs asked for. Pure.

The text of an answer is the JSON object of the caller's schema, and nothing else. Probabilities are in headers and in
the record, since the body is what the schema says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from gateway.core.decision import Answer, DecisionReply
from gateway.core.decision_schema import DecisionSchema
from gateway.core.exchange import Usage
from gateway.proxy.dialects.messages import ToMessagesReader, to_message
from gateway.proxy.dialects.responses import response_head
from gateway.proxy.dialects.responses_reader import ToResponsesReader, to_response
from gateway.proxy.request.call import Call
from gateway.proxy.types import Headers

Accepts = Callable[[DecisionSchema, Sequence[Answer]], bool]
"""Whether the answers of a decision model are certain enough to go out; otherwise the next target answers the call."""

MOST_SHOWN = 8
"""Options of a question that the header shows: the likeliest."""
MOST_HEADER_BYTES = 1024


def accepts_all(schema: DecisionSchema, answers: Sequence[Answer]) -> bool:
    """Accepts every answer that is not a refusal."""
    return True


def usage_of_reply(reply: DecisionReply) -> Usage | None:
    """The tokens of a reply; None if its server reported none."""
    if not reply.input_tokens and not reply.output_tokens:
        return None
    return Usage(reply.input_tokens, reply.output_tokens, reply.cached_tokens or None)


def rendered(call: Call, schema: DecisionSchema, reply: DecisionReply, model: str) -> bytes:
    """The complete response to a client, as an event stream where it asked for one. model: where the server names
    none."""
    text, name = schema.render(reply.answers).decode(), reply.model or model
    usage = usage_of_reply(reply)
    if call.stream:
        return _RENDERED_STREAMS[call.api](call, text, usage, name)
    return _RENDERED[call.api](call, text, usage, name)


def _chat(call: Call, text: str, usage: Usage | None, model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**_head(call, "chat.completion", model), "choices": [choice], "usage": _chat_usage(usage)}


def _head(call: Call, kind: str, model: str) -> dict[str, Any]:
    prefix = "msg_" if call.api == "messages" else "chatcmpl-"
    return {"id": prefix + call.id.replace("-", ""), "object": kind, "created": int(call.received), "model": model}


def _chat_usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    cached = usage.cached_input_tokens
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        **({} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}),
    }


def _chat_body(call: Call, text: str, usage: Usage | None, model: str) -> bytes:
    return orjson.dumps(_chat(call, text, usage, model))


def _message_body(call: Call, text: str, usage: Usage | None, model: str) -> bytes:
    return orjson.dumps(to_message(_chat(call, text, usage, model)))


def _response_body(call: Call, text: str, usage: Usage | None, model: str) -> bytes:
    return orjson.dumps(to_response(_chat(call, text, usage, model), response_head(call), usage))


def _chunks(call: Call, text: str, usage: Usage | None, model: str, *, with_usage: bool) -> bytes:
    """The answer as chunks of a chat: the text, its end, and the usage."""
    head = _head(call, "chat.completion.chunk", model)
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": text}, None), ({}, "stop")]
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        for delta, finish in deltas
    ]
    if with_usage:
        chunks.append({**head, "choices": [], "usage": _chat_usage(usage)})
    return b"".join([b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks]) + b"data: [DONE]\n\n"


def _chat_stream(call: Call, text: str, usage: Usage | None, model: str) -> bytes:
    return _chunks(call, text, usage, model, with_usage=call.asked_usage)


def _message_stream(call: Call, text: str, usage: Usage | None, model: str) -> bytes:
    reader = ToMessagesReader()
    reader.usage = usage  # known before the first event, which says the input
    return reader.feed(_chunks(call, text, usage, model, with_usage=True)) + reader.end()


def _response_stream(call: Call, text: str, usage: Usage | None, model: str) -> bytes:
    reader = ToResponsesReader(response_head(call))
    return reader.feed(_chunks(call, text, usage, model, with_usage=True)) + reader.end()


_Render = Callable[[Call, str, Usage | None, str], bytes]
_RENDERED: dict[str, _Render] = {"chat": _chat_body, "messages": _message_body, "responses": _response_body}
_RENDERED_STREAMS: dict[str, _Render] = {
    "chat": _chat_stream,
    "messages": _message_stream,
    "responses": _response_stream,
}


def decision_headers(reading: str, schema: DecisionSchema, answers: Sequence[Answer]) -> Headers:
    """`x-gateway-decision`, and the probabilities as far as they fit: the first questions, each with its likeliest
    options."""
    headers: Headers = [(b"x-gateway-decision", reading.encode())]
    shown = {
        member.name: _likeliest(answer.probabilities, member.texts)
        for member, answer in zip(schema.members, answers, strict=True)
    }
    text = _in_ascii(shown)
    while len(text) > MOST_HEADER_BYTES:
        del shown[next(reversed(shown))]
        text = _in_ascii(shown)
    return [*headers, (b"x-gateway-decision-probabilities", text)] if shown else headers


def _likeliest(probabilities: Sequence[float], texts: Sequence[str]) -> dict[str, float]:
    options = [*zip(probabilities, texts, strict=True)]
    if len(texts) > MOST_SHOWN:
        options = sorted(options, key=lambda option: -option[0])[:MOST_SHOWN]
    return {text: int(p * 10_000 + 0.5) / 10_000 for p, text in options}


def _in_ascii(shown: dict[str, dict[str, float]]) -> bytes:
    """JSON as a header takes it."""
    text = orjson.dumps(shown)
    return text if text.isascii() else json.dumps(shown, separators=(",", ":")).encode()
