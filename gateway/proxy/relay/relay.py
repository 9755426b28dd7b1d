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

from gateway.core.errors import GatewayError, Overloaded, TransportError, UpstreamFailed, UpstreamTimedOut
from gateway.core.exchange import Attempt
from gateway.observability.eval_metrics import ProxyMetrics
from gateway.proxy.http.client import UpstreamReply
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
from gateway.proxy.routing.target_state import TargetState, jitter
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
        self, call: Call, route: Route, client: ClientConnection, progress: CallContext, *, held: bool
    ) -> None:
        """Gives the client one whole answer, or raises the GatewayError that is its answer.

        held: the answer is one JSON object. What happened is in `progress`, whatever happens.
        """
        with Deadlines(route.timeouts.total_s, self._ticker, progress.making) as limit:
            asking = RelayState(call, route, client, progress, limit, held)
            try:
                await self._candidates(asking)
            except asyncio.CancelledError:
                if not limit.passed or progress.gone:
                    raise
                progress.outcome = "timeout"
                raise UpstreamTimedOut(str(limit.taken()), retry=False) from None

    async def _candidates(self, asking: RelayState) -> None:
        closed_s: float | None = None
        failure: Failure | None = None
        for candidate in asking.route.candidates:
            place = candidate.place
            if failure is not None and failure.cause not in candidate.on:
                continue
            if not place.breaker.enter():
                closed_s = min(closed_s or 1e9, place.breaker.wait_s())
                continue
            failure = await self._attempt(asking, place, asking.call, replies.relay)
            if failure is not None and failure.again:
                failure = await self._again(asking, place, failure)
            if failure is None:
                return
            if asking.client.started:
                await self._after_a_cut(asking, failure)
                return
            if failure.cause is None or asking.limit.spent:
                break
        await self._nobody(asking, verdict(asking.call.alias, asking.failed, closed_s))

    async def _again(self, asking: RelayState, place: TargetState, failure: Failure) -> Failure | None:
        """Asks the same target until it answers (None) or there is no use in asking it again."""
        retries = asking.route.retries
        last: Failure | None = failure
        tries = 1
        while last is not None and last.again and tries < retries.attempts and not asking.client.started:
            wait = max(jitter(retries.backoff_s * 2 ** (tries - 1), self._rng), last.after_s or 0.0)
            if last.cause == "rate_limit":
                wait = max(wait, place.breaker.wait_s())
            elif place.breaker.wait_s() > wait:
                return last
            if asking.waited_s + wait > retries.budget_s or wait >= asking.limit.left_s:
                return last
            asking.waited_s += wait
            asking.limit.pause()
            await self._sleep(wait)
            if not place.breaker.enter():
                return last
            tries += 1
            last = await self._attempt(asking, place, asking.call, replies.relay)
        return last

    async def _attempt(self, asking: RelayState, place: TargetState, call: Call, act: Act) -> Failure | None:
        """One try. None: it did what `act` does with a good reply. The target's state learns how it went."""
        started = self._clock()
        failure: Failure | None = None
        asking.progress.place = place
        slots = place.upstream.slots
        if slots.free:
            slots.in_flight += 1
        else:
            asking.limit.pause()  # the phase of an attempt before is over
            try:
                await slots.enter()
            except Overloaded:
                failure = Failure("error", "is full", target_fault=False, status=503, after_s=1.0)
                return self._failed(asking, place, failure, started)
            except asyncio.CancelledError:
                place.breaker.left()
                raise
        place.in_flight += 1
        try:
            await self._exchange(asking, place, call, act)
        except AttemptFailed as error:
            failure = error.failure
        except TransportError as error:
            failure = of_transport(error)
        except asyncio.CancelledError:
            if not asking.limit.passed or asking.progress.gone:
                self._left(asking, place, started)
                raise
            failure = of_limit(asking.limit.taken())
        except ClientGone:  # while its form was read
            asking.progress.gone = True
            self._left(asking, place, started)
            raise
        except BaseException:  # the dialect cannot say what the client asks, or we are at fault
            place.breaker.left()
            raise
        finally:
            place.in_flight -= 1
            slots.leave()
        if failure is not None:
            return self._failed(asking, place, failure, started)
        self._answered(asking, place, started)
        return None

    async def _exchange(self, asking: RelayState, place: TargetState, call: Call, act: Act) -> None:
        timeouts, progress, limit = asking.route.timeouts, asking.progress, asking.limit
        request = place.upstream.dialect.request(call, place.target.model)
        if isinstance(request.body, bytes) and not asking.client.started:
            progress.sent_body = request.body
        if call.stream:
            limit.phase("first token", timeouts.first_token_s)
        else:
            limit.phase("answer", timeouts.answer_s)
        asked = self._clock()
        try:
            if call.upload is None:
                reply = await place.upstream.transport.send(request, timeouts.connect_s)
            else:
                with call.upload.pausing(limit):
                    reply = await place.upstream.transport.send(request, timeouts.connect_s)
        finally:
            waited = self._clock() - asked
            progress.upstream_s += waited
        try:
            if not asking.client.started:
                progress.status = reply.status
            if reply.status >= 400:
                raise AttemptFailed(await _refusal(call, place, reply))
            place.took(waited if call.upload is None else self._clock() - max(asked, call.upload.heard))
            await act(asking, place, reply)
        finally:
            reply.close()

    # ── how an attempt went ──

    def _answered(self, asking: RelayState, place: TargetState, started: float) -> None:
        status = asking.progress.status
        if asking.progress.outcome == "upstream_error":  # it said so itself, in its stream
            place.breaker.failed()
            self._note(asking, place, started, "error", status, "ended its stream with an error")
            return
        place.breaker.succeeded()
        self._note(asking, place, started, "ok", status, None)

    def _left(self, asking: RelayState, place: TargetState, started: float) -> None:
        place.breaker.left()
        result, why = ("client_gone", "client gone") if asking.progress.gone else ("stopped", "gateway stopped")
        self._note(asking, place, started, result, asking.progress.status or None, why)

    def _failed(self, asking: RelayState, place: TargetState, failure: Failure, started: float) -> Failure:
        breaker = place.breaker
        if failure.cause == "rate_limit":
            breaker.cool(failure.after_s if failure.after_s is not None else 0.5)
        elif failure.target_fault:
            breaker.failed()
        else:
            breaker.left()
        self._note(asking, place, started, failure.cause or "refused", failure.status, failure.text)
        asking.failed.append(FailedAttempt(place.name, failure, self._clock() - started))
        return failure

    def _note(
        self,
        asking: RelayState,
        place: TargetState,
        started: float,
        result: str,
        status: int | None,
        failure: str | None,
    ) -> None:
        progress = asking.progress
        seconds = self._clock() - started
        usage, progress.attempt_usage = progress.attempt_usage, None
        progress.attempts.append(Attempt(place.target, status, failure, seconds, usage))
        self._metrics.counts.of(self._metrics.attempts, place.target.upstream, result).n += 1

    # ── what the client gets when there is no answer, or half of one ──

    async def _nobody(self, asking: RelayState, answer: ErrorReply | GatewayError) -> None:
        progress = asking.progress
        progress.outcome = asking.failed[-1].failure.outcome if asking.failed else "upstream_error"
        if progress.outcome == "cut":
            progress.outcome = "upstream_error"
        if isinstance(answer, GatewayError):
            raise answer
        refused = next(f.name for f in asking.failed if f.failure.answer is answer)
        place = progress.place = next(c.place for c in asking.route.candidates if c.place.name == refused)
        progress.status = answer.status
        progress.kept.add(answer.body)
        head = answer.headers
        if answer.status == 429 or answer.status >= 500:
            head = [*head, (b"x-should-retry", b"false")]  # the gateway has spent its own retries
        asking.start(place, answer.status, head, self._clock(), len(answer.body), answered=False)
        progress.ended = True
        await asking.client.end(answer.body)

    async def _after_a_cut(self, asking: RelayState, failure: Failure) -> None:
        progress, said = asking.progress, asking.said
        if said is not None and asking.route.on_cut == "continue" and said.reader.continuable:
            said.text = said.text or said.reader.text
            for candidate in asking.route.candidates:
                if _may_go_on(asking, candidate, failure) and await self._go_on(asking, candidate.place):
                    progress.spliced = True
                    self._metrics.counts.of(self._metrics.continued, asking.call.alias, "continued").n += 1
                    return
        progress.outcome = failure.outcome if failure.outcome == "timeout" else "cut"
        self._metrics.counts.of(self._metrics.continued, asking.call.alias, "ended").n += 1
        if said is None or asking.route.on_cut == "off":
            return  # the connection closes before the answer's end, which is how HTTP says "cut"
        error = UpstreamFailed(f"the stream broke off: {said.place.name} {failure.text}", code="stream_cut")
        progress.ended = True
        progress.place = said.place
        event = said.place.upstream.dialect.broken(asking.call, error)
        progress.kept.add(event)
        await asking.client.end_nowait(event)

    async def _go_on(self, asking: RelayState, place: TargetState) -> bool:
        """Whether the stream was brought to its end on this target."""
        ways = (True, False) if place.upstream.config.continues_prefill else (False,)
        for prefill in ways:
            said = asking.said
            if said is None or asking.limit.spent or not place.breaker.enter():
                return False
            call = asking.call
            if prefill:
                call = replace(call, body=prefilled(call.body, said.text))
            act = replies.go_on if not prefill else replies.go_on_prefilled
            failure = await self._attempt(asking, place, call, act)
            if failure is None:
                return True
            if failure.status != 400:
                return False
        return False


def _may_go_on(asking: RelayState, candidate: RouteOption, failure: Failure) -> bool:
    said = asking.said
    return said is not None and candidate.place is not said.place and failure.cause in candidate.on


async def _refusal(call: Call, place: TargetState, reply: UpstreamReply) -> Failure:
    body = await replies.read(reply, _MAX_ERROR_BYTES)
    if body is None:
        return Failure("error", f"HTTP {reply.status} with an endless body", status=reply.status)
    return of_status(reply.status, for_client(reply.headers), place.upstream.dialect.error(call, reply.status, body))
