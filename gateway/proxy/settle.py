"""The end of a call, processed exactly once: metrics, the record, the shadow. Called from one `finally`, in app.py."""

from __future__ import annotations

import time
from collections.abc import Container
from dataclasses import dataclass, field
from functools import partial

from gateway.core.completion import assemble
from gateway.core.exchange import CLIENT_ENDED, Exchange, cluster_digest, user_digest
from gateway.core.prices import Prices
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.dialects.vendor_records import recorded_form
from gateway.proxy.experiments.shadow import ShadowOffer, ShadowSender
from gateway.proxy.limits.accounting import FREE_APIS
from gateway.proxy.limits.charge import Charge, charge_of
from gateway.proxy.limits.limiter import Limiter
from gateway.proxy.recording.call_metrics import FOLD_AT, CallMetrics, CountedOutcome, counted_outcome
from gateway.proxy.recording.inline_media import without_data_urls, without_images
from gateway.proxy.recording.recorder import Recorder
from gateway.proxy.recording.redaction.redactor import LARGE
from gateway.proxy.recording.usage_ledger import UsageBooks
from gateway.proxy.relay.state import CallContext
from gateway.proxy.request.call import Call
from gateway.proxy.request.endpoints import Endpoint
from gateway.proxy.request.vendor_paths import VENDOR_APIS
from gateway.proxy.routing.assignment import Assignment, cluster_name
from gateway.proxy.routing.learned_routes import RouteChoice
from gateway.proxy.routing.router import Route
from gateway.proxy.routing.sampling import GUARD, CallEnding, Sampler
from gateway.proxy.routing.target_state import TargetState


@dataclass(slots=True)  # one for each recorded call: freezing it would cost more than filling it
class EndedCall:
    """A call that reached an upstream and has ended, with the probability and stratum of its alias's sampling."""

    call: Call
    route: Route
    context: CallContext
    target_state: TargetState
    now: float
    """Monotonic seconds."""
    pi: float
    stratum: str
    score_rate: float | None = None
    """Score rate, as in the record."""


@dataclass(slots=True)
class SamplingDecision:
    """The probability with which a call is recorded, and its role in an experiment."""

    pi: float
    stratum: str
    assignment: Assignment | None = None
    """The assignment to an arm; None if the exchange belongs to no experiment."""
    offer: ShadowOffer | None = None
    """The offer of a shadow; None if none was drawn."""


LEFT_RULES = 2  # the first rules of plans by which a call whose client left has an arm


