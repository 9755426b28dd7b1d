"""The Prometheus series that ended calls raise, bound once for each alias, target and operation."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import partial
from typing import Literal

from gateway.config.metric_labels import MetricLabels
from gateway.core.exchange import Outcome, Usage
from gateway.core.prices import Price
from gateway.proxy.limits.charge import Charge
from gateway.proxy.recording.usage_ledger import PaidCall, UsageBooks, plain_charge
from gateway.proxy.relay.state import CallContext
from gateway.proxy.request.call import Caller
from gateway.proxy.routing.target_state import TargetState

FOLD_AT = 256
"""Calls buffered per series before they are folded into the counters."""

CountedOutcome = Outcome | Literal["client_error", "queue_full"]
"""The label `outcome` of gateway_requests_total. Of what a record calls an upstream's error, it separates bad requests
of the client and full queues of the gateway: neither is the upstream's failure."""

CallFigures = tuple[CountedOutcome, float, float, float | None, Usage | None, bool, Caller, str, Charge | None]
"""One ended call: its outcome, total seconds, the gateway's own seconds, seconds to a stream's first token, usage,
whether there was only one attempt, the caller, the scorer that made it ("" for none), and its cost (None: its usage at
the target's price, if the first attempt answered; else nothing). A plain tuple, because a named one costs two more
calls on the hot path."""

TracedFigures = tuple[CountedOutcome, float, float | None, float, int, str]
"""An ended call with a sampled trace: its outcome, total seconds, seconds to a stream's first token, the Unix time of
its arrival, its trace and its id."""

_ERROR_TYPE: dict[CountedOutcome, str] = {
    "ok": "",
    "client_gone": "client_gone",
    "client_deadline": "client_deadline",
    "blocked": "blocked",
    "upstream_error": "upstream_error",
    "timeout": "timeout",
    "cut": "stream_cut",
    "client_error": "client_error",
    "queue_full": "queue_full",
}
FAILED: frozenset[CountedOutcome] = frozenset({"upstream_error", "timeout", "cut", "queue_full"})
"""The outcomes that a client feels as a failure of the service."""

_NOT_OF_THE_CLIENT = frozenset({401, 408, 429})


def counted_outcome(context: CallContext) -> CountedOutcome:
    if context.outcome != "upstream_error":
        return context.outcome
    if context.notes.queue_full:
        return "queue_full"
    refused = 400 <= context.status < 500 and context.status not in _NOT_OF_THE_CLIENT
    return "client_error" if refused or context.notes.error_source == "request" else "upstream_error"


