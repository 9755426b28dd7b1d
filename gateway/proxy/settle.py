"""The end of a call, seen exactly once: metrics, the record, the shadow. Called from one `finally`."""

from __future__ import annotations

import time
from dataclasses import dataclass

from gateway.assembly import assemble
from gateway.exchange import Exchange, Outcome, Target, Usage
from gateway.metrics import ProxyMetrics
from gateway.proxy.apis import Endpoint
from gateway.proxy.call import Call
from gateway.proxy.experiments import Plan
from gateway.proxy.places import Place
from gateway.proxy.progress import Progress
from gateway.proxy.recorder import Recorder
from gateway.proxy.redact import without_data_urls
from gateway.proxy.routing import Route
from gateway.proxy.sampling import Ending, Sampler

_ERROR_TYPE: dict[Outcome, str] = {
    "ok": "",
    "client_gone": "client_gone",
    "upstream_error": "upstream_error",
    "timeout": "timeout",
    "cut": "stream_cut",
}


class CallSeries:
    """The series that calls of one alias at one target raise, bound once."""

    def __init__(self, m: ProxyMetrics, alias: str, place: Place, operation: str) -> None:
        counts, upstream = m.counts, place.target.upstream
        genai = (operation, place.upstream.config.vendor.provider, alias, place.target.model)
        self.ended = {o: counts.of(m.requests, alias, upstream, o) for o in _ERROR_TYPE}
        self.duration = {o: counts.spread(m.duration, *genai, e) for o, e in _ERROR_TYPE.items()}
        self.overhead = counts.spread(m.overhead)
        self.first_token = counts.spread(m.first_token, *genai)
        self.per_token = counts.spread(m.per_token, *genai)
        self._sizes = [counts.spread(m.tokens_used, *genai, kind) for kind in ("input", "output")]
        self._tokens = [
            counts.of(m.tokens, alias, upstream, k) for k in ("input", "output", "cached_input", "reasoning")
        ]

    def took(self, usage: Usage) -> None:
        sizes, tokens = self._sizes, self._tokens
        sizes[0].observe(usage.input_tokens)
        sizes[1].observe(usage.output_tokens)
        tokens[0].n += usage.input_tokens
        tokens[1].n += usage.output_tokens
        tokens[2].n += usage.cached_input_tokens or 0
        tokens[3].n += usage.reasoning_tokens or 0


@dataclass(frozen=True, slots=True)
class Settled:
    """How a call ended. exchange: its record, when it was sampled. eligible: its shadow may be asked now."""

    exchange: Exchange | None
    eligible: bool


class Settler:
    """cap_bytes: of each of an exchange's two bodies."""

    def __init__(self, sampler: Sampler, recorder: Recorder, metrics: ProxyMetrics, cap_bytes: int) -> None:
        self._sampler = sampler
        self._recorder = recorder
        self._metrics = metrics
        self.cap_bytes = cap_bytes
        self._series: dict[tuple[str, Target, str], CallSeries] = {}

    def settle(self, call: Call, endpoint: Endpoint, route: Route, progress: Progress) -> Settled:
        """Counts the call and, when it is sampled, records it. A call that reached no upstream leaves no exchange."""
        now = time.monotonic()
        place = progress.place
        self._count(call, endpoint, place, progress, now - call.started)
        if place is None or not progress.attempts or not endpoint.carries_text:
            return Settled(None, False)
        return self._sample(call, route, progress, place, now)

    def _sample(self, call: Call, route: Route, progress: Progress, place: Place, now: float) -> Settled:
        drawn = route.drawn
        own_pi, stratum = self._sampler.tail(drawn, call, self._ending(call, progress, now))
        pi = own_pi
        plan = route.plan if route.plan is not None and is_eligible(route.plan, place, progress) else None
        shadowed = plan is not None and route.shadowed and drawn.reason is None
        if plan is not None and drawn.reason is None:
            # Recorded when either draw says so; the two are independent, so this is the union's probability.
            pi, stratum = 1 - (1 - pi) * (1 - plan.shadow), f"{stratum}+{plan.name}"
        sampled = drawn.reason is None and (shadowed or drawn.u < own_pi)
        cell = (stratum, call.alias, place.name, "control" if plan else "", "")
        self._recorder.saw(cell, None if sampled else drawn.reason or "not_drawn")
        if not sampled:
            return Settled(None, False)
        exchange = self._exchange(call, route, progress, place, pi, stratum, plan, now)
        self._recorder.put(exchange)
        return Settled(exchange, shadowed)

    def _ending(self, call: Call, progress: Progress, now: float) -> Ending:
        first = progress.first_content
        finish = None
        if self._sampler.reads_finish and progress.kept.wanted:
            finish = assemble(call.api, call.stream, progress.kept.bytes()).finish_reason
        return Ending(progress.outcome, finish, now - call.started, None if first is None else first - call.started)

    def _exchange(
        self, call: Call, route: Route, progress: Progress, place: Place, pi: float, stratum: str, plan: Plan | None,
        now: float,
    ) -> Exchange:  # fmt: skip
        request, cut = without_data_urls(progress.sent_body or call.body, self.cap_bytes)
        response = progress.kept.bytes()
        content = call.caller.content != "metadata"
        return Exchange(
            id=call.id, received=call.received, caller=call.caller.name, api=call.api, alias=call.alias,
            target=place.target, stream=call.stream,
            request=request if content else b"{}", response=response if content else b"",
            status=progress.status, outcome=progress.outcome, total_s=now - call.started,
            unit=route.drawn.unit, u=route.drawn.u, pi=pi, stratum=stratum,
            incarnation=self._recorder.incarnation, seq=self._recorder.seq,
            experiment=plan.name if plan else None, plan=plan.hash if plan else None,
            arm="control" if plan else None,
            truncated=cut or progress.kept.truncated, spliced=progress.spliced, usage=progress.usage,
            client_id=call.client_id, attempts=tuple(progress.attempts),
            first_token_s=None if progress.first_content is None else progress.first_content - call.started,
        )  # fmt: skip

    def _count(self, call: Call, endpoint: Endpoint, place: Place | None, progress: Progress, total_s: float) -> None:
        alias, outcome = call.alias, progress.outcome
        if place is None:
            self._metrics.counts.of(self._metrics.requests, alias, "none", outcome).n += 1
            return
        key = (alias, place.target, endpoint.operation)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = CallSeries(self._metrics, alias, place, endpoint.operation)
        series.ended[outcome].n += 1
        series.overhead.observe(progress.overhead_s)
        series.duration[outcome].observe(total_s)
        usage = progress.usage
        if progress.first_content is not None and call.stream:
            first_s = progress.first_content - call.started
            series.first_token.observe(first_s)
            if usage is not None and usage.output_tokens > 1:
                series.per_token.observe((total_s - first_s) / (usage.output_tokens - 1))
        if usage is not None:
            series.took(usage)


def is_eligible(plan: Plan, place: Place, progress: Progress) -> bool:
    """Served by the control target at the first try, whole, to a client that stayed."""
    return (
        place.target == plan.control
        and progress.outcome == "ok"
        and progress.status == 200
        and len(progress.attempts) == 1
        and not progress.spliced
    )
