"""Decisions for calls of the chat APIs, read from a chat engine: one chat request for each question, as one attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.config.upstreams import Upstream
from gateway.core.decision import DecisionReply, DecisionRequest, Question
from gateway.core.decision_reads import PreparedQuestion, ReadSettings, prepared, read_answers, read_engine, write_reads
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.emulated_decisions import (
    chat_requests,
    check_count,
    check_engine,
    check_replies,
    check_size,
)
from gateway.proxy.dialects.types import ClientDialect
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call


class ReadDecisions:
    """Reads decisions from the chats of one upstream, whose kind speaks the chat API."""

    def __init__(self, upstream: Upstream, inner: ClientDialect, settings: ReadSettings) -> None:
        """inner: for chats at this upstream."""
        self._inner = inner
        self._settings = settings
        self._engine = read_engine(upstream.kind, upstream.continues_prefill)

    def written(self, decision: DecisionRequest) -> tuple[PreparedQuestion, ...]:
        """The questions, prepared. Raises BadRequest, UnreadableQuestion."""
        check_count(decision.questions)
        return tuple([prepared(question, self._settings) for question in decision.questions])

    def asking(
        self, decision: DecisionRequest, call: Call, model: str, recorded: bytes = b"", written: object = None
    ) -> tuple[UpstreamRequest, ...]:
        """The requests, one for each question. written: what `written` has given."""
        check_size(call, decision)
        bodies = write_reads(decision, self._settings, self._engine, self._prepared(decision.questions, written))
        requests = chat_requests(self._inner, replace(call, stream=False), model, bodies)
        requests[0].recorded = recorded
        return tuple(requests)

    def reply(self, body: bytes, questions: Sequence[Question], written: object = None) -> DecisionReply:
        """Raises UnreadableEngine where no question has an answer because of the engine; ValueError for a body that is
        not that of chats."""
        answered = lenient_json.loads(body)
        replies = answered if isinstance(answered, list) else [answered]
        check_replies(replies)
        reply = read_answers(replies, questions, self._settings, self._prepared(questions, written))
        check_engine(reply.answers, self._settings.reading)
        return reply

    def _prepared(self, questions: Sequence[Question], written: object) -> Sequence[PreparedQuestion]:
        if isinstance(written, tuple):
            return written
        return [prepared(question, self._settings) for question in questions]