class CallMetrics:
    """The series of the calls of one alias to one target.

    Calls are appended to `waiting` and counted together, so that each costs an append and its share of a few sorts.
    """

    def __init__(
        self,
        books: UsageBooks,
        alias: str,
        target_state: TargetState,
        operation: str,
        price: Price | None,
        *,
        labels: MetricLabels,
        gpu: Price | None = None,
    ) -> None:
        """labels: the closed sets of the config. gpu: the target's price in GPU-seconds; None if it has none."""
        m = books.metrics
        self._books, self._alias, self._target = books, alias, target_state.target
        self._ended = m.ended
        counts, upstream = m.counts, target_state.target.upstream
        of_target = (alias, upstream, labels.model(alias, target_state.name))
        genai = (operation, target_state.upstream.config.provider.otel_name)
        shown_upstream, shown_alias = labels.histograms(alias, upstream)
        latency = (*genai, shown_upstream, shown_alias)
        self.waiting: list[CallFigures] = []
        self.traced: list[TracedFigures] = []
        """Calls with a sampled trace among `waiting`."""
        self._outcomes = {o: counts.of(m.requests, *of_target, o) for o in _ERROR_TYPE}
        self._duration = {o: counts.spread(m.duration, *latency, e) for o, e in _ERROR_TYPE.items()}
        self._overhead = counts.spread(m.overhead)
        self._first_token = counts.spread(m.first_token, *latency)
        self._per_token = counts.spread(m.per_token, *latency)
        self._sizes = [counts.spread(m.tokens_used, *genai, shown_upstream, kind) for kind in ("input", "output")]
        kinds = ("input", "output", "cached_input", "reasoning")
        self._tokens = [counts.of(m.tokens, *of_target, kind) for kind in kinds]
        self._unpriced = counts.of(m.unpriced, *of_target)
        self._price = price
        self._cost_of = partial(counts.of, m.cost, *of_target)
        self._cost = self._cost_of() if price is not None else None
        self._gpu = gpu
        self._gpu_seconds = counts.of(m.gpu_seconds, *of_target) if gpu is not None else None
        counts.batches.add(self)

    def fold(self) -> None:
        """Counts the calls that wait."""
        calls, self.waiting = self.waiting, []
        if not calls:
            return
        for outcome in {call[0] for call in calls}:
            seconds = [call[1] for call in calls if call[0] == outcome]
            self._outcomes[outcome].n += len(seconds)
            self._ended[outcome] += len(seconds)
            self._duration[outcome].observe_all(seconds)
        self._overhead.observe_all([call[2] for call in calls])
        self._keep_exemplars()
        self._count_streams(calls)
        self._count_tokens([call[4] for call in calls if call[4] is not None])
        self._count_cost(calls)
        self._books.add_calls(self._alias, self._target, self._paid(calls))

    def _keep_exemplars(self) -> None:
        """Keeps the newest traced call of each bucket, and of each failure. All in one function, since a traced call
        may cost three calls of functions."""
        traced, self.traced = self.traced, []
        first_token = self._first_token
        for outcome, total_s, first_s, received, trace, call in traced:
            spread, at = self._duration[outcome], received + total_s
            spread.exemplars_by_bucket[bisect_left(spread.bounds, total_s)] = (total_s, at, trace, call)
            if first_s is not None:
                bucket = bisect_left(first_token.bounds, first_s)
                first_token.exemplars_by_bucket[bucket] = (first_s, at, trace, call)
            if outcome in FAILED:
                self._outcomes[outcome].exemplar = (1.0, at, trace, call)

    def _paid(self, calls: list[CallFigures]) -> Iterator[PaidCall]:
        for outcome, _, _, _, usage, single, caller, scorer, charge in calls:
            if charge is not None:
                yield caller, scorer, charge
            elif single and usage is not None and outcome == "ok":
                yield caller, scorer, plain_charge(usage, self._price, self._gpu)

    def _count_streams(self, calls: list[CallFigures]) -> None:
        streams = [(call[1], call[3], call[4]) for call in calls if call[3] is not None]
        if streams:
            self._first_token.observe_all([first_s for _, first_s, _ in streams])
            each = ((t - f, u.output_tokens - 1) for t, f, u in streams if u is not None)
            self._per_token.observe_all([seconds / gaps for seconds, gaps in each if gaps > 0])

    def _count_tokens(self, usages: list[Usage]) -> None:
        inputs, outputs = [u.input_tokens for u in usages], [u.output_tokens for u in usages]
        tokens = self._tokens
        tokens[0].n += sum(inputs)
        tokens[1].n += sum(outputs)
        tokens[2].n += sum(u.cached_input_tokens or 0 for u in usages)
        tokens[3].n += sum(u.reasoning_tokens or 0 for u in usages)
        self._sizes[0].observe_all([*map(float, inputs)])
        self._sizes[1].observe_all([*map(float, outputs)])

    def _count_cost(self, calls: list[CallFigures]) -> None:
        """Counts calls with one attempt. The costs of several attempts are counted for the upstream of each."""
        single = [call[4] for call in calls if call[5]]
        known = [usage for usage in single if usage is not None]
        self._unpriced.n += len(single) - len(known)
        priced = [usage for usage in known if usage.usd is None]
        if len(priced) < len(known):
            self._cost_of().n += sum(usage.usd for usage in known if usage.usd is not None)
        if self._price is None or self._cost is None:
            self._unpriced.n += len(priced)
        else:
            self._cost.n += sum(map(self._price.cost, priced))
        if self._gpu is not None and self._gpu_seconds is not None:
            self._gpu_seconds.n += sum(map(self._gpu.cost, known))
