"""Sends a call's shadow requests once the served answer has ended, and records their answers.

All of it runs in an IdleQueue, in pieces, between the calls that clients wait for: deciding and recording the served
answer, starting each arm, recording its answer. A shadow never waits for capacity: a request that does not fit at the
decision is not sent, and is counted. Either all arms of a call are sent or none. Each arm that is sent leaves one
exchange, also if it fails.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from gateway.config.config import Retries
from gateway.core.completion import assemble
from gateway.core.errors import GatewayError, StreamDown
from gateway.core.exchange import DECLINED, Attempt, Exchange, Target, Usage
from gateway.core.likelihood import ADAPTER, GENERATION_DIFFERS, AnswerLikelihood
from gateway.core.plan import AGAIN, REPEAT
from gateway.core.prices import Prices
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.experiments.budget import ShadowedConversations, ShadowSpending, usage_or_guess
from gateway.proxy.experiments.engines import Engines, differs, generation_of, generation_request
from gateway.proxy.experiments.guard_copies import refusal_copy, tied_copy, why_no_copy
from gateway.proxy.experiments.idle_queue import IdleQueue, IdleTask
from gateway.proxy.experiments.latency_gate import LatencyGate
from gateway.proxy.experiments.prompt_likelihood import PromptLikelihood, prompt_likelihood, scored_tokens
from gateway.proxy.experiments.shadow_request import (
    MOST_BYTES,
    Scorable,
    asked_again,
    has_effects,
    likelihood_request,
    request_digest,
    scorable,
)
from gateway.proxy.limits.charge import Charge
from gateway.proxy.recording.answer_origin import note_origin
from gateway.proxy.recording.inline_media import without_data_urls, without_images
from gateway.proxy.recording.recorder import Recorder
from gateway.proxy.recording.redaction.redactor import LARGE
from gateway.proxy.recording.usage_ledger import UsageBooks
from gateway.proxy.relay.relay import Relay
from gateway.proxy.relay.state import CallContext, HeldBytes
from gateway.proxy.request.call import Call
from gateway.proxy.routing.assignment import Assignment, RunningExperiment, arms_asked, cluster_name
from gateway.proxy.routing.learned_routes import RouteChoice
from gateway.proxy.routing.router import Route, RouteOption, Router
from gateway.proxy.routing.target_state import TargetState
from gateway.proxy.types import DetachedClient
from gateway.runtime.tasks import Tasks

_REQUESTS_OF_A_TURN = 5
"""At an engine that is asked for a likelihood: with two comparisons of its own text."""


@dataclass(slots=True)
class ShadowState:
    """The state of this process's shadows, by experiment. It outlives configs."""

    spending: ShadowSpending = field(default_factory=ShadowSpending)
    running: Counter[str] = field(default_factory=Counter)
    tasks: defaultdict[str, set[asyncio.Task[None]]] = field(default_factory=lambda: defaultdict(set))
    gates: defaultdict[str, LatencyGate] = field(default_factory=lambda: defaultdict(LatencyGate))
    conversations: defaultdict[str, ShadowedConversations] = field(
        default_factory=lambda: defaultdict(ShadowedConversations)
    )
    engines: Engines = field(default_factory=Engines)
    """The engines that are asked for likelihoods."""
    digest_key: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    """The key of the digests of requests; it never leaves the process."""

    def kill(self, experiment: str) -> None:
        """Cancels the experiment's shadow requests in flight; they leave no exchange."""
        for task in self.tasks.pop(experiment, ()):
            task.cancel()


@dataclass(frozen=True, slots=True)
class ShadowOffer:
    """The decision about one drawn shadow."""

    arms: tuple[str, ...]
    """The arms to send, in that order; (): none."""
    reason: str | None = None
    """Reason why none is sent."""
    answer: str | None = None
    """The served answer, whose likelihood the arms are asked for; None means that they are asked for answers."""


