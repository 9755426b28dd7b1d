"""The end of a call, processed exactly once: metrics, the record, the shadow. Called from one `finally`, in app.py."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from gateway.config.metric_labels import OTHER, MetricLabels
from gateway.core.completion import assemble
from gateway.core.exchange import CLIENT_ENDED, Exchange, Target, cluster_digest, user_digest
from gateway.core.prices import Prices
from gateway.core.prompt_digest import prompt_digest
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.dialects.types import QuestionNote
from gateway.proxy.dialects.vendor_records import recorded_form
from gateway.proxy.experiments.shadow import ShadowSender
from gateway.proxy.limits.accounting import FREE_APIS
from gateway.proxy.limits.charge import Charge, charge_of
from gateway.proxy.limits.limiter import Limiter
from gateway.proxy.recording.answer_origin import note_origin
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
from gateway.proxy.routing.inclusion import ArmEnding, Inclusion, inclusion_in_experiment, inclusion_of_call
from gateway.proxy.routing.learned_routes import RouteChoice
from gateway.proxy.routing.router import Route
from gateway.proxy.routing.sampling import GUARD, CallEnding, SampleDraw, Sampler
from gateway.proxy.routing.target_state import TargetState


@dataclass(slots=True)  # one for each recorded call: freezing it would cost more than filling it
class EndedCall:
    """A call that reached an upstream and has ended."""

    call: Call
    route: Route
    context: CallContext
    target_state: TargetState
    now: float
    """Monotonic seconds."""


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
    labels: MetricLabels
    books: UsageBooks
    limiter: Limiter
    _series: dict[tuple[str, str, str], CallMetrics] = field(default_factory=dict, init=False)
    """Metrics of calls, by alias, target and operation."""
    _flips: dict[str, list[int]] = field(default_factory=dict, init=False)
    """Questions that were asked in both orders, by alias: those whose answer changed, and all."""

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
        self._count(call, endpoint, route, target_state, context, now - call.started, charge)
        unsent = not context.attempts and context.outcome != "blocked"
        if target_state is None or unsent or not endpoint.carries_text:
            return
        if route.choice is not None:
            self._count_choice(call, route.choice)
        drawn = route.drawn
        rate, stratum = drawn.rate, drawn.stratum
        if self.sampler.reads_ending or context.guarded is not None:
            rate, stratum = self._rate_at_end(call, drawn, context, now)
        if route.assignment is not None:
            ended = EndedCall(call, route, context, target_state, now)
            self._settle_assigned(ended, route.assignment, rate, stratum)
            return
        inclusion = inclusion_of_call(drawn, rate, stratum)
        self.recorder.saw((inclusion.stratum, call.alias, target_state.name, "", ""), inclusion.left_out)
        if inclusion.left_out is None:
            ended = EndedCall(call, route, context, target_state, now)
            self.recorder.put(self._exchange(ended, inclusion))

    def _rate_at_end(self, call: Call, drawn: SampleDraw, context: CallContext, now: float) -> tuple[float, str]:
        """The highest rate of all rules and guards that ask for the record of the call, and its stratum."""
        rate, stratum = drawn.rate, drawn.stratum
        if self.sampler.reads_ending:
            rate, stratum = self.sampler.tail(drawn, call, self._ending(call, context, now))
        if context.guarded is not None and drawn.reason is None:
            guard_rate, guard = context.guarded.record_rate()
            if guard_rate > rate:
                return guard_rate, f"{GUARD}:{guard}"
        return rate, stratum

    def _settle_assigned(self, ended: EndedCall, assignment: Assignment, rate: float, stratum: str) -> None:
        """Settles a call of an experiment: later, between calls, if a shadow was drawn, since that takes longer.

        A large body is settled at once: only the recorder's buffer is bounded in bytes. rate, stratum: of the rules.
        """
        call, complete = ended.call, False
        self.shadow.answered(call, assignment, ended.context, ended.now)
        # Read now, drawn or not: π is that of both, and what is settled later would see more shadows.
        grouped = assignment.unit is not None or call.conversation is not None or call.run is not None
        if assignment.running.shadows and grouped:
            complete = self.shadow.complete(call, assignment)
        arm = arm_ending(ended, assignment, complete=complete)
        inclusion = inclusion_in_experiment(ended.route.drawn, rate, stratum, arm)
        settle_arm = partial(self._settle_arm, ended, arm, inclusion)
        waits = assignment.shadowed and not complete and len(call.body) <= LARGE
        if not waits or not self.shadow.later(settle_arm):
            settle_arm()

    def _settle_arm(self, ended: EndedCall, arm: ArmEnding, inclusion: Inclusion) -> None:
        """Decides on the shadow, records the exchange with that decision, then sends the shadow."""
        assignment, call, context = arm.assignment, ended.call, ended.context
        if assignment.unit is not None:
            self._count_split(assignment, context, is_own_result(assignment, ended.target_state, context))
        if assignment.shadowed and arm.comparable and arm.complete and ended.route.drawn.reason is None:
            self.shadow.leave_out(assignment)
        self.recorder.saw(
            (inclusion.stratum, call.alias, ended.target_state.name, arm.arm or "", ""), inclusion.left_out
        )
        if inclusion.left_out is not None:
            return
        offer = self.shadow.decide(call, assignment, context) if inclusion.shadowed else None
        exchange = self._exchange(ended, inclusion)
        if arm.counts:
            note_arm(exchange, call, assignment)
        if offer is not None:
            exchange.asked, exchange.not_asked = offer.arms, offer.reason
            if offer.arms and arm.counts:
                running = assignment.running
                exchange.request_digest = self.shadow.digest(context.sent_body, ended.target_state, running)
                if running.prompt_key is not None:
                    exchange.prompt_digest = prompt_digest(call.body, running.prompt_key, running.hash)
        recorded = self.recorder.put(exchange)
        if offer is not None and recorded:
            self.shadow.ask(assignment, offer, call, ended.route, exchange)
        elif offer is not None:
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

    def _exchange(self, ended: EndedCall, inclusion: Inclusion) -> Exchange:
        call, context, drawn = ended.call, ended.context, ended.route.drawn
        target, content = ended.target_state.target, call.caller.content != "metadata"
        api: str = call.api
        request, response, cut = context.sent_body or call.body, context.response.bytes(), False
        if api in VENDOR_APIS:
            api, request, response = recorded_form(call, target.model, request, response)
        if len(request) <= LARGE:  # the recorder makes larger ones smaller, on a thread
            request, cut = without_data_urls(request, self.cap_bytes)
        exchange = Exchange(
            id=call.id,
            received=call.received,
            caller=call.caller.name,
            api=api,
            alias=call.alias,
            target=target,
            stream=call.stream,
            request=request if content else b"{}",
            response=without_images(response) if content else b"",
            status=context.status,
            outcome=context.outcome,
            total_s=ended.now - call.started,
            unit=drawn.unit,
            u=drawn.u,
            pi=inclusion.pi,
            stratum=inclusion.stratum,
            incarnation=self.recorder.incarnation,
            seq=self.recorder.seq,
        )
        # Assigned, since 26 further keywords would take twice as long as all of these assignments.
        exchange.truncated = cut or context.response.truncated
        exchange.score_rate = inclusion.score_rate
        if self.prices.gpu:
            exchange.gpu_seconds = self.prices.gpu_seconds_of_call(target, context.usage, context.attempts)
        if not content:
            note_origin(exchange, response)
        note_request(exchange, call, content=content)
        note_answer(exchange, ended)
        return exchange

    def _count(
        self,
        call: Call,
        endpoint: Endpoint,
        route: Route,
        target_state: TargetState | None,
        context: CallContext,
        total_s: float,
        charge: Charge | None,
    ) -> None:
        alias = call.alias
        outcome: CountedOutcome = "ok" if context.outcome == "ok" else counted_outcome(context)
        if target_state is None:
            self.metrics.counts.of(self.metrics.requests, alias, "none", "none", outcome).n += 1
            self.metrics.ended[outcome] += 1
            return
        key = (alias, target_state.name, endpoint.operation)
        try:
            series = self._series[key]
        except KeyError:
            series = self._series[key] = self._metrics_of(alias, target_state, endpoint.operation)
        first = context.first_content
        first_s = first - call.started if first is not None and call.stream else None
        single, usage = not context.attempts[1:], context.usage
        if charge is None and (usage is None or not single or outcome != "ok" or call.api in FREE_APIS):
            charge = context.charge = charge_of(call, context, self.prices, self.limiter.most_output(call))
        series.waiting.append(
            (outcome, total_s, context.notes.overhead_s, first_s, usage, single, call.caller, route.scorer, charge)
        )
        span = context.notes.span
        if span is not None and span.sampled:
            series.traced.append((outcome, total_s, first_s, call.received, span.trace, call.id))
        if len(series.waiting) >= FOLD_AT:
            series.fold()
        if context.notes.questions:
            self._count_questions(alias, context.notes.questions, route)
        if not single:
            self._count_attempts(alias, context)

    def _count_questions(self, alias: str, questions: Sequence[QuestionNote], route: Route) -> None:
        """Counts the questions of a decision that the gateway has read or translated."""
        m = self.metrics
        results: dict[tuple[str, str], int] = {}
        for note in questions:
            result = (note.kind, note.outcome)
            results[result] = results[result] + 1 if result in results else 1
        for (kind, outcome), n in results.items():
            m.counts.of(m.decision_questions, alias, kind, outcome).n += n
        if route.reads is None:
            return
        reading, compared = route.reads.reading, [note.flipped for note in questions if note.flipped is not None]
        m.counts.of(m.decision_reads, reading).n += len(questions) * (2 if compared else 1)
        masses = [note.label_mass for note in questions if note.label_mass is not None]
        if masses:
            shown = alias if alias in self.labels.histogram_aliases else OTHER
            m.counts.spread(m.decision_label_mass, shown, reading).observe_all(masses)
        if compared:
            flips = self._flips.setdefault(alias, [0, 0])
            flips[0] += sum(compared)
            flips[1] += len(compared)
            m.counts.set(m.decision_order_flips, flips[0] / flips[1], alias)

    def _metrics_of(self, alias: str, target_state: TargetState, operation: str) -> CallMetrics:
        target = target_state.target
        price, gpu = self.prices.of(target), self.prices.gpu_of(target)
        return CallMetrics(self.books, alias, target_state, operation, price, labels=self.labels, gpu=gpu)

    def _count_attempts(self, alias: str, context: CallContext) -> None:
        """Counts what each attempt cost, for the upstream that used the tokens."""
        m = self.metrics
        used = [(a.target, a.usage) for a in context.attempts if a.usage is not None]
        costs = [(target, self.prices.cost(target, usage)) for target, usage in used]
        for target, cost in costs:
            if cost is not None:
                m.counts.of(m.cost, *self._target_labels(alias, target)).n += cost
        for target, usage in used if self.prices.gpu else []:
            m.counts.of(m.gpu_seconds, *self._target_labels(alias, target)).n += self.prices.gpu_seconds(target, usage)
        if not costs or any(cost is None for _, cost in costs):
            m.counts.of(m.unpriced, *self._target_labels(alias, context.attempts[-1].target)).n += 1

    def _target_labels(self, alias: str, target: Target) -> tuple[str, str, str]:
        return alias, target.upstream, self.labels.model(alias, str(target))


def note_request(exchange: Exchange, call: Call, *, content: bool) -> None:
    """Fills the fields that the request gives. content: whether its content may be recorded."""
    fields, caller = call.fields, call.caller
    exchange.client_id, exchange.team = call.client_id, caller.team
    if call.run is not None:
        exchange.run, exchange.run_source = call.run.id, call.run.source
    if caller.call_tags:
        exchange.tags = " ".join(caller.call_tags)
    if content:
        exchange.reference = call.reference
        if call.user or "user" in fields or "safety_identifier" in fields or "metadata" in fields:
            exchange.user_digest = digest_of_user(call)


def note_answer(exchange: Exchange, ended: EndedCall) -> None:
    """Fills the fields that the course of the call gives."""
    context, route = ended.context, ended.route
    exchange.spliced, exchange.usage, exchange.attempts = context.spliced, context.usage, tuple(context.attempts)
    if context.first_content is not None:
        exchange.first_token_s = context.first_content - ended.call.started
    if route.choice is not None:
        exchange.route = route.choice.label
        exchange.fell_back = True if ended.target_state.name != route.choice.target_name else None
    if route.tiered_down:
        exchange.tier = "budget"
    if context.guarded is not None:
        exchange.guards = context.guarded.to_json()
    if context.notes.decision and context.outcome == "ok" and ended.call.caller.content != "metadata":
        exchange.decision = context.notes.decision


def note_arm(exchange: Exchange, call: Call, assignment: Assignment) -> None:
    """Fills the fields of a call that counts for its arm."""
    plan = assignment.running.plan
    exchange.experiment, exchange.plan, exchange.arm = plan.name, assignment.running.hash, assignment.arm
    exchange.cluster = cluster_of(call, assignment)
    exchange.client_bytes = len(call.body)
    if assignment.segments:
        exchange.segments = assignment.segments.to_json()


def arm_ending(ended: EndedCall, assignment: Assignment, *, complete: bool) -> ArmEnding:
    """The end of a call of an experiment. complete: as in the result.

    A call that is neither drawn for an arm nor may have a shadow counts for none: a split's candidate is stopped.
    """
    target_state, context, shadows = ended.target_state, ended.context, assignment.running.shadows
    comparable = is_comparable(assignment, target_state, context)
    drawn = assignment.unit is not None
    counts = counts_for_arm(assignment, target_state, context) if drawn else comparable and shadows
    return ArmEnding(assignment, comparable, counts, complete)


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