@dataclass(slots=True)
class Settler:
    """Settles the calls of one config."""

    sampler: Sampler
    recorder: Recorder
    metrics: ProxyMetrics
    cap_bytes: int
    """Limit of each of an exchange's two bodies."""
    prices: Prices
    shadow: ShadowSender
    with_histograms: Container[str]
    """The upstreams that have histograms of their own."""
    books: UsageBooks
    limiter: Limiter
    _series: dict[tuple[str, str, str], CallMetrics] = field(default_factory=dict, init=False)
    """Metrics of calls, by alias, target and operation."""

    def settle(self, call: Call, endpoint: Endpoint, route: Route, context: CallContext) -> None:
        """Counts the call and, if it is sampled, records it. A call that reached no upstream leaves no exchange."""
        now = time.monotonic() if context.notes.ended_at is None else context.notes.ended_at
        if context.client_gone and context.outcome != "blocked":
            context.outcome = "client_gone"
        charge: Charge | None = None
        if context.reservation is not None:
            charge = context.charge = charge_of(call, context, self.prices, context.reservation.output)
            self.limiter.settle(context.reservation, charge)
            if charge is not None and route.tiered_down:
                charge.tiered = True
        target_state = context.target_state
        self._count(call, endpoint, route.scorer, target_state, context, now - call.started, charge)
        unsent = not context.attempts and context.outcome != "blocked"
        if target_state is None or unsent or not endpoint.carries_text:
            return
        if route.choice is not None:
            self._count_choice(call, route.choice)
        drawn = route.drawn
        pi, stratum = drawn.pi, drawn.stratum
        if self.sampler.reads_ending:
            pi, stratum = self.sampler.tail(drawn, call, self._ending(call, context, now))
        if context.guarded is not None and drawn.reason is None:
            rate, guard = context.guarded.record_rate()
            if rate > pi:
                pi, stratum = rate, f"{GUARD}:{guard}"
        if route.assignment is not None:
            kept = pi if drawn.kept is None else drawn.kept
            ended = EndedCall(call, route, context, target_state, now, kept, stratum)
            self._settle_assigned(ended, route.assignment)
            return
        score_rate = None
        if drawn.kept is not None:
            pi, score_rate = drawn.kept, pi
        reason = drawn.reason or (None if drawn.u < pi else "not_drawn")
        self.recorder.saw((stratum, call.alias, target_state.name, "", ""), reason)
        if reason is None:
            ended = EndedCall(call, route, context, target_state, now, pi, stratum, score_rate)
            self.recorder.put(self._exchange(ended, SamplingDecision(pi, stratum)))

    def _settle_assigned(self, ended: EndedCall, assignment: Assignment) -> None:
        """Settles a call of an experiment: later, between calls, if a shadow was drawn, since that takes longer.

        A large body is settled at once: only the recorder's buffer is bounded in bytes.
        """
        shadow, call, complete = self.shadow, ended.call, False
        shadow.answered(call, assignment, ended.context, ended.now)
        # Read now, drawn or not: π is that of both, and what is settled later would see more shadows.
        grouped = assignment.unit is not None or call.conversation is not None or call.run is not None
        if assignment.running.shadows and grouped:
            complete = shadow.complete(call, assignment)
        rest = partial(self._settle_in_experiment, ended, assignment, complete)
        waits = assignment.shadowed and not complete and len(call.body) <= LARGE
        if not waits or not shadow.later(rest):
            rest()

    def _settle_in_experiment(self, ended: EndedCall, assignment: Assignment, complete: bool) -> None:
        """Decides on the shadow, records the exchange with that decision, then sends the shadow.

        complete: the call's conversation may have no further shadow."""
        drawn = ended.route.drawn
        comparable = is_comparable(assignment, ended.target_state, ended.context)
        counts = (
            comparable if assignment.unit is None else counts_for_arm(assignment, ended.target_state, ended.context)
        )
        if assignment.unit is not None:
            self._count_split(assignment, ended.context, is_own_result(assignment, ended.target_state, ended.context))
        rate, pi, stratum = ended.pi, ended.pi, ended.stratum
        if counts and drawn.reason is None:
            rate, pi, stratum = assignment.inclusion(ended.pi, stratum, comparable and not complete)
        shadowed = assignment.shadowed and comparable and drawn.reason is None
        if shadowed and complete:
            self.shadow.leave_out(assignment)
        shadowed = shadowed and not complete
        sampled = shadowed or (drawn.reason is None and drawn.u < rate)
        cell = (stratum, ended.call.alias, ended.target_state.name, assignment.arm if counts else "", "")
        self.recorder.saw(cell, None if sampled else drawn.reason or "not_drawn")
        if not sampled:
            return
        offer = self.shadow.decide(ended.call, assignment, ended.context) if shadowed else None
        exchange = self._exchange(ended, SamplingDecision(pi, stratum, assignment if counts else None, offer))
        recorded = self.recorder.put(exchange)
        if offer is None:
            return
        if recorded:
            self.shadow.ask(assignment, offer, ended.call, ended.route, exchange)
        else:
            self.shadow.withdraw(assignment, offer)

    def _count_choice(self, call: Call, choice: RouteChoice) -> None:
        m, to = self.metrics, "moved" if choice.moved and choice.cascade is None else "control"
        m.counts.of(m.route_calls, call.alias, choice.route, choice.leaf, to).n += 1

    def _count_split(self, assignment: Assignment, context: CallContext, own: bool) -> None:
        """Counts every call of a split. own: see is_own_result."""
        result: str
        if context.outcome in CLIENT_ENDED:
            result = context.outcome
        elif not own:
            result = "continued" if context.spliced else "elsewhere"
        else:
            result = "ok" if context.outcome == "ok" and context.status == 200 else "failed"
        m = self.metrics
        m.counts.of(m.split, assignment.running.plan.name, assignment.arm, result).n += 1

    def _ending(self, call: Call, context: CallContext, now: float) -> CallEnding:
        first = context.first_content
        finish = None
        if self.sampler.reads_finish and context.response.enabled:
            api: str = call.api
            response = context.response.bytes()
            if api in VENDOR_APIS:
                api, _, response = recorded_form(call, call.alias, b"", response)
            finish = assemble(api, call.stream, response).finish_reason
        return CallEnding(context.outcome, finish, now - call.started, None if first is None else first - call.started)

    def _exchange(self, ended: EndedCall, decision: SamplingDecision) -> Exchange:
        call, context, drawn = ended.call, ended.context, ended.route.drawn
        assignment, offer = decision.assignment, decision.offer
        api: str = call.api
        request, response, cut = context.sent_body or call.body, context.response.bytes(), False
        if api in VENDOR_APIS:
            api, request, response = recorded_form(call, ended.target_state.target.model, request, response)
        if len(request) <= LARGE:  # the recorder makes larger ones smaller, on a thread
            request, cut = without_data_urls(request, self.cap_bytes)
        response = without_images(response)
        content = call.caller.content != "metadata"
        user, fields = None, call.fields
        if content and (call.user or "user" in fields or "safety_identifier" in fields or "metadata" in fields):
            user = digest_of_user(call)
        running = assignment.running if assignment else None
        first, run, choice = context.first_content, call.run, ended.route.choice
        return Exchange(  # positional: keywords would cost a sixth of this function
            call.id,
            call.received,
            call.caller.name,
            api,
            call.alias,
            ended.target_state.target,
            call.stream,
            request if content else b"{}",
            response if content else b"",
            context.status,
            context.outcome,
            ended.now - call.started,
            drawn.unit,
            drawn.u,
            decision.pi,
            decision.stratum,
            self.recorder.incarnation,
            self.recorder.seq,
            experiment=running.plan.name if running else None,
            plan=running.hash if running else None,
            arm=assignment.arm if assignment else None,
            cluster=cluster_of(call, assignment) if assignment else None,
            asked=offer.arms if offer else (),
            not_asked=offer.reason if offer else None,
            truncated=cut or context.response.truncated,
            spliced=context.spliced,
            usage=context.usage,
            client_id=call.client_id,
            attempts=tuple(context.attempts),
            first_token_s=None if first is None else first - call.started,
            reference=call.reference if content else None,
            request_digest=self._digest(context, ended.target_state, decision) if offer else None,
            user_digest=user,
            client_bytes=len(call.body) if assignment else None,
            run=None if run is None else run.id,
            run_source=None if run is None else run.source,
            score_rate=ended.score_rate,
            tags=" ".join(call.caller.call_tags) if call.caller.call_tags else None,
            route=choice.label if choice is not None else None,
            segments=assignment.segments.to_json() if assignment and assignment.segments else None,
            fell_back=True if choice is not None and ended.target_state.name != choice.target_name else None,
            guards=context.guarded.to_json() if context.guarded is not None else None,
            team=call.caller.team,
            tier="budget" if ended.route.tiered_down else None,
            gpu_seconds=self.prices.gpu_seconds_of_call(ended.target_state.target, context.usage, context.attempts),
        )

    def _digest(self, context: CallContext, target_state: TargetState, decision: SamplingDecision) -> str | None:
        """The digest of a served request that is also sent to shadow arms."""
        offer, assignment = decision.offer, decision.assignment
        if offer is None or not offer.arms or assignment is None:
            return None
        return self.shadow.digest(context.sent_body, target_state, assignment.running)

    def _count(
        self,
        call: Call,
        endpoint: Endpoint,
        scorer: str,
        target_state: TargetState | None,
        context: CallContext,
        total_s: float,
        charge: Charge | None,
    ) -> None:
        alias = call.alias
        outcome: CountedOutcome = "ok" if context.outcome == "ok" else counted_outcome(context)
        if target_state is None:
            self.metrics.counts.of(self.metrics.requests, alias, "none", outcome).n += 1
            self.metrics.ended[outcome] += 1
            return
        key = (alias, target_state.name, endpoint.operation)
        if key not in self._series:
            price = self.prices.of(target_state.target)
            own = target_state.target.upstream in self.with_histograms
            gpu = self.prices.gpu_of(target_state.target)
            self._series[key] = CallMetrics(
                self.books, alias, target_state, endpoint.operation, price, gpu=gpu, own_histograms=own
            )
        series = self._series[key]
        first = context.first_content
        first_s = first - call.started if first is not None and call.stream else None
        single, usage = not context.attempts[1:], context.usage
        if charge is None and (usage is None or not single or outcome != "ok" or call.api in FREE_APIS):
            charge = context.charge = charge_of(call, context, self.prices, self.limiter.most_output(call))
        series.waiting.append(
            (outcome, total_s, context.notes.overhead_s, first_s, usage, single, call.caller, scorer, charge)
        )
        if len(series.waiting) >= FOLD_AT:
            series.fold()
        if not single:
            self._count_attempts(alias, context)

    def _count_attempts(self, alias: str, context: CallContext) -> None:
        """Counts what each attempt cost, for the upstream that used the tokens."""
        m = self.metrics
        used = [(a.target, a.usage) for a in context.attempts if a.usage is not None]
        costs = [(target.upstream, self.prices.cost(target, usage)) for target, usage in used]
        for upstream, cost in costs:
            if cost is not None:
                m.counts.of(m.cost, alias, upstream).n += cost
        for target, usage in used if self.prices.gpu else []:
            m.counts.of(m.gpu_seconds, alias, target.upstream).n += self.prices.gpu_seconds(target, usage)
        if not costs or any(cost is None for _, cost in costs):
            m.counts.of(m.unpriced, alias, context.attempts[-1].target.upstream).n += 1


