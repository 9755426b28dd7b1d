"""Decisions for clients of one API on an upstream of another: the request is translated, and its answers back.

A request with more questions than the upstream takes becomes several, over the same input; their answers are read
together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from gateway.config.upstreams import Upstream
from gateway.core import openai_decisions, systemone_decisions
from gateway.core.completion import usage_of
from gateway.core.decision import Answer, DecisionLimits, DecisionReply, DecisionRequest, Question, merged, split
from gateway.core.errors import BadRequest, GatewayError
from gateway.core.json_values import as_list, as_object
from gateway.core.providers import DecisionFormat
from gateway.proxy.dialects import lenient_json, sglang_decisions
from gateway.proxy.dialects.event_reader import RawReader, error_in, error_message
from gateway.proxy.dialects.plain_answer import AnswerTail
from gateway.proxy.dialects.types import Dialect, PlainReply, QuestionNote, Reader
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Api, Call

_PATHS: Mapping[DecisionFormat, bytes] = {"openai": b"/decisions", "systemone": b"/systemone", "sglang": b"/decisions"}
_LIMITS: Mapping[str, DecisionLimits] = {
    "vllm": DecisionLimits(questions=64, options=26, levels=10, images="images", instructions=True),
    "sglang": DecisionLimits(options=255, levels=10, images="images"),
    "ollama": DecisionLimits(images="images"),
    "fireworks": DecisionLimits(options=208),
    "perplexity": DecisionLimits(questions=128, options=255, levels=10),
    "openrouter": DecisionLimits(questions=200),
}
"""Limits by kind, as their documentation has them; other servers decide themselves."""

UNTRANSLATABLE = (
    "the request cannot be translated for its upstream: it is nested too deeply, or a value in it is of another type "
    "than its API takes"
)


class ClientForm(NamedTuple):
    """The functions of a client's format."""

    read_request: Callable[[Mapping[str, Any], tuple[Question, ...] | None], DecisionRequest]
    read_questions: Callable[[Any, set[str]], tuple[Question, ...]]
    write_answers: Callable[[DecisionReply, Sequence[Question]], dict[str, Any]]


class _ServerForm(NamedTuple):
    """The functions of a server's format."""

    write_request: Callable[..., tuple[dict[str, Any], set[str]]]
    read_answers: Callable[[Mapping[str, Any], Sequence[Question]], DecisionReply]


CLIENT_FORMS: Mapping[Api, ClientForm] = {
    "decisions": ClientForm(
        openai_decisions.read_request, openai_decisions.read_questions, openai_decisions.write_answers
    ),
    "systemone": ClientForm(
        systemone_decisions.read_request, systemone_decisions.read_questions, systemone_decisions.write_answers
    ),
}
_SERVERS: Mapping[DecisionFormat, _ServerForm] = {
    "openai": _ServerForm(openai_decisions.write_request, openai_decisions.read_answers),
    "systemone": _ServerForm(systemone_decisions.write_request, systemone_decisions.read_answers),
    "sglang": _ServerForm(sglang_decisions.write_request, sglang_decisions.read_answers),
}


