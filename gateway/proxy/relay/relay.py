"""The only place that sends: attempts, retries, fallbacks and their limits. Knows no vendor and no socket.

Until the first byte has gone to the client, any failure may go over to the next target; afterwards a stream can only
be continued on another target, or ended with an error event.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from gateway.core.backoff import Backoff
from gateway.core.errors import GatewayError, Overloaded, TransportError, UpstreamFailed, UpstreamTimedOut
from gateway.core.exchange import Attempt
from gateway.observability.eval_metrics import ProxyMetrics
from gateway.proxy.http.client.transport import UpstreamReply
from gateway.proxy.relay import replies
from gateway.proxy.relay.continuation import prefilled
from gateway.proxy.relay.deadlines import Deadlines, Ticker
from gateway.proxy.relay.failures import (
    AttemptFailed,
    ErrorReply,
    FailedAttempt,
    Failure,
    of_limit,
    of_status,
    of_transport,
    verdict,
)
from gateway.proxy.relay.progress import CallContext
from gateway.proxy.relay.state import RelayState
from gateway.proxy.request.call import Call
from gateway.proxy.request.headers import for_client
from gateway.proxy.routing.router import Route, RouteOption
from gateway.proxy.routing.target_state import TargetState
from gateway.proxy.types import ClientConnection, ClientGone

Act = Callable[[RelayState, TargetState, UpstreamReply], Awaitable[None]]

_MAX_ERROR_BYTES = 1 << 20


class Relay:
    """Asks upstreams. rng: for jitter; clock: monotonic seconds; sleep: waits between attempts."""

    def __init__(
        self,
        metrics: ProxyMetrics,
        ticker: Ticker,
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._metrics = metrics
        self._ticker = ticker
        self._rng = rng
        self._clock = clock
        self._sleep = sleep

    async def ask(
        self, call: Call, route: Route, client: ClientConnection, context: CallContext, *, held: bool
    ) -> None:
        """Gives the client one whole answer, or raises the GatewayError that is its answer.

        held: the answer is one JSON object. What happened is in `progress`, whatever happens.
        """
        with Deadlines(route.timeouts.total_s, self._ticker, context.making) as limit:
            state = RelayState(call, route, client, context, limit, held)
            try:
                await self._candidates(state)
            except asyncio.CancelledError:
                if not limit.passed or context.gone:
                    raise
                context.outcome = "timeout"
                raise UpstreamTimedOut(str(limit.taken()), retry=False) from None

    async def _candidates(self, state: RelayState) -> None:
        closed_s: float | None = None
        failure: Failure | None = None
        for candidate in state.route.candidates:
            target_state = candidate.target_state
            if failure is not None and failure.cause not in candidate.on:
                continue
            if not target_state.breaker.allow():
                closed_s = min(closed_s or 1e9, target_state.breaker.wait_s())
                continue
            failure = await self._attempt(state, target_state, state.call, replies.relay)
            if failure is not None and failure.again:
                failure = await self._again(state, target_state, failure)
            if failure is None:
                return
            if state.client.started:
                await self._after_a_cut(state, failure)
                return
            if failure.cause is None or state.limit.spent:
                break
        await self._nobody(state, verdict(state.call.alias, state.failed, closed_s))

    async def _again(self, state: RelayState, target_state: TargetState, failure: Failure) -> Failure | None:
        """Asks the same target until it answers (None) or there is no use in asking it again."""
        retries = state.route.retries
        backoff = Backoff(retries.backoff_s)
        last: Failure | None = failure
        tries = 1
        while last is not None and last.again and tries < retries.attempts and not state.client.started:
            wait = max(backoff.wait_s(tries, self._rng.random()), last.after_s or 0.0)
            if last.cause == "rate_limit":
                wait = max(wait, target_state.breaker.wait_s())
            elif target_state.breaker.wait_s() > wait:
                return last
            if state.waited_s + wait > retries.budget_s or wait >= state.limit.left_s:
                return last
            state.waited_s += wait
            state.limit.pause()
            await self._sleep(wait)
            if not target_state.breaker.allow():
                return last
            tries += 1
            last = await self._attempt(state, target_state, state.call, replies.relay)
        return last

    async def _attempt(self, state: RelayState, target_state: TargetState, call: Call, act: Act) -> Failure | None:
        """One try. None: it did what `act` does with a good reply. The target's state learns how it went."""
        started = self._clock()
        failure: Failure | None = None
        state.context.target_state = target_state
        limiter = target_state.upstream.limiter
        if limiter.free:
            limiter.in_flight += 1
        else:
            state.limit.pause()  # the phase of an attempt before is over
            try:
                await limiter.acquire()
            except Overloaded:
                failure = Failure("error", "is full", target_fault=False, status=503, after_s=1.0)
                return self._failed(state, target_state, failure, started)
            except asyncio.CancelledError:
                target_state.breaker.release_probe()
                raise
        target_state.in_flight += 1
        try:
            await self._exchange(state, target_state, call, act)
        except AttemptFailed as error:
            failure = error.failure
        except TransportError as error:
            failure = of_transport(error)
        except asyncio.CancelledError:
            if not state.limit.passed or state.context.gone:
                self._left(state, target_state, started)
                raise
            failure = of_limit(state.limit.taken())
        except ClientGone:  # while its form was read
            state.context.gone = True
            self._left(state, target_state, started)
            raise
        except BaseException:  # the dialect cannot say what the client asks, or we are at fault
            target_state.breaker.release_probe()
            raise
        finally:
            target_state.in_flight -= 1
            limiter.release()
        if failure is not None:
            return self._failed(state, target_state, failure, started)
        self._answered(state, target_state, started)
        return None

    async def _exchange(self, state: RelayState, target_state: TargetState, call: Call, act: Act) -> None:
        timeouts, context, limit = state.route.timeouts, state.context, state.limit
        request = target_state.upstream.dialect.request(call, target_state.target.model)
        if isinstance(request.body, bytes) and not state.client.started:
            context.sent_body = request.body
        if call.stream:
            limit.phase("first token", timeouts.first_token_s)
        else:
            limit.phase("answer", timeouts.answer_s)
        asked = self._clock()
        try:
            if call.upload is None:
                reply = await target_state.upstream.transport.send(request, timeouts.connect_s)
            else:
                with call.upload.pausing(limit):
                    reply = await target_state.upstream.transport.send(request, timeouts.connect_s)
        finally:
            waited = self._clock() - asked
            context.upstream_s += waited
        try:
            if not state.client.started:
                context.status = reply.status
            if reply.status >= 400:
                raise AttemptFailed(await _refusal(call, target_state, reply))
            target_state.record_latency(
                waited if call.upload is None else self._clock() - max(asked, call.upload.last_received)
            )
            await act(state, target_state, reply)
        finally:
            reply.close()

    # ── how an attempt went ──

    def _answered(self, state: RelayState, target_state: TargetState, started: float) -> None:
        status = state.context.status
        if state.context.outcome == "upstream_error":  # it said so itself, in its stream
            target_state.breaker.record_failure()
            self._note(state, target_state, started, "error", status, "ended its stream with an error")
            return
        target_state.breaker.record_success()
        self._note(state, target_state, started, "ok", status, None)

    def _left(self, state: RelayState, target_state: TargetState, started: float) -> None:
        target_state.breaker.release_probe()
        result, why = ("client_gone", "client gone") if state.context.gone else ("stopped", "gateway stopped")
        self._note(state, target_state, started, result, state.context.status or None, why)

    def _failed(self, state: RelayState, target_state: TargetState, failure: Failure, started: float) -> Failure:
        breaker = target_state.breaker
        if failure.cause == "rate_limit":
            breaker.pause(failure.after_s if failure.after_s is not None else 0.5)
        elif failure.target_fault:
            breaker.record_failure()
        else:
            breaker.release_probe()
        self._note(state, target_state, started, failure.cause or "refused", failure.status, failure.text)
        state.failed.append(FailedAttempt(target_state.name, failure, self._clock() - started))
        return failure

    def _note(
        self,
        state: RelayState,
        target_state: TargetState,
        started: float,
        result: str,
        status: int | None,
        failure: str | None,
    ) -> None:
        context = state.context
        seconds = self._clock() - started
        usage, context.attempt_usage = context.attempt_usage, None
        context.attempts.append(Attempt(target_state.target, status, failure, seconds, usage))
        self._metrics.counts.of(self._metrics.attempts, target_state.target.upstream, result).n += 1

    # ── what the client gets when there is no answer, or half of one ──

    async def _nobody(self, state: RelayState, answer: ErrorReply | GatewayError) -> None:
        context = state.context
        context.outcome = state.failed[-1].failure.outcome if state.failed else "upstream_error"
        if context.outcome == "cut":
            context.outcome = "upstream_error"
        if isinstance(answer, GatewayError):
            raise answer
        refused = next(f.name for f in state.failed if f.failure.answer is answer)
        target_state = context.target_state = next(
            c.target_state for c in state.route.candidates if c.target_state.name == refused
        )
        context.status = answer.status
        context.kept.add(answer.body)
        head = answer.headers
        if answer.status == 429 or answer.status >= 500:
            head = [*head, (b"x-should-retry", b"false")]  # the gateway has spent its own retries
        state.start(target_state, answer.status, head, self._clock(), len(answer.body), answered=False)
        context.ended = True
        await state.client.end(answer.body)

    async def _after_a_cut(self, state: RelayState, failure: Failure) -> None:
        context, said = state.context, state.said
        if said is not None and state.route.on_cut == "continue" and said.reader.continuable:
            said.text = said.text or said.reader.text
            for candidate in state.route.candidates:
                if _may_go_on(state, candidate, failure) and await self._go_on(state, candidate.target_state):
                    context.spliced = True
                    self._metrics.counts.of(self._metrics.continued, state.call.alias, "continued").n += 1
                    return
        context.outcome = failure.outcome if failure.outcome == "timeout" else "cut"
        self._metrics.counts.of(self._metrics.continued, state.call.alias, "ended").n += 1
        if said is None or state.route.on_cut == "off":
            return  # the connection closes before the answer's end, which is how HTTP says "cut"
        error = UpstreamFailed(f"the stream broke off: {said.target_state.name} {failure.text}", code="stream_cut")
        context.ended = True
        context.target_state = said.target_state
        event = said.target_state.upstream.dialect.broken(state.call, error)
        context.kept.add(event)
        await state.client.end_nowait(event)

    async def _go_on(self, state: RelayState, target_state: TargetState) -> bool:
        """Whether the stream was brought to its end on this target."""
        ways = (True, False) if target_state.upstream.config.continues_prefill else (False,)
        for prefill in ways:
            said = state.said
            if said is None or state.limit.spent or not target_state.breaker.allow():
                return False
            call = state.call
            if prefill:
                call = replace(call, body=prefilled(call.body, said.text))
            act = replies.go_on if not prefill else replies.go_on_prefilled
            failure = await self._attempt(state, target_state, call, act)
            if failure is None:
                return True
            if failure.status != 400:
                return False
        return False


def _may_go_on(state: RelayState, candidate: RouteOption, failure: Failure) -> bool:
    said = state.said
    return said is not None and candidate.target_state is not said.target_state and failure.cause in candidate.on


async def _refusal(call: Call, target_state: TargetState, reply: UpstreamReply) -> Failure:
    body = await replies.read(reply, _MAX_ERROR_BYTES)
    if body is None:
        return Failure("error", f"HTTP {reply.status} with an endless body", status=reply.status)
    return of_status(
        reply.status, for_client(reply.headers), target_state.upstream.dialect.error(call, reply.status, body)
    )
