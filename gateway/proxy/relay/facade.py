"""One exchange with a target that answers decisions, for a client of a chat API.

A call that is not a decision, a question that the model refuses, an answer that is not accepted and any error of its
server leave the call to the next target of the route. The client sees an answer of its own API alone.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NoReturn

import orjson
from msgspec import Struct

from gateway.core.decision import DecisionReply
from gateway.core.decision_schema import INELIGIBLE, Ineligible
from gateway.core.errors import BadRequest
from gateway.core.stated_decision import record_of
from gateway.proxy.dialects.chat_decisions import KnownSchema
from gateway.proxy.dialects.decision_facade import usage_of_reply
from gateway.proxy.dialects.types import UnreadableEngine
from gateway.proxy.http.client.transport import UpstreamReply, UpstreamRequest
from gateway.proxy.relay import replies
from gateway.proxy.relay.failures import AttemptFailed, Failure, of_declined, of_ineligible, of_no_decisions
from gateway.proxy.relay.response_head import start_response
from gateway.proxy.relay.state import RelayState
from gateway.proxy.request.call import Call
from gateway.proxy.request.header_rules import for_client
from gateway.proxy.routing.target_state import TargetState
from gateway.proxy.routing.variants import TargetVariant

_MOST_BYTES = 16 << 20
_CONTENT_TYPE = b"content-type"
_JSON, _EVENTS = (_CONTENT_TYPE, b"application/json"), (_CONTENT_TYPE, b"text/event-stream")
NATIVE = "native"
"""The reading of a server that has an API of decisions."""
_READING = NATIVE.encode()
_ACT = (b"x-gateway-decision-action", b"act")


def _is_arm(state: RelayState, target_state: TargetState) -> bool:
    """Whether the call is the arm's of an experiment, which has decided that it may answer."""
    assignment = state.route.assignment
    return assignment is not None and assignment.target == target_state.target


class FacadeExchange(Struct):
    """Sends one call as a decision, and gives its answer to the client."""

    target_state: TargetState
    variant: TargetVariant
    """The target's, which has `as: decision`."""
    known: KnownSchema | None = None
    """The schema of the call; None before the request."""

    def request(self, state: RelayState, call: Call) -> UpstreamRequest:
        """The request to the target. Raises AttemptFailed for a call that is not asked."""
        target_state, variant = self.target_state, self.variant
        decisions = variant.decisions
        if decisions is None:
            raise AttemptFailed(of_ineligible("it is not a target for decisions"))
        if target_state.undecided_until and target_state.undecided_until > target_state.clock():
            raise AttemptFailed(of_no_decisions())
        answers = variant.unproved or call.alias in variant.shipped or state.route.shadow_of
        if not answers and not _is_arm(state, target_state):
            raise AttemptFailed(of_ineligible("no experiment has shipped it"))
        model, applied = target_state.model, variant.applied(call) if variant.changes_calls else call
        recorded = applied.body_with({"model": orjson.dumps(model)}) if state.context.response.enabled else b""
        decider = target_state.upstream.dialect.decider(variant.reads)
        try:
            asked, self.known = decisions.decision(applied)
            certified = variant.certified if state.route.obeys else None
            if certified is not None and not state.route.shadow_of and not certified.cover(self.known.schema):
                self._uncertified(state)
            written = self.known.written
            if written is None:
                written = self.known.written = decider.written(asked)
            first, *more = decider.asking(asked, applied, model, recorded, written)
        except Ineligible as ineligible:
            raise AttemptFailed(of_ineligible(INELIGIBLE[ineligible.reason])) from None
        except (AttributeError, BadRequest, LookupError, RecursionError, TypeError, ValueError):
            raise AttemptFailed(of_ineligible("its server cannot be asked this")) from None
        if more:
            first.more = tuple([variant.with_headers(request) for request in more])
        return variant.with_headers(first)

    def asked(self, call: Call) -> Call:
        """The call as its server sees it, for the meaning of an error."""
        return replace(call, api="decisions" if self.variant.reads is None else "chat", stream=False)

    def failure(self, failure: Failure) -> Failure:
        """The meaning of an error of the server: another target answers, also where the request is at fault."""
        return replace(failure, cause=failure.cause or "error", answer=None)

    async def answer(self, state: RelayState, target_state: TargetState, reply: UpstreamReply) -> None:
        """Sends the client the decision as an answer of its API. Raises AttemptFailed where it gets none."""
        body = reply.complete_body()
        if body is None:
            waiting = time.monotonic()
            body = await replies.read(reply, _MOST_BYTES)
            state.upstream_s += time.monotonic() - waiting
        if body is None:
            raise AttemptFailed(Failure("error", f"answered with more than {_MOST_BYTES >> 20} MB"))
        known, decided = self._read(body)
        answers = decided.answers
        usage = state.attempt_usage = usage_of_reply(decided)
        for answer in answers:
            if answer.refused:
                self._leave(state, usage is not None, len(body))
        certified = self.variant.certified if state.route.obeys else None
        if certified is not None and not certified.accept(known.schema, answers):
            self._leave(state, usage is not None, len(body))
        context, now = state.context, time.monotonic()
        reads = self.variant.reads
        reading, shown = (NATIVE, _READING) if reads is None else (reads.reading, reads.reading.encode())
        context.usage = usage
        sent = state.answer = known.template.rendered(state.call, decided, usage, target_state.model)
        if context.response.enabled:
            context.notes.decision = record_of(reading, known.schema, answers)
            context.response.relayed(sent)
        state.deadlines.pause()
        headers = [h for h in for_client(reply.headers) if h[0] != _CONTENT_TYPE]
        headers += known.template.headers(shown, answers)
        if certified is not None:
            headers += (_ACT,)
        if state.call.stream:
            context.first_content = now
            start_response(state, target_state, 200, [*headers, _EVENTS], now)
        else:
            start_response(state, target_state, 200, [*headers, _JSON], now, len(sent))
        context.ended = True
        await state.client.end(sent)

    def _uncertified(self, state: RelayState) -> NoReturn:
        """Leaves a call to the control of which no answer could be acted upon."""
        state.route.leave_to_control(self.target_state.target)
        raise AttemptFailed(of_ineligible(INELIGIBLE["uncertified"]))

    def _leave(self, state: RelayState, reported: bool, answer_bytes: int) -> NoReturn:
        """Leaves the call to the control. reported: the server has reported the usage of its answer."""
        state.route.leave_to_control(self.target_state.target)
        raise AttemptFailed(of_declined(None if reported else answer_bytes))

    def _read(self, body: bytes) -> tuple[KnownSchema, DecisionReply]:
        known, upstream = self.known, self.target_state.upstream
        if known is None:
            raise AttemptFailed(of_ineligible("it was not asked for a decision"))
        try:
            decider = upstream.dialect.decider(self.variant.reads)
            return known, decider.reply(body, known.schema.questions, known.written)
        except UnreadableEngine as error:
            failure = Failure("error", str(error), target_fault=False, answer_bytes=len(body))
            raise AttemptFailed(failure) from error
        except ValueError as error:
            text = upstream.mask.text(f"returned HTTP 200 without an answer: {error}")
            raise AttemptFailed(Failure("error", text, retryable=True, answer_bytes=len(body))) from error
