"""Decisions for clients of both APIs, read from a chat engine: one chat request for each question, as one attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from gateway.config.upstreams import Upstream
from gateway.core.completion import usage_of
from gateway.core.decision import Answer, DecisionRequest, Question, merged
from gateway.core.decision_reads import (
    MOST_READ_BYTES,
    MOST_READS,
    PreparedQuestion,
    ReadSettings,
    UnreadableQuestion,
    prepared,
    read_answers,
    read_engine,
    write_reads,
)
from gateway.core.errors import BadRequest, GatewayError
from gateway.core.json_values import as_object
from gateway.core.providers import CHATS, ONE_HOT_READING
from gateway.core.randomization import draw
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.event_reader import RawReader
from gateway.proxy.dialects.plain_answer import AnswerTail
from gateway.proxy.dialects.translated_decisions import CLIENT_FORMS, UNTRANSLATABLE, asked, error_body, notes_of
from gateway.proxy.dialects.types import ClientDialect, PlainReply, Reader, UnreadableEngine
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call

_PATH = b"/chat/completions"
_ENGINE_FAULTS = ("no_logprobs", "reasoning", "renormalised")
"""Reasons that lie in the engine or its model, and not in one question or its state."""


_MOST_SETS = 256
_LONGEST_SET = 1 << 16  # bytes


@dataclass(frozen=True, slots=True)
class _QuestionSet:
    """The questions of a request, prepared. Most clients ask the same ones about one state after another."""

    questions: tuple[Question, ...]
    losses: frozenset[str]
    prepared: tuple[PreparedQuestion, ...]
    turned: tuple[PreparedQuestion, ...]
    """The same with the options in reverse; empty if they are not asked so."""


class EmulatedDecisions:
    """Reads decisions from the chats of one upstream."""

    def __init__(self, upstream: Upstream, inner: ClientDialect, settings: ReadSettings) -> None:
        """inner: for chats at this upstream."""
        self._inner = inner
        self._settings = settings
        self._reversed = replace(settings, reverse=True)
        self._engine = read_engine(upstream.kind, upstream.continues_prefill)
        self._translates = upstream.provider.dialect not in CHATS
        self._sets: dict[tuple[str, bytes], _QuestionSet] = {}

    def request(self, call: Call, model: str) -> UpstreamRequest:
        """The request of the first question, with those of the others. Raises BadRequest for questions that cannot be
        asked so."""
        try:
            return self._reads(call, model)
        except UnreadableQuestion as error:
            raise BadRequest(str(error), param="questions", code="unreadable_question") from None
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
            raise BadRequest(UNTRANSLATABLE) from None

    def _reads(self, call: Call, model: str) -> UpstreamRequest:
        known = self._question_set(call)
        decision = asked(call, known.questions)
        check_size(call, decision)
        bodies = write_reads(decision, self._settings, self._engine, known.prepared)
        if known.turned and draw("both orders", call.id) < self._settings.both_orders:
            bodies += write_reads(decision, self._reversed, self._engine, known.turned)
        first, *more = chat_requests(self._inner, call, model, bodies)
        first.recorded = call.body_with({"model": orjson.dumps(model)})
        first.more, first.losses = tuple(more), ", ".join(sorted(decision.losses | known.losses))
        return first

    def _question_set(self, call: Call) -> _QuestionSet:
        """Raises BadRequest, UnreadableQuestion."""
        raw = bytes(memoryview(call.current("questions") or b""))
        key = (call.api, raw)
        if key in self._sets:
            return self._sets[key]
        losses = set[str]()
        questions = CLIENT_FORMS[call.api].read_questions(lenient_json.loads(raw), losses)
        check_count(questions)
        turned = self._reversed if self._settings.both_orders else None
        made = _QuestionSet(
            questions,
            frozenset(losses),
            tuple([prepared(question, self._settings) for question in questions]),
            () if turned is None else tuple([prepared(question, turned) for question in questions]),
        )
        if len(raw) <= _LONGEST_SET:
            if len(self._sets) >= _MOST_SETS:
                self._sets.clear()
            self._sets[key] = made
        return made

    def reader(self, call: Call, keep_text: bool) -> Reader:
        return RawReader(AnswerTail())

    def answer(self, call: Call, body: bytes) -> PlainReply:
        """Raises UnreadableEngine where no question has an answer because of the engine; ValueError for a body that is
        not that of chats."""
        known = self._question_set(call)
        questions = known.questions
        found = lenient_json.loads(body)
        replies = found if isinstance(found, list) else [found]
        if self._translates:
            replies = [self._as_chat(call, reply) for reply in replies]
        check_replies(replies)
        reply = read_answers(replies[: len(questions)], questions, self._settings, known.prepared)
        notes = notes_of(reply.answers)
        if len(replies) > len(questions):  # asked in both orders; the answers are those of the first
            turned = read_answers(replies[len(questions) :], questions, self._reversed, known.turned)
            notes = tuple(
                [
                    note._replace(flipped=_flipped(*pair))
                    for note, *pair in zip(notes, reply.answers, turned.answers, strict=True)
                ]
            )
            reply = merged([reply, replace(turned, answers=())])
        check_engine(reply.answers, self._settings.reading)
        written = CLIENT_FORMS[call.api].write_answers(reply, questions)
        written["x_reading"] = self._settings.reading
        if self._settings.one_hot and any(answer.one_hot for answer in reply.answers):
            written["x_reading"], written["x_calibrated"] = ONE_HOT_READING, False
        usage = usage_of(written["usage"]) if reply.input_tokens else None
        return PlainReply(lenient_json.dumps(written), usage, questions=notes)

    def _as_chat(self, call: Call, reply: dict[str, Any]) -> dict[str, Any]:
        body = self._inner.answer(_chat(call, {}), lenient_json.dumps(reply)).body
        return as_object(lenient_json.loads(body))

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        return error_body(call, status, self._inner.error(_chat(call, {}), status, body))

    def broken(self, call: Call, error: GatewayError) -> bytes:
        return self._inner.broken(call, error)


def _flipped(one: Answer, other: Answer) -> bool | None:
    if one.refused or other.refused:
        return None
    likeliest = [max(range(len(a.probabilities)), key=a.probabilities.__getitem__) for a in (one, other)]
    return likeliest[0] != likeliest[1]


def _chat(call: Call, fields: Mapping[str, Any]) -> Call:
    """The call as a chat with these members."""
    body = lenient_json.dumps(fields)
    return replace(call, api="chat", path=_PATH, body=body, fields=dict(fields), members=None, changes=None)


def chat_requests(
    inner: ClientDialect, call: Call, model: str, bodies: Sequence[dict[str, Any]]
) -> list[UpstreamRequest]:
    """The requests as the chats' dialect makes them; where it changes no body, from its first alone. inner: for chats
    at the upstream. bodies: without their model."""
    chat = _chat(call, bodies[0] | {"model": model})
    first = inner.request(chat, model)
    if first.body != chat.body:
        others = [_chat(call, body | {"model": model}) for body in bodies[1:]]
        return [first, *[inner.request(other, model) for other in others]]
    dumps = orjson.dumps
    return [first, *[replace(first, body=dumps({**body, "model": model})) for body in bodies[1:]]]


def check_replies(replies: Sequence[Any]) -> None:
    """Raises ValueError where one is not a chat's."""
    for reply in replies:
        if type(reply) is not dict or "choices" not in reply:
            raise ValueError("a reply to a read is not a chat's")


