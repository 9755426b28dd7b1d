"""One exchange with a target that answers decisions, for a client of a chat API.

A call that is not a decision, a question that the model refuses, an answer that is not accepted and any error of its
server leave the call to the next target of the route. The client sees an answer of its own API alone.
"""

from __future__ import annotations

import time
from dataclasses import replace

import orjson

from gateway.core.decision import DecisionReply
from gateway.core.decision_schema import INELIGIBLE, DecisionSchema, Ineligible
from gateway.core.errors import BadRequest
from gateway.core.stated_decision import record_of
from gateway.proxy.dialects.chat_decisions import ChatDecisions
from gateway.proxy.dialects.decision_facade import accepts_all, decision_headers, rendered, usage_of_reply
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
NATIVE = "native"
"""The reading of a server that has an API of decisions."""


def _is_arm(state: RelayState, target_state: TargetState) -> bool:
    """Whether the call is the arm's of an experiment, which has decided that it may answer."""
    assignment = state.route.assignment
    return assignment is not None and assignment.target == target_state.target


class FacadeExchange:
    """Sends one call as a decision, and gives its answer to the client."""

    def __init__(self, target_state: TargetState, variant: TargetVariant, decisions: ChatDecisions) -> None:
        """variant, decisions: of the target, which has `as: decision`."""
        self._target_state, self._variant, self._decisions = target_state, variant, decisions
        self._schema: DecisionSchema | None = None

    def request(self, state: RelayState, call: Call) -> UpstreamRequest:
        """The request to the target. Raises AttemptFailed for a call that is not asked."""
        target_state, variant = self._target_state, self._variant
        if target_state.undecided_until and target_state.undecided_until > target_state.clock():
            raise AttemptFailed(of_no_decisions())
        if not (state.route.shadow_of or _is_arm(state, target_state) or variant.may_answer(call.alias)):
            raise AttemptFailed(of_ineligible("no experiment has shipped it"))
        model, applied = target_state.model, variant.applied(call)
        recorded = applied.body_with({"model": orjson.dumps(model)}) if state.context.response.enabled else b""
        try:
            asked, self._schema = self._decisions.decision(applied)
            first, *more = target_state.upstream.dialect.decider().asking(asked, applied, model, recorded)
        except Ineligible as ineligible:
            raise AttemptFailed(of_ineligible(INELIGIBLE[ineligible.reason])) from None
        except (AttributeError, BadRequest, LookupError, RecursionError, TypeError, ValueError):
            raise AttemptFailed(of_ineligible("its server cannot be asked this")) from None
        if more:
            first.more = tuple(more)
        return variant.with_headers(first)

    def asked(self, call: Call) -> Call:
        """The call as its server sees it, for the meaning of an error."""
        return replace(call, api="decisions", stream=False)

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
        schema, decided = self._read(body)
        answers = decided.answers
        usage = state.attempt_usage = usage_of_reply(decided)
        if any([answer.refused for answer in answers]) or not accepts_all(schema, answers):
            state.route.leave_to_control(target_state.target)
            raise AttemptFailed(of_declined(None if usage is not None else len(body)))
        context, now = state.context, time.monotonic()
        context.usage = usage
        answer = rendered(state.call, schema, decided, target_state.model)
        if state.call.stream:
            context.first_content = now
        state.answer = answer
        if context.response.enabled:
            context.notes.decision = record_of(NATIVE, schema, answers)
            context.response.relayed(answer)
        state.deadlines.pause()
        content_type = b"text/event-stream" if state.call.stream else b"application/json"
        headers = [h for h in for_client(reply.headers) if h[0] != _CONTENT_TYPE]
        headers += [(_CONTENT_TYPE, content_type), *decision_headers(NATIVE, schema, answers)]
        start_response(state, target_state, 200, headers, now, None if state.call.stream else len(answer))
        context.ended = True
        await state.client.end(answer)

    def _read(self, body: bytes) -> tuple[DecisionSchema, DecisionReply]:
        schema, upstream = self._schema, self._target_state.upstream
        if schema is None:
            raise AttemptFailed(of_ineligible("it was not asked for a decision"))
        try:
            return schema, upstream.dialect.decider().reply(body, schema.questions)
        except ValueError as error:
            text = upstream.mask.text(f"returned HTTP 200 without an answer: {error}")
            raise AttemptFailed(Failure("error", text, retryable=True, answer_bytes=len(body))) from error