class TranslatedDecisions:
    """Translates for clients of other formats, around the dialect of one upstream."""

    def __init__(self, upstream: Upstream, inner: Dialect) -> None:
        """upstream: one with decisions."""
        format: DecisionFormat = upstream.decision_format or "openai"
        self._inner = inner
        self._passes = frozenset(name.lower().encode() for name in upstream.pass_headers)
        self._server, self._path = _SERVERS[format], _PATHS[format]
        self._limits = sglang_decisions.LIMITS if format == "sglang" else _LIMITS.get(upstream.kind, DecisionLimits())

    def request(self, call: Call, model: str) -> UpstreamRequest:
        """The request of the first questions, with those of the others. Raises BadRequest for what cannot be
        translated."""
        try:
            return self._translated(asked(call), call, model)
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
            raise BadRequest(UNTRANSLATABLE) from None

    def written(self, decision: DecisionRequest) -> orjson.Fragment | None:
        limit = self._limits.questions
        if limit is not None and len(decision.questions) > limit:
            return None
        fields, _ = self._server.write_request(decision, "", self._limits)
        return orjson.Fragment(lenient_json.dumps(fields["questions"]))

    def asking(
        self, decision: DecisionRequest, call: Call, model: str, recorded: bytes = b"", written: object = None
    ) -> tuple[UpstreamRequest, ...]:
        write, path, headers = self._server.write_request, self._path, call.headers
        if call.passed and self._passes:
            headers = [*headers, *(header for header in call.passed if header[0] in self._passes)]
        if written is not None:
            body = orjson.dumps(write(decision, model, self._limits, written)[0])
            return (self._inner.raw(UpstreamRequest(b"POST", "", path, headers, body, recorded=recorded)),)
        parts = split(decision.questions, self._limits.questions)
        bodies = [
            lenient_json.dumps(write(replace(decision, questions=tuple(part)), model, self._limits)[0])
            for part in parts
        ]
        first, *others = [self._inner.raw(UpstreamRequest(b"POST", "", path, headers, body)) for body in bodies]
        return replace(first, recorded=recorded), *others

    def _translated(self, decision: DecisionRequest, call: Call, model: str) -> UpstreamRequest:
        losses, parts = set[str](), []
        for questions in split(decision.questions, self._limits.questions):
            part = replace(decision, questions=tuple(questions))
            fields, lost = self._server.write_request(part, model, self._limits)
            losses |= lost
            parts.append(self._inner.request(self._inside(call, fields), model))
        recorded = call.body_with({"model": orjson.dumps(model)})
        return replace(parts[0], recorded=recorded, more=tuple(parts[1:]), losses=", ".join(sorted(losses)))

    def _inside(self, call: Call, fields: dict[str, Any]) -> Call:
        """The call as the inner dialect gets it. Its path has no query: that one was for another API."""
        return replace(call.with_body(lenient_json.dumps(fields), fields), path=self._path)

    def reader(self, call: Call, keep_text: bool) -> Reader:
        return RawReader(AnswerTail())

    def answer(self, call: Call, body: bytes) -> PlainReply:
        """Raises ValueError if the body, or one of several, has no answers to the questions."""
        questions = asked(call).questions
        reply = self.reply(body, questions)
        written = CLIENT_FORMS[call.api].write_answers(reply, questions)
        usage = usage_of(written["usage"]) if reply.input_tokens else None
        if usage is not None and reply.usd is not None:
            usage = replace(usage, usd=reply.usd)
        return PlainReply(lenient_json.dumps(written), usage, questions=notes_of(reply.answers))

    def reply(self, body: bytes, questions: Sequence[Question], written: object = None) -> DecisionReply:
        """The answers to these questions. Raises ValueError if the body, or one of several, has none."""
        answered, read, limit = lenient_json.loads(body), self._server.read_answers, self._limits.questions
        if limit is None:
            return read(as_object(answered), questions)
        parts = split(questions, limit)
        if len(parts) == 1:
            return read(as_object(answered), questions)
        bodies = as_list(answered)
        return merged([read(as_object(one), part) for one, part in zip(bodies, parts, strict=True)])

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        return error_body(call, status, body)

    def broken(self, call: Call, error: GatewayError) -> bytes:
        return self._inner.broken(call, error)


def notes_of(answers: Sequence[Answer]) -> tuple[QuestionNote, ...]:
    return tuple(
        [
            QuestionNote(answer.kind, _missing(answer) if answer.refused else "answered", answer.label_mass)
            for answer in answers
        ]
    )


def _missing(answer: Answer) -> str:
    if answer.unread is None:
        return "refused"
    return "truncated" if answer.unread == "truncated" else "unreadable"


def error_body(call: Call, status: int, body: bytes) -> bytes:
    """An upstream's error body, in the format of the client."""
    error = GatewayError(_text(error_in(status, body)))
    error.status = status
    error.type = "invalid_request_error" if status < 500 else "api_error"
    return error.body_for("systemone" if call.api == "systemone" else "openai")


def asked(call: Call, known: tuple[Question, ...] | None = None) -> DecisionRequest:
    """The request of the client. known: its questions, if they have been read. Raises BadRequest, with the member as
    param."""
    body = call.body if call.changes is None else call.body_with({})
    return CLIENT_FORMS[call.api].read_request(as_object(lenient_json.loads(body)), known)


def refused_questions(answer: bytes) -> bytes | None:
    """The error for an answer of System One's format that leaves out questions, naming them; None if it has all."""
    refused = [key for key in as_list(as_object(lenient_json.loads(answer)).get("x_refused")) if isinstance(key, str)]
    if not refused:
        return None
    text = "the model refused to answer this question"
    details = [{"loc": ["body", "questions", key], "msg": text, "type": "refused"} for key in refused]
    return lenient_json.dumps({"detail": details})


def _text(error: Any) -> str:
    """The text of an error, FastAPI's included: a list of what is wrong, or a text."""
    detail = error.get("detail") if isinstance(error, dict) else None
    if isinstance(detail, list):
        return "; ".join(str(as_object(entry).get("msg") or entry) for entry in detail)
    return detail if isinstance(detail, str) else error_message(error)