def check_engine(answers: Sequence[Answer], reading: str) -> None:
    """Raises UnreadableEngine where no question has an answer because of the engine."""
    reasons = {answer.unread for answer in answers}
    if None not in reasons and not reasons.isdisjoint(_ENGINE_FAULTS):
        raise UnreadableEngine(_why(sorted(str(reason) for reason in reasons), reading))


def check_count(questions: Sequence[Question]) -> None:
    if len(questions) > MOST_READS:
        raise BadRequest(
            f"{len(questions)} questions; this model reads each by a request of its own, and takes at most "
            f"{MOST_READS} in one",
            param="questions",
            code="too_many_questions",
        )


def check_size(call: Call, decision: DecisionRequest) -> None:
    count = len(decision.questions)
    if decision.images:
        raise BadRequest("this model's decisions are read from chats, of texts only, without images", param="input")
    if len(call.body) * count > MOST_READ_BYTES:
        raise BadRequest(
            f"the input is sent once for each question, and {count} times {len(call.body)} bytes are more than "
            f"{MOST_READ_BYTES >> 20} MB; ask fewer questions at once, or shorten it",
            param="state" if call.api == "systemone" else "input",
            code="input_too_large",
        )


_EXPLAINED = {
    "no_logprobs": "its server shows no log-probabilities",
    "reasoning": "the model reasons before it answers",
    "renormalised": "a grammar hides the log-probabilities of all tokens but the options",
}


def _why(reasons: list[str], reading: str) -> str:
    named = "; ".join(_EXPLAINED[reason] for reason in reasons if reason in _EXPLAINED)
    return f"cannot be read by {reading}: {named}"
