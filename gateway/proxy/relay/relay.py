"""The only place that sends calls upstream: attempts, retries, fallbacks and continuations, within their deadlines.

Until the response's head has been sent to the client, any failure may move the call to the next target; afterwards a
stream can only be continued on another target, or ended with an error event. replies.py handles good replies;
failures.py classifies failures. Knows no provider and no socket.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.config.metric_labels import MetricLabels
from gateway.core.backoff import Backoff
from gateway.core.errors import (
    BadRequest,
    GatewayError,
    Overloaded,
    QueueFull,
    TransportError,
    UpstreamFailed,
    UpstreamTimedOut,
)
from gateway.core.exchange import Attempt
from gateway.core.traffic_class import BACKGROUND, RANKS
from gateway.observability.fast_counters import FastCounter
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.dialects.vendor_records import vendor_error
from gateway.proxy.http.auth.authorized import AuthorizedTransport, refuses_time
from gateway.proxy.http.client.transport import UpstreamReply
from gateway.proxy.limits.endings import ANSWERED, BLOCKED, CLIENT_LEFT, DECLINED, STOPPED, UNREADABLE
from gateway.proxy.relay import replies
from gateway.proxy.relay.continuation import prefilled
from gateway.proxy.relay.deadlines import Deadlines, Ticker
from gateway.proxy.relay.failures import (
    UNDECIDED_S,
    AttemptFailed,
    AttemptNote,
    ErrorReply,
    FailedAttempt,
    Failure,
    client_deadline,
    lacks_decisions,
    lacks_endpoint,
    of_deadline,
    of_full_queue,
    of_missing_endpoint,
    of_no_decisions,
    of_redirect,
    of_refused_time,
    of_status,
    of_transport,
    of_untranslatable,
    of_vendor_limit,
    verdict,
)
from gateway.proxy.relay.request_parts import joined
from gateway.proxy.relay.response_head import start_response
from gateway.proxy.relay.state import CallContext, RelayState, SentText
from gateway.proxy.relay.websocket_lane import WebSocketLane
from gateway.proxy.request.call import DECISION_APIS, Call
from gateway.proxy.request.header_rules import for_client
from gateway.proxy.request.upload import Upload
from gateway.proxy.request.vendor_paths import BEDROCK_APIS, VENDOR_APIS
from gateway.proxy.routing.concurrency_limiter import Admission
from gateway.proxy.routing.fair_queue import Flow
from gateway.proxy.routing.router import Route
from gateway.proxy.routing.target_state import TargetState
from gateway.proxy.routing.variants import TargetVariant
from gateway.proxy.types import CallEnded, ClientConnection, ClientGone

if TYPE_CHECKING:
    from gateway.proxy.relay.facade import FacadeExchange

ReplyHandler = Callable[[RelayState, TargetState, UpstreamReply], Awaitable[None]]
"""Sends a good reply to the client. Raises AttemptFailed or TransportError."""

log = logging.getLogger("gateway")

_MAX_ERROR_BYTES = 1 << 20
_ANTHROPIC = ("messages", "count_tokens")
_LOG_EVERY_S = 60.0  # for each target, besides the lines about its breaker
_OK = AttemptNote("ok", ANSWERED, None)
_GONE = AttemptNote("client_gone", CLIENT_LEFT, "client gone")
_STOPPED = AttemptNote("stopped", STOPPED, "gateway stopped")
_BLOCKED = AttemptNote("blocked", BLOCKED, "blocked by a guard")


@dataclass
class Relay:
    """Sends calls upstream."""

    metrics: ProxyMetrics
    labels: MetricLabels
    ticker: Ticker
    rng: random.Random
    """Draws the jitter."""
    background: Container[str]
    """The callers whose calls wait behind all others in an upstream's queue."""
    tokens_of: Callable[[Call], int]
    """Estimates the tokens that a call may use, for upstreams with a limit of them."""
    clock: Callable[[], float] = time.monotonic
    _attempts: dict[tuple[str, str], FastCounter] = field(default_factory=dict, init=False)
    """Counters of attempts, by target and result."""
    _facades: type[FacadeExchange] | None = field(default=None, init=False)
    """Loaded with the first call to a target with `as: decision`."""

    async def ask(
        self,
        call: Call,
        route: Route,
        client: ClientConnection,
        context: CallContext,
        *,
        held: bool,
        lane: WebSocketLane | None = None,
    ) -> None:
        """Sends the client one complete response, or raises the GatewayError that is to be the response.

        held: the answer is one JSON object. lane: of the client's WebSocket; None if the call came by HTTP. Every
        result is noted in `context`.
        """
        blocked_s: float | None = None
        failure: Failure | None = None
        with Deadlines(route.timeouts.total_s, self.ticker, context.task) as deadlines:
            state = RelayState(call, route, client, context, deadlines, held, lane)
            try:
                for candidate in route.candidates:
                    target_state = candidate.target_state
                    if failure is not None and failure.cause not in candidate.on:
                        continue
                    if not (target_state.breaker.closed or target_state.breaker.allow()):
                        blocked_s = min(blocked_s or 1e9, target_state.breaker.wait_s())
                        continue
                    failure = await self._attempt(state, target_state, call, replies.relay)
                    if failure is not None and failure.retryable:
                        failure = await self._retry(state, target_state, failure)
                    if failure is None:
                        return
                    if client.started:
                        await self._after_cut(state, failure)
                        return
                    if failure.cause is None or deadlines.expired:
                        break
                await self._send_failure(state, _verdict(state, blocked_s))
            except asyncio.CancelledError:
                if not deadlines.fired or context.client_gone:
                    raise
                text = str(deadlines.take_error())
                if state.client_deadline:
                    context.outcome = "client_deadline"
                    raise client_deadline(text) from None
                context.outcome = "timeout"
                raise UpstreamTimedOut(text, retry=False) from None

    async def _retry(self, state: RelayState, target_state: TargetState, failure: Failure) -> Failure | None:
        """Retries the same target until it answers (None) or its failure rules out another retry."""
        retries = state.route.retries
        backoff = Backoff(retries.backoff_s)
        last: Failure | None = failure
        tries = 1
        while last is not None and last.retryable and tries < retries.attempts and not state.client.started:
            wait_s = max(backoff.wait_s(tries, self.rng.random()), last.retry_after_s or 0.0)
            if last.cause == "rate_limit":
                wait_s = max(wait_s, target_state.breaker.wait_s())
            elif target_state.breaker.wait_s() > wait_s:
                return last
            if state.backoff_s + wait_s > retries.budget_s or wait_s >= state.deadlines.remaining_s:
                return last
            state.backoff_s += wait_s
            state.deadlines.pause()
            await asyncio.sleep(wait_s)
            if not target_state.breaker.allow():
                return last
            tries += 1
            last = await self._attempt(state, target_state, state.call, replies.relay)
        return last

    async def _attempt(
        self, state: RelayState, target_state: TargetState, call: Call, handle: ReplyHandler
    ) -> Failure | None:
        """One attempt. None: `handle` has sent the response. The target's breaker learns the result."""
        started = self.clock()
        failure: Failure | None = None
        state.context.target_state = target_state
        limiter = target_state.upstream.limiter
        if call.upload is not None and limiter.limited and not call.upload.complete:
            await self._form_read(state, target_state, call.upload)
        admission: Admission | None = None
        if not limiter.limited or limiter.free:
            limiter.in_flight += 1
        else:
            queued = await self._queued(state, target_state, call)
            if isinstance(queued, Failure):
                return self._note_failed(state, target_state, queued, started)
            admission = queued
        state.admission = admission
        target_state.in_flight += 1
        try:
            await self._exchange(state, target_state, call, handle)
        except AttemptFailed as error:
            failure = error.failure
        except TransportError as error:
            failure = of_transport(error)
        except asyncio.CancelledError:
            if not state.deadlines.fired or state.context.client_gone:
                self._note_abandoned(state, target_state, started)
                raise
            late, by_client = state.deadlines.take_error(), state.client_deadline
            failure = of_deadline(late, shortened=state.total_shortened, by_client=by_client)
        except ClientGone:  # while its form was being read
            state.context.client_gone = True
            self._note_abandoned(state, target_state, started)
            raise
        except CallEnded:
            self._note_abandoned(state, target_state, started)
            raise
        except BaseException:  # the dialect cannot express the request, or the gateway is at fault
            target_state.breaker.release_probe()
            raise
        finally:
            target_state.in_flight -= 1
            if limiter.waiting or limiter.managed:
                limiter.release(admission, _used_tokens(state, admission, failure))
            else:
                limiter.in_flight -= 1
        if failure is not None:
            return self._note_failed(state, target_state, failure, started)
        self._note_answered(state, target_state, started)
        return None

    async def _form_read(self, state: RelayState, target_state: TargetState, upload: Upload) -> None:
        """Waits for the rest of a form: a slow client must not occupy one of the upstream's few slots meanwhile."""
        state.deadlines.pause()
        try:
            await upload.to_end()
        except BaseException as error:
            target_state.breaker.release_probe()
            state.context.client_gone = state.context.client_gone or isinstance(error, ClientGone)
            raise

    async def _queued(self, state: RelayState, target_state: TargetState, call: Call) -> Admission | Failure:
        """Waits for the upstream's limiter. A failure if its queue was full, or the wait too long."""
        state.deadlines.pause()  # the phase of the previous attempt is over
        limiter = target_state.upstream.limiter
        tokens = self.tokens_of(call) if limiter.allowance is not None and limiter.allowance.in_tokens else 0
        try:
            state.queued = True
            return await limiter.acquire(self._flow(state), tokens, target_state.model)
        except Overloaded:
            closed = limiter.closed(tokens, target_state.model)
            return of_full_queue() if closed is None else of_vendor_limit(*closed)
        except asyncio.CancelledError:
            target_state.breaker.release_probe()
            raise

    def _flow(self, state: RelayState) -> Flow:
        """Chooses the flow in whose turn the call is served."""
        caller, experiment = state.call.caller, state.route.shadow_of
        if experiment:
            return Flow(f"shadow {experiment}", "", BACKGROUND)
        rank = BACKGROUND if caller.name in self.background else RANKS[caller.traffic_class]
        return Flow(caller.name, caller.team or "", rank)

    def _facade(self, target_state: TargetState, variant: TargetVariant) -> FacadeExchange:
        """The exchange with a target that is asked for decisions."""
        made = self._facades
        if made is None:
            from gateway.proxy.relay.facade import FacadeExchange  # only for targets with `as: decision`

            made = self._facades = FacadeExchange
        return made(target_state, variant)

    async def _exchange(self, state: RelayState, target_state: TargetState, call: Call, handle: ReplyHandler) -> None:
        """Sends the request and hands a good reply to `handle`. Raises AttemptFailed for HTTP status 300 and above."""
        timeouts, context, deadlines = state.route.timeouts, state.context, state.deadlines
        dialect, model = target_state.upstream.dialect.by_api[call.api], target_state.model
        variant = target_state.variant
        if call.api in DECISION_APIS:
            reads = state.route.reads
            if reads is not None:
                state.dialect = dialect = target_state.upstream.dialect.emulated(reads)
            elif target_state.undecided_until or not target_state.upstream.decides:
                _check_decides(target_state)
        facade = None if variant is None or variant.decisions is None else self._facade(target_state, variant)
        try:
            if facade is not None:
                request = facade.request(state, call)
            else:
                request = dialect.request(call, model) if variant is None else variant.request(dialect, call, model)
        except BadRequest as error:
            if call.api not in DECISION_APIS:
                raise
            raise AttemptFailed(of_untranslatable(error, call)) from None
        state.losses, more = request.losses, request.more
        if context.response.enabled and not state.client.started:
            if type(request.body) is tuple:
                request.join()
            if type(sent := request.body) is bytes:
                context.sent_body = request.recorded or sent
        if call.stream:
            deadlines.start_phase("first token", timeouts.first_token_s)
        else:
            deadlines.start_phase("answer", timeouts.answer_s)
        upstream = target_state.upstream
        transport = upstream.transport if state.lane is None else state.lane.transport(upstream)
        sent_at = self.clock()
        try:
            if call.upload is None:
                reply = await transport.send(request, timeouts.connect_s)
            else:
                with call.upload.pausing(deadlines):
                    reply = await transport.send(request, timeouts.connect_s)
            if more:
                reply = await joined(transport, reply, more, timeouts.connect_s)
        finally:
            state.connecting = request.connecting
            del request  # a stream would hold its body to the end
            waited_s = self.clock() - sent_at
            state.upstream_s += waited_s
        if state.admission is not None and state.admission.grant is not None:
            state.admission.grant.learn(reply.headers)
        try:
            if not state.client.started:
                context.status = reply.status
            if reply.status >= 300:
                asked = call if facade is None else facade.asked(call)
                failure = await _failure_of_status(state, asked, target_state, reply)
                raise AttemptFailed(failure if facade is None else facade.failure(failure))
            upload = call.upload
            started = sent_at if upload is None else max(sent_at, upload.last_received)
            target_state.record_latency(waited_s if upload is None else self.clock() - started)
            await (handle if facade is None else facade.answer)(state, target_state, reply)
        finally:
            reply.close()

    def _note_answered(self, state: RelayState, target_state: TargetState, started: float) -> None:
        status = state.context.status
        source = state.context.notes.error_source
        if source == "target":
            target_state.record_failure(state.call.caller.name)
            note = AttemptNote("error", UNREADABLE, "ended its stream with an error")
            self._note(state, target_state, started, status, note)
            return
        if source is not None:
            target_state.breaker.release_probe()
            note = AttemptNote("refused", UNREADABLE, "reported a failed answer in HTTP 200")
            self._note(state, target_state, started, status, note)
            return
        target_state.breaker.record_success()
        if target_state.upstream.refusals:
            target_state.upstream.record_key_accepted()
        self._note(state, target_state, started, status, _OK)

    def _note_abandoned(self, state: RelayState, target_state: TargetState, started: float) -> None:
        """Notes an attempt that was abandoned because the client left, a guard refused, or the gateway stops, which
        says nothing about the target."""
        target_state.breaker.release_probe()
        context = state.context
        note = _GONE if context.client_gone else _BLOCKED if context.outcome == "blocked" else _STOPPED
        self._note(state, target_state, started, state.context.status or None, note)

    def _note_failed(self, state: RelayState, target_state: TargetState, failure: Failure, started: float) -> Failure:
        breaker = target_state.breaker
        if failure.refuses_key and failure.status is not None:
            target_state.upstream.record_key_refused(failure.status, failure.text)
        if failure.cause == "rate_limit" and target_state.is_one_model:
            breaker.pause(failure.retry_after_s if failure.retry_after_s is not None else 0.5)
        elif failure.target_fault:
            was_open = breaker.open
            target_state.last_failure = failure.text
            target_state.record_failure(state.call.caller.name)
            self._log_failed(target_state, failure, opened=breaker.open and not was_open)
        elif failure.declined:
            breaker.record_success()
        else:
            breaker.release_probe()
        state.context.notes.failure = failure.full_text
        if failure.answer_bytes is not None:
            state.answer_bytes = failure.answer_bytes
        note = AttemptNote(failure.result, failure.ending, failure.text)
        self._note(state, target_state, started, failure.status, note)
        state.failed.append(FailedAttempt(target_state.name, failure, self.clock() - started))
        return failure

    def _log_failed(self, target_state: TargetState, failure: Failure, *, opened: bool) -> None:
        """Logs a line when the breaker opens, and otherwise one a minute for each target."""
        now = self.clock()
        if not opened and now - target_state.failure_logged_at < _LOG_EVERY_S:
            return
        target_state.failure_logged_at = now
        then = "; its circuit breaker opens, and a probe follows" if opened else ""
        log.warning("target %s failed: %s%s", target_state.name, failure.full_text, then)

    def _note(
        self,
        state: RelayState,
        target_state: TargetState,
        started: float,
        status: int | None,
        note: AttemptNote,
    ) -> None:
        context, ending = state.context, note.ending
        seconds = self.clock() - started
        usage, state.attempt_usage = state.attempt_usage, None
        context.attempts.append(Attempt(target_state.target, status, note.failure, seconds, usage))
        if (ending is ANSWERED or ending is DECLINED) and usage is not None:
            context.sent = True
        else:
            state.note_unmetered(target_state.target, ending, usage)
        cell = (target_state.name, note.result)
        if cell not in self._attempts:
            labels = target_state.target.upstream, self.labels.model(state.call.alias, target_state.name)
            self._attempts[cell] = self.metrics.counts.of(self.metrics.attempts, *labels, note.result)
        self._attempts[cell].n += 1

    async def _send_failure(self, state: RelayState, answer: ErrorReply | GatewayError) -> None:
        """Answers a call that no target answered: passes on an upstream's refusal, or raises the gateway's own
        error."""
        context = state.context
        context.outcome = state.failed[-1].failure.ending.outcome if state.failed else "upstream_error"
        if isinstance(answer, GatewayError):
            context.notes.queue_full = isinstance(answer, QueueFull)
            raise answer
        name = next(f.name for f in state.failed if f.failure.answer is answer)
        target_states = (candidate.target_state for candidate in state.route.candidates)
        target_state = context.target_state = next(t for t in target_states if t.name == name)
        context.status = answer.status
        body, model = answer.body, target_state.target.model
        if not state.call.caller.sees_upstreams and "*" not in model:
            body = body.replace(model.encode(), (state.call.named or state.call.alias).encode())
        context.response.relayed(body)
        headers = answer.headers
        if answer.status == 429 or answer.status >= 500:
            headers = [*headers, (b"x-should-retry", b"false")]  # the gateway has used up its own retries
        start_response(state, target_state, answer.status, headers, self.clock(), len(body), answered=False)
        context.ended = True
        await state.client.end(body)

    async def _after_cut(self, state: RelayState, failure: Failure) -> None:
        """A response broke off after its head was sent: continues it on another target, or ends it with an error."""
        if await self._continued(state, failure):
            state.context.spliced = True
            self.metrics.counts.of(self.metrics.continued, state.call.alias, "continued").n += 1
            return
        context, sent = state.context, state.sent
        context.outcome = failure.ending.cut_outcome
        self.metrics.counts.of(self.metrics.continued, state.call.alias, "ended").n += 1
        if sent is None or state.route.on_cut == "off":
            return  # the connection closes before the response's end, which is how HTTP says "cut"
        name = sent.target_state.name if state.call.caller.sees_upstreams else "its target"
        error = UpstreamFailed(f"the stream broke off: {name} {failure.text}", code="stream_cut")
        context.ended = True
        context.target_state = sent.target_state
        event = sent.target_state.upstream.dialect.broken(state.call, error)
        context.response.relayed(event)
        await state.client.end_nowait(event)

    async def _continued(self, state: RelayState, failure: Failure) -> bool:
        """Whether another target of the route has completed the stream that was cut."""
        sent = state.sent
        if sent is None or state.route.on_cut != "continue" or not sent.reader.continuable:
            return False
        sent.text = sent.text or sent.reader.text
        for candidate in state.route.candidates:
            may_follow = candidate.target_state is not sent.target_state and failure.cause in candidate.on
            may_follow = may_follow and not candidate.target_state.target.decides  # which writes no part of an answer
            if may_follow and await self._continue_on(state, sent, candidate.target_state):
                return True
        return False

    async def _continue_on(self, state: RelayState, sent: SentText, target_state: TargetState) -> bool:
        """Whether this target has completed the stream; by prefill where it can, then by alignment."""
        handlers: list[ReplyHandler] = [replies.continue_aligned]
        if target_state.upstream.config.continues_prefill:
            handlers.insert(0, replies.continue_prefilled)
        for handle in handlers:
            if state.deadlines.expired or not target_state.breaker.allow():
                return False
            call = state.call
            if state.context.guarded is not None and (left := state.context.guarded.restart()) is not None:
                sent.text = left
            if handle is replies.continue_prefilled:
                call = prefilled(call, sent.text)
            failure = await self._attempt(state, target_state, call, handle)
            if failure is None:
                return True
            if failure.status != 400:
                return False
        return False