@dataclass(frozen=True, slots=True)
class AskedArm:
    """One shadow request that was sent."""

    running: RunningExperiment
    arm: str
    target_state: TargetState
    served: Exchange
    call: Call
    """The served call as the arm was asked it."""
    context: CallContext
    choice: RouteChoice | None = None
    """Decision of the arm's learned route; None if the arm is one target."""

    def decided(self) -> RouteChoice | None:
        """Returns the decision of the arm's route; that of a cascade depends on the answer."""
        choice, context = self.choice, self.context
        if choice is None or choice.cascade is None or context.outcome != "ok" or context.response.truncated:
            return choice
        return choice.cascade.decided(self.call, context.response.bytes())


@dataclass(slots=True)
class ShadowSender:
    """Sends the shadows of one config."""

    router: Router
    relay: Relay
    recorder: Recorder
    metrics: ProxyMetrics
    tasks: Tasks
    cap_bytes: int
    prices: Prices
    shadow_state: ShadowState
    rng: random.Random
    idle_queue: IdleQueue
    books: UsageBooks
    _running: int = field(default=0, init=False)
    _given_up: bool = field(default=False, init=False)

    @property
    def running(self) -> int:
        """Shadow requests of this config in flight, plus tasks queued for them."""
        return self._running + len(self.idle_queue)

    def give_up(self) -> None:
        """Starts no more shadows, because the process stops. The gateway is about to cut those in flight, which says
        nothing about the candidate, so they are not recorded."""
        self._given_up = True
        self.idle_queue.empty()

    def later(self, task: IdleTask) -> bool:
        """Queues the rest of a call's settlement. False if the queue is full, so the caller does it now."""
        return not self._given_up and self.idle_queue.later(task)

    def decide(self, call: Call, assignment: Assignment, context: CallContext) -> ShadowOffer:
        """Decides on a drawn shadow. The offer holds its share of the concurrency until ask() or withdraw().

        context: of the served call, whose answer an experiment of likelihoods reads."""
        running = self.router.experiments.still(assignment.running) or assignment.running
        arms = arms_asked(running, call.id)
        scored = _scorable(call, context) if running.plan.likelihood else None
        reason = (scored.why_not if scored else None) or self._why_not(call, running, arms, context)
        if reason is not None:
            self._count(running, "", f"not_offered_{reason}")
            return ShadowOffer((), reason)
        if not running.guards:
            self.shadow_state.running[running.plan.name] += len(arms)
            self._running += len(arms)
        return ShadowOffer(tuple(self.rng.sample(arms, len(arms))), answer=scored.answer if scored else None)

    def complete(self, call: Call, assignment: Assignment) -> bool:
        """Whether the call's conversation counts no further pair, so that the call may have no shadow."""
        running, name = assignment.running, _conversation(call, assignment)
        if name is None:
            return False
        return self.shadow_state.conversations[running.plan.name].complete(running.hash, name, call.received)

    def leave_out(self, assignment: Assignment) -> None:
        """Counts a drawn shadow that is not sent, since the conversation is complete. There is no pair."""
        self._count(assignment.running, "", "not_offered_conversation_complete")

    def count_ineligible(self, running: RunningExperiment, reason: str) -> None:
        """Counts a call that an arm cannot be asked, so that it is outside the experiment."""
        self._count(running, "", f"ineligible_{reason}")

    def _why_not(
        self, call: Call, running: RunningExperiment, arms: tuple[str, ...], context: CallContext
    ) -> str | None:
        if self._given_up or self.idle_queue.full:
            return "busy"
        if running.guards:
            return self._why_no_copies(call, running, arms, context)
        name, settings = running.plan.name, running.settings
        target_states = [self.router.target_state(target) for arm in arms for target in _targets(running, arm)]
        if self.router.experiments.still(running) is None:
            return "kill"
        if not arms:
            return "all_dropped"
        if not running.allows(call):
            return "not_allowed"
        if has_effects(call):
            return "has_effects"
        if not all(target_state.ready for target_state in target_states):
            return "target_down"
        if running.plan.likelihood and any(map(self.shadow_state.engines.is_adapter, target_states)):
            return "adapter"
        slowed = settings.gate.latency and not self.shadow_state.gates[name].open
        if slowed or any(_loaded(target_state, settings.gate.load) for target_state in target_states):
            return "gate"
        if self.shadow_state.spending.over(name, settings.budget) or self._unpriced(running, target_states):
            return "budget"
        full = self.shadow_state.running[name] + len(arms) > settings.shadow_concurrency
        return "busy" if full or not _admitted(target_states) else None

    def _why_no_copies(
        self, call: Call, running: RunningExperiment, arms: tuple[str, ...], context: CallContext
    ) -> str | None:
        """Reason why a call of a plan whose candidates are guards makes no pair. Nothing is sent, so no capacity is
        needed.
        """
        if self.router.experiments.still(running) is None:
            return "kill"
        if not running.allows(call):
            return "not_allowed"
        decisions = "" if context.guarded is None else context.guarded.to_json()
        return next((why for arm in arms if (why := why_no_copy(running.guards[arm], call, decisions))), None)

    def _unpriced(self, running: RunningExperiment, target_states: list[TargetState]) -> bool:
        """A budget in USD cannot limit a target without a price."""
        limited = running.settings.budget.usd_per_day is not None
        return limited and any(self.prices.of(target_state.target) is None for target_state in target_states)

    def withdraw(self, assignment: Assignment, offer: ShadowOffer) -> None:
        """The served exchange was not recorded, so there can be no pair."""
        for _ in () if assignment.running.guards else offer.arms:
            self._ended(assignment.running.plan.name)
        if offer.arms:
            self._count(assignment.running, "", "not_offered_not_recorded")

    def digest(self, body: bytes, target_state: TargetState, running: RunningExperiment) -> str | None:
        """The digest by which the requests of a pair are compared. body: as sent to this target."""
        dialect = target_state.upstream.config.provider.dialect
        return request_digest(body, dialect, self.shadow_state.digest_key, running.varied)

    def ask(self, assignment: Assignment, offer: ShadowOffer, call: Call, route: Route, served: Exchange) -> None:
        """Queues the requests of an offer's arms. Returns at once."""
        running, name = assignment.running, _conversation(call, assignment)
        if offer.arms and name is not None:
            self.shadow_state.conversations[running.plan.name].add(running.hash, name, call.received)
        for arm in offer.arms:
            if arm in running.guards:
                self.idle_queue.do(partial(self._record_guarded, call, running, arm, served))
                continue
            choice = running.routes[arm].choose(call) if arm in running.routes else None
            if choice is not None and choice.target == running.plan.control:
                self.idle_queue.do(partial(self._record_tie, call, running, arm, served, choice))
            else:
                self.idle_queue.do(partial(self._begin, call, route, running, arm, served, offer.answer))

    def _record_tie(
        self, call: Call, running: RunningExperiment, arm: str, served: Exchange, choice: RouteChoice
    ) -> None:
        """Records the served answer as the arm's: its route keeps the control, so a request would be the same."""
        self._ended(running.plan.name)
        self._put_copy(call, replace(tied_copy(served, running, arm), route=choice.label))
        self._count(running, arm, "tied")

    def _record_guarded(self, call: Call, running: RunningExperiment, arm: str, served: Exchange) -> None:
        """Records what the caller would have got if the guard had blocked: the served answer, or its refusal."""
        refusal = refusal_copy(served, running, arm)
        self._put_copy(call, refusal or tied_copy(served, running, arm))
        self._count(running, arm, "tied" if refusal is None else "refused")

    def _put_copy(self, call: Call, copy: Exchange) -> None:
        exchange = replace(copy, seq=self.recorder.seq)
        self.recorder.saw((exchange.stratum, call.alias, str(exchange.target), str(exchange.arm), ""), None)
        self.recorder.put(exchange)

    def _record_declined(self, asked: AskedArm, choice: RouteChoice | None, total_s: float) -> None:
        """Records the served answer as the arm's, whose cascade or decision model has been paid for another one before.

        total_s: of the first target's answer; a client would have waited for both."""
        served, context, target = asked.served, asked.context, asked.target_state.target
        usage = usage_or_guess(_paid(context), context.sent_body, context.response.bytes())
        first = Attempt(target, context.status, DECLINED, total_s, usage)
        tie = replace(tied_copy(served, asked.running, asked.arm), route=None if choice is None else choice.label)
        waited = served.first_token_s if served.first_token_s is None else total_s + served.first_token_s
        self._put_copy(
            asked.call,
            replace(tie, attempts=(first, *served.attempts), total_s=total_s + served.total_s, first_token_s=waited),
        )
        self._count(asked.running, asked.arm, "asked")

    def _begin(
        self, call: Call, route: Route, running: RunningExperiment, arm: str, served: Exchange, answer: str | None
    ) -> None:
        name = running.plan.name
        if self._given_up or self.router.experiments.still(running) is None:
            self._ended(name)
            self._count(running, arm, "given_up")
            return
        gate = self.shadow_state.gates[name]
        gate.began()
        task = self.tasks.start(self._ask(call, route, running, arm, served, answer), f"shadow {name} {arm}")
        self.shadow_state.tasks[name].add(task)
        # Not in the coroutine's own `finally`, which does not run if the task is cancelled before its first step.
        task.add_done_callback(lambda task: self._done(name, gate, task))

    def _done(self, name: str, gate: LatencyGate, task: asyncio.Task[None]) -> None:
        gate.ended(time.time())
        self.shadow_state.tasks[name].discard(task)
        self._ended(name)

    def _ended(self, name: str) -> None:
        self.shadow_state.running[name] -= 1
        self._running -= 1

    def answered(self, call: Call, assignment: Assignment, context: CallContext, now: float) -> None:
        """Tells the latency gate how long a served call of an experiment took. now: monotonic seconds, at its end."""
        if not assignment.running.settings.gate.latency or not assignment.running.shadows:
            return
        first = context.first_content
        seconds = (first if call.stream and first is not None else now) - call.started
        gate = self.shadow_state.gates[assignment.running.plan.name]
        gate.answered(call.stream, call.received, call.received + now - call.started, seconds)

    async def _ask(
        self, call: Call, route: Route, running: RunningExperiment, arm: str, served: Exchange, answer: str | None
    ) -> None:
        choice = running.routes[arm].choose(call) if arm in running.routes else None
        target_state = self.router.target_state(running.plan.target(arm) if choice is None else choice.target)
        scored = answer is not None  # then the engine is asked for a likelihood
        total_s = running.plan.deadline_s or route.timeouts.total_s
        alone = replace(
            route,
            candidates=(RouteOption(target_state, frozenset()),),
            timeouts=route.timeouts.model_copy(update={"total_s": total_s}),
            retries=Retries(attempts=1),
            on_cut="error",
            total_shortened=route.total_shortened and running.plan.deadline_s is None,
            shadow_of=running.plan.name,
            obeys=bool(running.plan.obeyed_by(arm)),
            choice=None,
        )
        asked = AskedArm(running, arm, target_state, served, call, _context(scored, self.cap_bytes), choice)
        read: PromptLikelihood | None = None
        try:
            if answer is None:
                asked = replace(asked, call=asked_again(call, target_state))
                await self._send(asked, alone)
            else:
                asked, read = await self._scored(asked, alone, answer)
        except asyncio.CancelledError:
            self._count(running, arm, "given_up")
            raise
        except StreamDown:  # whether another process asks this engine now cannot be known
            self._count(running, arm, "given_up")
            return
        if self._given_up:
            self._count(running, arm, "given_up")
            return
        self.idle_queue.do(partial(self._record, asked, time.monotonic() - asked.call.started, read))

    async def _send(self, asked: AskedArm, alone: Route) -> None:
        """Sends one request. Its failure is in its context: it is this arm's result."""
        with suppress(GatewayError):
            await self.relay.ask(asked.call, alone, DetachedClient(), asked.context, held=True)
        self._spent(asked)

    async def _scored(self, asked: AskedArm, alone: Route, answer: str) -> tuple[AskedArm, PromptLikelihood]:
        """Asks an engine for the likelihood of the served answer, while nobody else asks it for one.

        asked: with the client's call. Returns it with the call that was sent. Raises StreamDown."""
        engines, target_state = self.shadow_state.engines, asked.target_state
        async with engines.turn(target_state, _REQUESTS_OF_A_TURN * alone.timeouts.total_s):
            scoring = replace(asked, call=likelihood_request(asked.call, target_state, answer))
            if await engines.parent(target_state):
                scoring.context.outcome = "upstream_error"
                return scoring, PromptLikelihood(AnswerLikelihood(refused=ADAPTER))
            if asked.arm == REPEAT and engines.due(target_state) and await self._contradicts(asked, alone):
                scoring.context.status = 200
                return scoring, PromptLikelihood(AnswerLikelihood(refused=GENERATION_DIFFERS))
            await self._send(scoring, alone)
        return scoring, await self._likelihood(scoring.context, answer, asked.served)

    async def _contradicts(self, asked: AskedArm, alone: Route) -> bool:
        """Whether the control gives its own text other log-probabilities as a prompt than when it wrote it, twice."""
        for _ in range(2):
            writes = replace(asked, call=generation_request(asked.call), context=_context(True, self.cap_bytes))
            await self._send(writes, alone)
            generation = generation_of(writes.context.response.bytes()) if writes.context.status == 200 else None
            if generation is None:
                return False
            call = likelihood_request(asked.call, asked.target_state, generation.text)
            scores = replace(asked, call=call, context=_context(True, self.cap_bytes))
            await self._send(scores, alone)
            found = scored_tokens(scores.context.response.bytes(), scores.context.status, generation.text)
            if not differs(generation, found):
                return False
        return True

    async def _likelihood(self, context: CallContext, answer: str, served: Exchange) -> PromptLikelihood:
        """Reads an engine's response about the served answer; on a thread where it is large."""
        if context.response.truncated:
            return PromptLikelihood(AnswerLikelihood(refused="too_large"))
        response = context.response.bytes()
        read = partial(prompt_likelihood, response, context.status, answer, served.id, self.shadow_state.digest_key)
        return await asyncio.to_thread(read) if len(response) > LARGE else read()

    def _spent(self, asked: AskedArm) -> None:
        context, target, name, arm = asked.context, asked.target_state.target, asked.running.plan.name, asked.arm
        if _paid(context) is None and context.status != 200:
            return
        usage = usage_or_guess(_paid(context), context.sent_body, context.response.bytes())
        usd = self.prices.cost(target, usage)
        self.shadow_state.spending.took(name, usage, usd)
        m = self.metrics
        m.counts.of(m.shadow_tokens, name, arm).n += usage.input_tokens + usage.output_tokens
        m.counts.of(m.shadow_cost, name, arm).n += usd or 0.0
        cached, reasoning = usage.cached_input_tokens or 0, usage.reasoning_tokens or 0
        seconds = self.prices.gpu_seconds(target, usage)
        charge = Charge(usage.input_tokens, cached, usage.output_tokens, reasoning, usd, context.usage is None, seconds)
        self.books.add_shadow(asked.call.alias, target, name, arm, charge)

    def _record(self, asked: AskedArm, total_s: float, read: PromptLikelihood | None) -> None:
        """read: the arm's likelihood of the served answer, if it was asked for that."""
        choice = asked.decided()
        if (choice is not None and not choice.moved) or _declined(asked.context):
            self._record_declined(asked, choice, total_s)
            return
        call, running, arm, context = asked.call, asked.running, asked.arm, asked.context
        request, cut = context.sent_body, False
        form_of = asked.target_state  # a decision is recorded as the client's request, in the form of the control's
        if form_of.target.decides:
            form_of = self.router.target_state(running.plan.control)
        digest = self.digest(request, form_of, running) if request and read is None else None
        if len(request) <= LARGE:
            request, cut = without_data_urls(request, self.cap_bytes)
        content = call.caller.content != "metadata"
        first, plan = context.first_content, running.plan
        repeat = arm in (REPEAT, AGAIN)
        response = without_images(context.response.bytes()) if read is None else read.response
        share = plan.scored_twice if arm == AGAIN else plan.repeat_control if repeat else 1.0
        exchange = replace(
            asked.served,
            id=call.id,
            received=call.received,
            target=asked.target_state.target,
            role="control" if repeat else "shadow",
            arm=arm,
            pair=asked.served.id,
            asked=(),
            not_asked=None,
            form="raw",
            request=request if content else b"{}",
            response=response if content else b"",
            stream=call.stream,
            truncated=cut or context.response.truncated,
            spliced=False,
            status=context.status,
            outcome=context.outcome,
            usage=context.usage,
            attempts=tuple(context.attempts),
            total_s=total_s,
            first_token_s=None if first is None else first - call.started,
            pi=(plan.shadow if running.thinned is None else running.thinned) * share,
            stratum=f"{'repeat' if repeat else 'shadow'}:{plan.name}",
            seq=self.recorder.seq,
            request_digest=digest,
            likelihood=None if read is None else read.likelihood.to_json(),
            gpu_seconds=self.prices.gpu_seconds_of_call(asked.target_state.target, context.usage, context.attempts),
            route=None if choice is None else choice.label,
            decision=context.notes.decision or None if content and context.outcome == "ok" else None,
            fingerprint=None,
            model_returned=None,
        )
        if not content:
            note_origin(exchange, response)
        self.recorder.saw((exchange.stratum, call.alias, asked.target_state.name, arm, ""), None)
        self.recorder.put(exchange)
        self._count(running, arm, "asked" if context.outcome == "ok" else "asked_failed")

    def _count(self, running: RunningExperiment, arm: str, result: str) -> None:
        """arm: "" if no arm was sent."""
        self.metrics.counts.of(self.metrics.shadow, running.plan.name, arm, result).n += 1
        self.shadow_state.spending.counted(running.hash, f"{arm}:{result}" if arm else result)


