"""The end of a call, seen exactly once: metrics, the record, the shadow. Called from one `finally`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from gateway.core.completion import assemble
from gateway.core.exchange import Exchange, Outcome, Usage
from gateway.core.prices import Price, Prices
from gateway.observability.eval_metrics import ProxyMetrics
from gateway.proxy.experiments.shadow import ShadowOffer, ShadowSender
from gateway.proxy.recording.inline_media import without_data_urls, without_images
from gateway.proxy.recording.recorder import Recorder
from gateway.proxy.recording.redaction.working import LARGE
from gateway.proxy.relay.state import CallContext
from gateway.proxy.request.call import Call
from gateway.proxy.request.endpoints import Endpoint
from gateway.proxy.routing.assignment import Assignment
from gateway.proxy.routing.router import Route
from gateway.proxy.routing.sampling import CallEnding, Sampler
from gateway.proxy.routing.target_state import TargetState

_ERROR_TYPE: dict[Outcome, str] = {
    "ok": "",
    "client_gone": "client_gone",
    "upstream_error": "upstream_error",
    "timeout": "timeout",
    "cut": "stream_cut",
}


_FOLD = 256  # calls of one series that wait to be counted

Ended = tuple[Outcome, float, float, float | None, Usage | None, bool]
"""One call: outcome, seconds in all, of them ours, seconds to the first token of a stream, usage, at the first try."""


class CallMetrics:
    """The series that calls of one alias at one target raise. Calls are added to `waiting`, and counted together: each
    costs an append and its share of a few sorts.
    """

    def __init__(
        self, m: ProxyMetrics, alias: str, target_state: TargetState, operation: str, price: Price | None
    ) -> None:
        counts, upstream = m.counts, target_state.target.upstream
        genai = (operation, target_state.upstream.config.vendor.provider, alias, target_state.target.model)
        self.waiting: list[Ended] = []
        self._ended = {o: counts.of(m.requests, alias, upstream, o) for o in _ERROR_TYPE}
        self._duration = {o: counts.spread(m.duration, *genai, e) for o, e in _ERROR_TYPE.items()}
        self._overhead = counts.spread(m.overhead)
        self._first_token = counts.spread(m.first_token, *genai)
        self._per_token = counts.spread(m.per_token, *genai)
        self._sizes = [counts.spread(m.tokens_used, *genai, kind) for kind in ("input", "output")]
        self._tokens = [
            counts.of(m.tokens, alias, upstream, k) for k in ("input", "output", "cached_input", "reasoning")
        ]
        self._unpriced = counts.of(m.unpriced, alias, upstream)
        self._price = price
        self._cost = counts.of(m.cost, alias, upstream) if price is not None else None
        counts.batches.add(self)

    def fold(self) -> None:
        """Counts what waits."""
        calls, self.waiting = self.waiting, []
        if not calls:
            return
        for outcome in {call[0] for call in calls}:
            seconds = [call[1] for call in calls if call[0] == outcome]
            self._ended[outcome].n += len(seconds)
            self._duration[outcome].observe_all(seconds)
        self._overhead.observe_all([call[2] for call in calls])
        self._stream_times(calls)
        self._took([call[4] for call in calls if call[4] is not None])
        self._spent(calls)

    def _stream_times(self, calls: list[Ended]) -> None:
        streams = [(total_s, first_s, usage) for _, total_s, _, first_s, usage, _ in calls if first_s is not None]
        if streams:
            self._first_token.observe_all([first_s for _, first_s, _ in streams])
            each = ((t - f, u.output_tokens - 1) for t, f, u in streams if u is not None)
            self._per_token.observe_all([seconds / gaps for seconds, gaps in each if gaps > 0])

    def _took(self, usages: list[Usage]) -> None:
        given, taken = [u.input_tokens for u in usages], [u.output_tokens for u in usages]
        tokens = self._tokens
        tokens[0].n += sum(given)
        tokens[1].n += sum(taken)
        tokens[2].n += sum(u.cached_input_tokens or 0 for u in usages)
        tokens[3].n += sum(u.reasoning_tokens or 0 for u in usages)
        self._sizes[0].observe_all([*map(float, given)])
        self._sizes[1].observe_all([*map(float, taken)])

    def _spent(self, calls: list[Ended]) -> None:
        """Of calls with one attempt; what several took is counted where each took it."""
        alone = [call[4] for call in calls if call[5]]
        known = [usage for usage in alone if usage is not None]
        self._unpriced.n += len(alone) - len(known)
        if self._price is None or self._cost is None:
            self._unpriced.n += len(known)
        else:
            self._cost.n += sum(map(self._price.cost, known))


@dataclass(frozen=True, slots=True)
class SettledCall:
    """How a call ended, as far as it is known at once. exchange: its record, when it was sampled. offer: what became of
    its shadow; None: it was not drawn, or the call is not eligible."""

    exchange: Exchange | None = None
    offer: ShadowOffer | None = None


@dataclass(frozen=True, slots=True)
class SamplingDecision:
    """With which probability a call is recorded, as what. part: None: in no experiment."""

    pi: float
    stratum: str
    assignment: Assignment | None = None
    offer: ShadowOffer | None = None


class Settler:
    """cap_bytes: of each of an exchange's two bodies. prices: None: none are known. shadow: None: there is none."""

    def __init__(
        self,
        sampler: Sampler,
        recorder: Recorder,
        metrics: ProxyMetrics,
        cap_bytes: int,
        prices: Prices | None = None,
        shadow: ShadowSender | None = None,
    ) -> None:
        self._shadow = shadow
        self._sampler = sampler
        self._prices = prices or Prices()
        self._recorder = recorder
        self._metrics = metrics
        self.cap_bytes = cap_bytes
        self._series: dict[tuple[str, str, str], CallMetrics] = {}  # by alias, place and operation

    def settle(self, call: Call, endpoint: Endpoint, route: Route, context: CallContext) -> SettledCall:
        """Counts the call and, when it is sampled, records it. A call that reached no upstream leaves no exchange."""
        now = time.monotonic()
        target_state = context.target_state
        self._count(call, endpoint, target_state, context, now - call.started)
        if target_state is None or not context.attempts or not endpoint.carries_text:
            return SettledCall()
        own_pi, stratum = route.drawn.pi, route.drawn.stratum
        if self._sampler.reads_ending:
            own_pi, stratum = self._sampler.tail(route.drawn, call, self._ending(call, context, now))
        if route.assignment is not None:
            return self._by_part(call, route, route.assignment, context, target_state, now, own_pi, stratum)
        reason = route.drawn.reason or (None if route.drawn.u < own_pi else "not_drawn")
        self._recorder.saw((stratum, call.alias, target_state.name, "", ""), reason)
        if reason is not None:
            return SettledCall()
        exchange = self._exchange(call, route, context, target_state, SamplingDecision(own_pi, stratum), now)
        self._recorder.put(exchange)
        return SettledCall(exchange)

    def _by_part(
        self,
        call: Call,
        route: Route,
        assignment: Assignment,
        context: CallContext,
        target_state: TargetState,
        now: float,
        own_pi: float,
        stratum: str,
    ) -> SettledCall:
        """Where a shadow was drawn there is more to do, and the next client may be waiting: that is done aside. What
        is large is not held there: only the recorder's buffer counts what it holds."""
        rest = partial(self._in_experiment, call, route, assignment, context, target_state, now, own_pi, stratum)
        if self._shadow is not None:
            self._shadow.answered(call, assignment, context, now)
            if assignment.shadowed and len(call.body) <= LARGE and self._shadow.later(rest):
                return SettledCall()
        return rest()

    def _in_experiment(
        self,
        call: Call,
        route: Route,
        assignment: Assignment,
        context: CallContext,
        target_state: TargetState,
        now: float,
        own_pi: float,
        stratum: str,
    ) -> SettledCall:
        """The same for a call of an experiment: whether its shadow is asked is decided before its record is put."""
        drawn, whole = route.drawn, is_whole(assignment, target_state, context)
        stands = whole if assignment.unit is None else stands_for(assignment, target_state, context)
        if assignment.unit is not None:
            self._count_split(assignment, context, stands)
        arm, rate, pi = (assignment.arm if stands else ""), own_pi, own_pi
        if stands and drawn.reason is None:
            rate, pi, stratum = assignment.inclusion(own_pi, stratum, whole)
        shadowed = assignment.shadowed and whole and drawn.reason is None
        sampled = shadowed or (drawn.reason is None and drawn.u < rate)
        cell = (stratum, call.alias, target_state.name, arm, "")
        self._recorder.saw(cell, None if sampled else drawn.reason or "not_drawn")
        if not sampled:
            return SettledCall()
        offer = self._shadow.decide(call, assignment) if shadowed and self._shadow is not None else None
        chosen = SamplingDecision(pi, stratum, assignment if stands else None, offer)
        exchange = self._exchange(call, route, context, target_state, chosen, now)
        kept = self._recorder.put(exchange)
        if offer is not None and self._shadow is not None:
            if kept:
                self._shadow.ask(assignment, offer, call, route, exchange)
            else:
                self._shadow.withdraw(assignment, offer)
        return SettledCall(exchange, offer)

    def _count_split(self, assignment: Assignment, context: CallContext, stands: bool) -> None:
        """Every call of a split, also those that do not count: an arm whose calls go over to a fallback loses them."""
        failed = context.outcome != "ok" or context.status != 200
        result = "client_gone" if context.outcome == "client_gone" else "failed" if failed else "ok"
        result = result if stands or result == "client_gone" else "continued" if context.spliced else "elsewhere"
        self._metrics.counts.of(self._metrics.split, assignment.running.plan.name, assignment.arm, result).n += 1

    def _ending(self, call: Call, context: CallContext, now: float) -> CallEnding:
        first = context.first_content
        finish = None
        if self._sampler.reads_finish and context.response.enabled:
            finish = assemble(call.api, call.stream, context.response.bytes()).finish_reason
        return CallEnding(context.outcome, finish, now - call.started, None if first is None else first - call.started)

    def _exchange(
        self,
        call: Call,
        route: Route,
        context: CallContext,
        target_state: TargetState,
        chosen: SamplingDecision,
        now: float,
    ) -> Exchange:
        assignment, offer = chosen.assignment, chosen.offer
        request, cut = context.sent_body or call.body, False
        if len(request) <= LARGE:  # larger ones are the recorder's to make small
            request, cut = without_data_urls(request, self.cap_bytes)
        response = without_images(context.response.bytes())
        content = call.caller.content != "metadata"
        return Exchange(
            id=call.id,
            received=call.received,
            caller=call.caller.name,
            api=call.api,
            alias=call.alias,
            target=target_state.target,
            stream=call.stream,
            request=request if content else b"{}",
            response=response if content else b"",
            status=context.status,
            outcome=context.outcome,
            total_s=now - call.started,
            unit=route.drawn.unit,
            u=route.drawn.u,
            pi=chosen.pi,
            stratum=chosen.stratum,
            incarnation=self._recorder.incarnation,
            seq=self._recorder.seq,
            experiment=assignment.running.plan.name if assignment else None,
            plan=assignment.running.hash if assignment else None,
            arm=assignment.arm if assignment else None,
            cluster=cluster_of(call, assignment) if assignment else None,
            asked=offer.arms if offer else (),
            not_asked=offer.reason if offer else None,
            truncated=cut or context.response.truncated,
            spliced=context.spliced,
            usage=context.usage,
            client_id=call.client_id,
            attempts=tuple(context.attempts),
            first_token_s=None if context.first_content is None else context.first_content - call.started,
            reference=call.reference if content else None,
        )

    def _count(
        self, call: Call, endpoint: Endpoint, target_state: TargetState | None, context: CallContext, total_s: float
    ) -> None:
        alias, outcome = call.alias, context.outcome
        if target_state is None:
            self._metrics.counts.of(self._metrics.requests, alias, "none", outcome).n += 1
            return
        key = (alias, target_state.name, endpoint.operation)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._bound(alias, target_state, endpoint.operation)
        first = context.first_content
        first_s = first - call.started if first is not None and call.stream else None
        alone = len(context.attempts) <= 1
        series.waiting.append((outcome, total_s, context.overhead_s, first_s, context.usage, alone))
        if len(series.waiting) >= _FOLD:
            series.fold()
        if not alone:
            self._count_attempts(alias, context)

    def _bound(self, alias: str, target_state: TargetState, operation: str) -> CallMetrics:
        return CallMetrics(self._metrics, alias, target_state, operation, self._prices.of(target_state.target))

    def _count_attempts(self, alias: str, context: CallContext) -> None:
        """What each attempt cost, by the upstream that took its tokens."""
        m = self._metrics
        taken = [(a.target, a.usage) for a in context.attempts if a.usage is not None]
        costs = [(target.upstream, self._prices.cost(target, usage)) for target, usage in taken]
        for upstream, cost in costs:
            if cost is not None:
                m.counts.of(m.cost, alias, upstream).n += cost
        if not costs or any(cost is None for _, cost in costs):
            m.counts.of(m.unpriced, alias, context.attempts[-1].target.upstream).n += 1


def is_whole(assignment: Assignment, target_state: TargetState, context: CallContext) -> bool:
    """Served by the control at the first try, whole, to a client that stayed: what a candidate can be compared with."""
    return (
        target_state.target == assignment.running.plan.control
        and context.outcome == "ok"
        and context.status == 200
        and len(context.attempts) == 1
        and not context.spliced
    )


def stands_for(assignment: Assignment, target_state: TargetState, context: CallContext) -> bool:
    """In a split: answered, or failed, by the arm's target and by no other, for a client that stayed."""
    return (
        target_state.target == assignment.target
        and context.outcome != "client_gone"
        and not context.spliced
        and all(attempt.target == assignment.target for attempt in context.attempts)
    )


def cluster_of(call: Call, assignment: Assignment) -> str | None:
    """What depends on each other: a split's unit, else the conversation. None: nothing that the call says."""
    unit = assignment.unit if assignment.unit is not None else call.conversation
    return None if unit is None else sha256(unit.encode("utf-8", "surrogatepass")).hexdigest()[:16]