def _used_tokens(state: RelayState, admission: Admission | None, failure: Failure | None) -> int | None:
    """The tokens that count against the upstream's limits; None if nothing was sent."""
    if admission is None or admission.grant is None or state.connecting:
        return None
    usage = state.attempt_usage
    if usage is not None:
        return usage.input_tokens + usage.output_tokens
    refused = failure is not None and failure.status is not None and failure.status >= 300
    return 0 if refused else admission.tokens


def _verdict(state: RelayState, blocked_s: float | None) -> ErrorReply | GatewayError:
    """blocked_s: until the first breaker lets a call pass; None if none was open."""
    call, targets = state.call, len(state.route.candidates)
    return verdict(call.named or call.alias, state.failed, blocked_s, targets, named=call.caller.sees_upstreams)


def _check_decides(target_state: TargetState) -> None:
    """Raises AttemptFailed for a target that has no decisions, as far as is known."""
    if not target_state.upstream.decides or target_state.clock() < target_state.undecided_until:
        raise AttemptFailed(of_no_decisions())


async def _failure_of_status(state: RelayState, call: Call, target_state: TargetState, reply: UpstreamReply) -> Failure:
    mask = target_state.upstream.mask
    if reply.status < 400:
        return of_redirect(reply.status, mask(dict(reply.headers).get(b"location", b"")))
    body = await replies.read(reply, _MAX_ERROR_BYTES)
    if body is None:
        return Failure("error", f"HTTP {reply.status} with an endless body", status=reply.status)
    body = mask(body)
    if isinstance(target_state.upstream.transport, AuthorizedTransport) and refuses_time(reply.status, body):
        return of_refused_time(reply.status, dict(reply.headers).get(b"date", b""))
    status = reply.status
    if call.api in DECISION_APIS:
        if state.dialect is None and lacks_decisions(status, body):
            target_state.undecided_until = target_state.clock() + UNDECIDED_S
            return of_no_decisions(status)
        status = 400 if status == 422 and call.api == "decisions" else status  # as OpenAI's API has it
    if status == 404 and lacks_endpoint(body):
        shown = f'the upstream "{target_state.target.upstream}"' if call.caller.sees_upstreams else "the upstream"
        return of_missing_endpoint(
            f'{shown} of "{call.named or call.alias}"', call.path, anthropic=call.api in _ANTHROPIC
        )
    sent = (state.dialect or target_state.upstream.dialect).error(call, status, body)
    if call.api in VENDOR_APIS:
        headers = for_client(reply.headers, bedrock=call.api in BEDROCK_APIS)
        return of_status(status, headers, sent, vendor_error(call.api, status, body))
    return of_status(status, for_client(reply.headers), sent)