def _declined(context: CallContext) -> bool:
    """Whether a decision model has answered, and its answer was not accepted."""
    return bool(context.attempts) and context.attempts[-1].declined


def _paid(context: CallContext) -> Usage | None:
    """The usage of an answer, also of one that was not accepted."""
    return context.attempts[-1].usage if _declined(context) else context.usage


def _context(scored: bool, cap_bytes: int) -> CallContext:
    return CallContext(HeldBytes(True, MOST_BYTES if scored else cap_bytes))


def _conversation(call: Call, assignment: Assignment) -> str | None:
    """The name under which calls count as one conversation; None if the call is alone, or the plan's first rules
    count one pair of it."""
    name = cluster_name(call, assignment) if assignment.running.plan.rules >= 2 else None
    return None if name == call.id else name


def _targets(running: RunningExperiment, arm: str) -> tuple[Target, ...]:
    """The targets that may get an arm's request: both of a learned route, whichever it chooses for this call. If only
    the chosen one were checked, pairs that need the other would be missing while it is down or busy."""
    route = running.routes.get(arm)
    return (running.plan.target(arm),) if route is None else (route.control, route.moved)


def _scorable(call: Call, context: CallContext) -> Scorable:
    served = assemble(call.api, call.stream, context.response.bytes())
    return scorable(call, served, context.response.truncated)


def _loaded(target_state: TargetState, limit: float | None) -> bool:
    """Whether the target has reported that too many requests wait there."""
    waiting = target_state.waiting
    return limit is not None and waiting is not None and waiting > limit


def _admitted(target_states: list[TargetState]) -> bool:
    """Whether every upstream admits its arms at once, with no client's request waiting there."""
    models: dict[str, list[str]] = defaultdict(list)
    for target_state in target_states:
        models[target_state.upstream.name].append(target_state.model)
    limiters = {target_state.upstream.name: target_state.upstream.limiter for target_state in target_states}
    return all(limiter.can_admit(models[name]) for name, limiter in limiters.items())
