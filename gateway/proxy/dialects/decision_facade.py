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

MOST_SHOWN = 8
"""Options of a question that the header shows: the likeliest."""
MOST_HEADER_BYTES = 1024


def usage_of_reply(reply: DecisionReply) -> Usage | None:
    """The tokens of a reply; None if its server reported none."""
    if not reply.input_tokens and not reply.output_tokens:
        return None
    return Usage(reply.input_tokens, reply.output_tokens, reply.cached_tokens or None, usd=reply.usd)


class AnswerTemplate:
    """The answers of one schema, of which only the chosen options and their probabilities differ."""

    def __init__(self, schema: DecisionSchema) -> None:
        self.schema = schema
        begins = (b"{", *(b"," for _ in schema.members[1:]))
        self._pieces = [
            [begin + orjson.dumps({member.name: value})[1:-1] for value in member.values]
            for begin, member in zip(begins, schema.members, strict=True)
        ]
        self._quoted = [[orjson.dumps(piece.decode())[1:-1] for piece in pieces] for pieces in self._pieces]
        self._shown = _shown_template(schema)

    def text(self, answers: Sequence[Answer], *, quoted: bool = False) -> bytes:
        """The object that the schema asks for; quoted: as the content of a JSON text. No answer may be a refusal."""
        text = b""
        for pieces, answer in zip(self._quoted if quoted else self._pieces, answers, strict=True):
            probabilities = answer.probabilities
            text += pieces[probabilities.index(max(probabilities))]
        return text + b"}"

    def headers(self, reading: bytes, answers: Sequence[Answer]) -> Headers:
        """`x-gateway-decision`, and the probabilities as far as they fit: the first questions, with the likeliest
        options."""
        if self._shown is None:
            return decision_headers(reading.decode(), self.schema, answers)
        template, members = self._shown
        if not members:
            return [(b"x-gateway-decision", reading)]
        shown: tuple[float, ...] = ()
        for answer in answers[:members]:
            shown += answer.probabilities
        return [(b"x-gateway-decision", reading), (b"x-gateway-decision-probabilities", template % shown)]

    def rendered(self, call: Call, reply: DecisionReply, usage: Usage | None, model: str) -> bytes:
        """The complete response to a client, as an event stream where it asked for one. usage: of the reply. model:
        where the server names none."""
        name = reply.model or model
        if call.api == "chat" and not call.stream:
            return self._chat(call, reply, usage, name)
        text = self.text(reply.answers).decode()
        return (_RENDERED_STREAMS if call.stream else _RENDERED)[call.api](call, text, usage, name)

    def _chat(self, call: Call, reply: DecisionReply, usage: Usage | None, model: str) -> bytes:
        """The same bytes as of `_chat_body`, without an object for each part."""
        used = b"null"
        if usage is not None:
            sent, out, cached = usage.input_tokens, usage.output_tokens, usage.cached_input_tokens
            used = b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d' % (sent, out, sent + out)
            used += b"}" if cached is None else b',"prompt_tokens_details":{"cached_tokens":%d}}' % cached
        id, text = call.id.replace("-", "").encode(), self.text(reply.answers, quoted=True)
        return _CHAT % (id, call.received, orjson.dumps(model), text, used)


_CHAT = (
    b'{"id":"chatcmpl-%b","object":"chat.completion","created":%d,"model":%b,"choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"%b","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":%b}'
)


def _shown_template(schema: DecisionSchema) -> tuple[bytes, int] | None:
    """The header of the probabilities with a place for each, and the number of its questions; None if a question has
    more options than are shown, so that the likeliest are known with the answer alone."""
    if any(len(member.texts) > MOST_SHOWN for member in schema.members):
        return None
    text, places, count = b"", 0, 0
    for member in schema.members:
        shares = b",".join([_in_ascii(option).replace(b"%", b"%%") + b":%.4f" for option in member.texts])
        more = (b"," if count else b"") + _in_ascii(member.name).replace(b"%", b"%%") + b":{" + shares + b"}"
        if len((text + more) % ((0.0,) * (places + len(member.texts)))) + 2 > MOST_HEADER_BYTES:
            break
        text, places, count = text + more, places + len(member.texts), count + 1
    return b"{" + text + b"}", count


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


def _in_ascii(shown: Any) -> bytes:
    """JSON as a header takes it."""
    text = orjson.dumps(shown)
    return text if text.isascii() else json.dumps(shown, separators=(",", ":")).encode()