def is_comparable(assignment: Assignment, target_state: TargetState, context: CallContext) -> bool:
    """Whether a candidate's answer can be compared with this one.

    That is: the control has answered completely, at the first attempt, a client that stayed.
    """
    return (
        target_state.target == assignment.running.plan.control
        and context.outcome == "ok"
        and context.status == 200
        and len(context.attempts) == 1
        and not context.spliced
    )


def counts_for_arm(assignment: Assignment, target_state: TargetState, context: CallContext) -> bool:
    """Whether a call of a split counts for its arm.

    In a ramp it also counts where a fallback answered: for the arm that was asked for, as a failure of it. A call whose
    client left counts for the arm that it waited for; by the first rules of plans for none. One that a guard refused
    counts for none.
    """
    if context.outcome == "blocked":
        return False
    if context.outcome in CLIENT_ENDED:
        return assignment.running.plan.rules >= LEFT_RULES
    if assignment.running.plan.ramp is not None:
        return True
    return is_own_result(assignment, target_state, context)


def is_own_result(assignment: Assignment, target_state: TargetState, context: CallContext) -> bool:
    """Whether the client got the arm's own result: no other target answered or failed, and the client stayed."""
    return (
        target_state.target == assignment.target
        and context.outcome not in CLIENT_ENDED
        and not context.spliced
        and all(attempt.target == assignment.target for attempt in context.attempts if not attempt.declined)
    )


def digest_of_user(call: Call) -> str | None:
    """The digest of the end user whom the header or the body names; None: nobody."""
    fields = call.fields
    user = call.user or fields.get("user") or fields.get("safety_identifier")
    if user is None and isinstance(fields.get("metadata"), dict):
        user = fields["metadata"].get("user_id")
    return user_digest(user) if isinstance(user, str) and user else None


def cluster_of(call: Call, assignment: Assignment) -> str | None:
    """A digest of what makes calls depend on each other; None if nothing does."""
    name = cluster_name(call, assignment)
    return None if name is None else cluster_digest(name)
