"""Moves experiments forward: settles pairs, scores them, and feeds them to the sequences in the order of the stream.

Every consumer stores what it reads; the one that holds the lease does this work. All of its state is in the store, so
it may be killed at any moment and another consumer continues with the same pairs, in the same order, to the same
intervals.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import orjson

from gateway.config.derive import paces_of
from gateway.core.chunked import chunked
from gateway.core.completion import completion_of, is_empty
from gateway.core.errors import StreamDown
from gateway.core.exchange import Exchange
from gateway.core.harm_stop import harm_stored
from gateway.core.plan import CONTROL, HarmStop, Plan, PlanState, StoredPlan, current_plan
from gateway.core.ramp import CONTROLLER, RampPace, RampRefused
from gateway.core.randomization import draw
from gateway.core.score import ScoreResult
from gateway.features.experiments.advance import (
    LEASE,
    LeaseHolder,
    LeaseLost,
    LiveSequences,
    Rescored,
    advance,
    advance_search,
    drawn,
    keep_ratio,
    scored_again,
)
from gateway.features.experiments.rows.dropped import dropped_of, keep_dropped
from gateway.features.experiments.rows.harm import times_of_pairs
from gateway.features.experiments.rows.queries import known_pair_scores
from gateway.features.experiments.start.cautions import paced_start
from gateway.features.experiments.start.more import go_on
from gateway.features.experiments.start.population import population_refusal
from gateway.features.experiments.start.segments import segment_refusal
from gateway.features.experiments.stream_recovery import DrawSecret, PlanKeeper
from gateway.features.hooks import Alongside, Hooks
from gateway.features.isolation import IsolatedWork, Work, stop_plan
from gateway.features.task import AfterStep, Rescore, TaskContext
from gateway.observability.eval_metrics import (
    ConditionFigures,
    EvalFigures,
    ExperimentFigures,
    FeedbackFigures,
    MetricFigures,
)
from gateway.ramps.commands import MAX_REASON, NoRamp, RampCommand, command_ramp
from gateway.reports.model import Comparison
from gateway.scoring.large_request import reader_for
from gateway.scoring.registry import RegisteredPair
from gateway.scoring.run import run_scorer_twice
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.types import Pair, Subject
from gateway.store.engine import QueryFailed, Transaction
from gateway.store.harm_stops import harm_of, keep_harm
from gateway.store.pairs import (
    Row,
    SettledPair,
    add_pair_scores,
    arm_scores,
    leave_out,
    settled_pairs,
    stored_exchanges,
)
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import hold_lease, release_lease, stored_plans
from gateway.store.query import Reading
from gateway.store.store import Store, StoreDown
from gateway.stream import Corridor
from gateway.verdict.best_of_k.dropped import DroppedCandidate
from gateway.verdict.conditions import progress_of
from gateway.verdict.continuation import CONTINUED_RULES
from gateway.verdict.ending import all_decided, is_closed, is_decided
from gateway.verdict.findings import Finding, drops_of, finding, findings
from gateway.verdict.harm import (
    FEWEST_PAIRS,
    harm_in_pairs,
    harm_in_split,
    harm_sentence,
    of_all,
    stops_for_harm,
)
from gateway.verdict.outcome import outcome_of
from gateway.verdict.segments.weak_spots import searches
from gateway.verdict.sentence import verdict_sentence
from gateway.verdict.split.ratio import SRM
from gateway.verdict.states import SequenceStates
from gateway.verdict.withheld import withheld_of

log = logging.getLogger(__name__)
DEADLINE_S = 600.0  # of a plan without a deadline: the longest time that a route waits
SLACK_S = 30.0  # for a record's way through the recorder into the stream
SHOWN_S = 86_400.0  # how long an experiment that ended is still shown
RANKS = {"best": 1, "compared": 0, "dropped": -1}
WORK, FIGURES, RAMPS = Work("experiments"), Work("figures of experiments"), Work("ramps")
FIGURES_OF = "figures of experiment"
LAST_S = 20.0  # for plans that are still being settled when the consumer stops
MOST_SHOWN = 50  # experiments: a store outlives many configs, and each name is a label


@dataclass(frozen=True, slots=True)
class EngineTiming:
    """Intervals of the engine's work, and its batch sizes."""

    every_s: float = 1.0  # between two steps
    settle_s: float = 5.0
    """Interval at which a plan takes its pairs: the cost of its sequences does not depend on how many pairs there
    are."""
    show_s: float = 5.0  # between two computations of the figures for Prometheus
    keep_s: float = 15.0  # a lease that is not renewed for this long may be taken over
    window: int = 256  # pairs in one transaction
    at_once: int = 8  # pairs that are scored concurrently


def experiment_hooks(context: TaskContext) -> Hooks:
    followers = [make(context) for make in context.after_step]

    async def after_step(plans: Sequence[StoredPlan]) -> None:
        for follow in followers:
            await follow(plans)

    return hooks_around(
        ExperimentEngine(
            context.store,
            context.corridor,
            context.scorers.pairs,
            context.threads,
            rescore=context.rescore,
            after_step=after_step,
            isolated=context.isolated,
            paces=paces_of(context.config),
        ),
        context.name,
    )


def hooks_around(engine: ExperimentEngine, consumer: str) -> Hooks:
    """consumer: its name, which holds the lease."""

    def current(figures: EvalFigures) -> EvalFigures:
        return replace(figures, experiments=engine.figures)

    return Hooks(current=(current,), alongside=(Alongside("experiments", partial(engine.run, consumer)),))


class ExperimentEngine:
    """The experiments' work in one consumer. clock: Unix time in seconds."""

    def __init__(
        self,
        store: Store,
        corridor: Corridor,
        scorers: Mapping[str, RegisteredPair],
        threads: ScoringThreads,
        timing: EngineTiming | None = None,
        clock: Callable[[], float] = time.time,
        rescore: Rescore | None = None,
        after_step: AfterStep | None = None,
        isolated: IsolatedWork | None = None,
        paces: Mapping[str, RampPace] = MappingProxyType({}),
    ) -> None:
        """rescore: scores an exchange as the consumer does, to check that both arms are scored alike. after_step: is
        called after each step with all stored plans; ramps move there. isolated: holds each plan's work apart from that
        of others. paces: of the ramps in the config."""
        self._paces = paces
        self._isolated, self._isolated_alone = isolated or IsolatedWork(), isolated is None
        self._stores: dict[str, Store] = {}  # by the name of an experiment
        self._store, self._corridor = store, corridor
        self._rescore = rescore
        self._after_step = after_step
        self._draws = DrawSecret(store, corridor.state)
        self._plans = PlanKeeper(store, corridor.state, clock)
        self._scorers = scorers
        self._request_of = reader_for(each.scorer for each in scorers.values())
        self._threads = threads
        self._timing = timing or EngineTiming()
        self._clock = clock
        self._turn = asyncio.Semaphore(self._timing.at_once)
        self._shown_at = 0.0
        self._settled_at = float("-inf")
        self._live: dict[str, LiveSequences] = {}  # by the hash of their plan
        self._sentences: VerdictSentences = {}
        self.leads = False
        """Whether this consumer held the lease at its last step."""
        self.figures: tuple[ExperimentFigures, ...] = ()
        """Figures for Prometheus. Empty unless this consumer leads, so that only one consumer shows them."""

    async def run(self, name: str, stopping: asyncio.Event) -> None:
        """Steps until stopping is set, once more after it, and then releases the lease.

        A step that fails because the stream or the store is unreachable is repeated.
        """
        while True:
            last = stopping.is_set()
            if last:
                self._settled_at = float("-inf")
            with contextlib.suppress(StreamDown, StoreDown):  # the reader of the stream logs it
                await self._isolated.attempt(WORK, partial(self.step, name, LAST_S if last else None), endless=True)
            if last:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timing.every_s):
                    await stopping.wait()
        if self._isolated_alone:
            await self._isolated.aclose()
        with contextlib.suppress(StoreDown):
            await self._store.run(lambda connection: release_lease(connection, LEASE, name))

    async def step(self, name: str, patience_s: float | None = None) -> bool:
        """Settles everything that can be settled now. False if another consumer holds the lease. patience_s: seconds
        for which the plans are waited for; None: a moment. A plan that takes longer is settled meanwhile."""
        leader = LeaseHolder(name, self._timing.keep_s)
        await self._draws.keep()
        await self._pace_started()
        await self._plans.keep()
        self.leads = await self._store.run(lambda c: hold_lease(c, LEASE, name, self._clock(), leader.keep_s))
        watermark = await self._corridor.watermark() if self.leads else None
        plans: list[StoredPlan] = []
        if watermark is not None:
            plans = await self._store.run(stored_plans)
            if not 0 <= self._clock() - self._settled_at < self._timing.settle_s:
                self._settled_at = self._clock()
                settling = ((work_of(plan), partial(self._settle, leader, plan, watermark)) for plan in plans)
                await self._isolated.alongside(settling, patience_s)
                await self._stop_failing(plans)
            if self._after_step is not None:
                await self._isolated.alongside([(RAMPS, partial(self._then, self._after_step, plans))], patience_s)
        await self._show(plans)
        return self.leads

    async def _go_on(self, leader: LeaseHolder, plan: StoredPlan) -> None:
        """Lets a plan go on that was started again after its last look, before it is found to be closed."""
        state = (await self._corridor.state.plans()).get(plan.plan.name)
        if state is not None and state.running and state.more and state.plan.hash == plan.hash:
            await self._store_of(plan).run(lambda c: self._continue(c, leader, state))

    def _continue(self, connection: Transaction, leader: LeaseHolder, state: PlanState) -> None:
        now = self._clock()
        if hold_lease(connection, LEASE, leader.holder, now, leader.keep_s):
            go_on(connection, state, now)

    async def _then(self, after_step: AfterStep, plans: Sequence[StoredPlan]) -> None:
        await after_step(plans)

    async def _stop_failing(self, plans: Iterable[StoredPlan]) -> None:
        """Stops the plans whose work is stopped, so that no more shadows are paid for."""
        stopped = self._isolated.stopped()
        for plan in plans if stopped else ():
            of = stopped.get(work_of(plan).name) or stopped.get(figures_work(plan).name)
            if of is None or plan.state != "running":
                continue
            if plan.plan.ramp is not None:
                record = (await self._corridor.ramps.records()).get(plan.plan.name)
                if record is not None and record.plan == plan.hash and record.state == "promoted":
                    continue  # its candidate serves everybody, which a fault of ours does not take back
            await stop_plan(self._corridor, plan, of, self._clock())

    def _store_of(self, plan: StoredPlan) -> Store:
        """The store for the work of one plan."""
        name = plan.plan.name
        if name not in self._stores:
            progress = partial(self._isolated.progress, work_of(plan))
            self._stores[name] = self._store.bounded(self._isolated.limits.queries, progress)
        return self._stores[name]

    async def _settle(self, leader: LeaseHolder, plan: StoredPlan, watermark: str) -> None:
        """Takes the pairs of one plan that can be taken now, and checks whether it ends with them."""
        if plan.state == "running" and plan.plan.rules >= CONTINUED_RULES:
            await self._go_on(leader, plan)
        while await self._window(leader, plan, watermark):
            pass
        if searches(plan.plan):
            await self._store_of(plan).run(lambda c: advance_search(c, plan, self._clock()))
        if plan.state != "running":
            self._live.pop(plan.hash, None)
            return
        if plan.plan.finds_best:
            await self._drop(leader, plan)
        if stops_for_harm(plan.plan):
            await self._stop_harm(leader, plan)
        if plan.plan.max_pairs is not None:
            await self._stop_at_horizon(plan)
        if not plan.plan.only_shadows:
            await self._store_of(plan).run(lambda c: keep_ratio(c, plan, self._clock()))

    async def _drop(self, leader: LeaseHolder, plan: StoredPlan) -> None:
        """Stores the candidates that get no more requests, and publishes them to every gateway, which reads them within
        a second."""
        before = await self._store_of(plan).look(lambda c: dropped_of(c, plan.hash))
        found = await self._store_of(plan).look(lambda c: drops_of(StoredEvidence(c, plan, self._clock())))
        if found != before and not await self._store_of(plan).run(lambda c: self._keep_dropped(c, leader, plan, found)):
            self.leads = False
            return
        known = (await self._corridor.state.plans()).get(plan.plan.name)
        if known is None or known.plan.hash != plan.hash or known.dropped == tuple(sorted(found)):
            return
        if await self._corridor.state.set_plan(replace(known, dropped=tuple(sorted(found))), known):
            for arm in sorted({*found} ^ {*known.dropped}):
                why = f"gets no more requests: {found[arm].says}" if arm in found else "gets requests again"
                log.info("experiment %s: %s %s", plan.plan.name, arm, why, extra={"plan": plan.hash})

    def _keep_dropped(
        self, connection: Transaction, leader: LeaseHolder, plan: StoredPlan, found: Mapping[str, DroppedCandidate]
    ) -> bool:
        now = self._clock()
        if not hold_lease(connection, LEASE, leader.holder, now, leader.keep_s):
            return False
        keep_dropped(connection, plan.hash, found, now)
        return True

    async def _stop_harm(self, leader: LeaseHolder, plan: StoredPlan) -> None:
        """Stops a candidate that does harm, on every gateway within a second. A stop is never repeated: somebody who
        resumes the plan has seen it."""
        known = (await self._corridor.state.plans()).get(plan.plan.name)
        if known is None or known.plan.hash != plan.hash:
            return
        if known.harm is not None:
            await self._roll_back(plan, known.harm)
            return
        stop = await self._store_of(plan).look(lambda c: harm_found(c, plan, self._clock()))
        if stop is None:
            return

        def keep(connection: Transaction) -> bool:
            held = hold_lease(connection, LEASE, leader.holder, self._clock(), leader.keep_s)
            if held:
                keep_harm(connection, plan.hash, stop, self._clock())
            return held

        if not await self._store_of(plan).run(keep):
            self.leads = False
            return
        if await self._corridor.state.set_plan(replace(known, harm=stop), known):
            await self._roll_back(plan, stop)
            log.warning("experiment %s: %s", plan.plan.name, harm_sentence(plan.plan, stop), extra={"plan": plan.hash})

    async def _roll_back(self, plan: StoredPlan, stop: HarmStop) -> None:
        """Gives the units of a ramp back to the control; a resumed one begins again with shadows. It is done again
        where the stream server was lost before it, but not to a ramp that somebody has changed since."""
        if plan.plan.ramp is None or stop.cleared is not None:
            return
        record = (await self._corridor.ramps.records()).get(plan.plan.name)
        if record is None or record.plan != plan.hash or record.state in ("rolled_back", "stopped"):
            return
        if record.at > stop.at and record.by != CONTROLLER:
            return
        command = RampCommand("rollback", CONTROLLER, harm_sentence(plan.plan, stop)[:MAX_REASON])
        with contextlib.suppress(RampRefused, NoRamp):
            pace = self._paces.get(plan.plan.name, RampPace())
            await command_ramp(self._corridor, plan.plan.name, command, pace, self._clock)

    async def _show(self, plans: Iterable[StoredPlan]) -> None:
        """Computes the figures, and stops the plans that they show to be decided."""
        now = self._clock()
        if not self.leads:
            self.figures = ()
        elif now - self._shown_at >= self._timing.show_s:
            self._shown_at = now
            found = await self._isolated.attempt(FIGURES, lambda: self._figures(now))
            self.figures = self.figures if found is None else found
            for plan in plans:
                if any(target.decides for _, target in plan.plan.candidates):
                    await self._note_shipped(plan)
                if plan.state == "running" and plan.plan.after_verdict == "stop" and self._all_decided(plan):
                    await self._stop(plan, "stops with its verdict")

    async def _note_shipped(self, plan: StoredPlan) -> None:
        """Publishes which candidates that decide have shipped, so that gateways may let them answer clients."""
        known = (await self._corridor.state.plans()).get(plan.plan.name)
        if known is None or known.plan.hash != plan.hash:
            return
        decides = {arm for arm, target in plan.plan.candidates if target.decides}
        ship = {f.candidate for f in self.figures if f.experiment == plan.plan.name and f.verdict == "ship"}
        shipped = tuple(sorted({*known.shipped} | (decides & ship)))
        if shipped != known.shipped and await self._corridor.state.set_plan(replace(known, shipped=shipped), known):
            log.info("experiment %s: decisions may answer clients", plan.plan.name, extra={"plan": plan.hash})

    @cached_property
    def _reader(self) -> Store:
        """The store, for the findings of all plans."""
        return self._store.bounded(self._isolated.limits.queries)

    async def _figures(self, now: float) -> tuple[ExperimentFigures, ...]:
        """The figures of each plan for which they can be computed."""
        read, errors = await self._reader.look(lambda connection: figures_and_errors(connection, now, self._sentences))
        for figures in read:
            self._isolated.succeeded(Work(f"{FIGURES_OF} {figures.experiment}"))
        for plan, error in errors:
            if not self._isolated.is_stopped(figures_work(plan)):
                self._isolated.failed(figures_work(plan), error)
        return read

    def _all_decided(self, plan: StoredPlan) -> bool:
        """Whether every candidate of a running plan has a verdict, as the figures show it."""
        verdicts = [each.verdict for each in self.figures if each.experiment == plan.plan.name]
        return bool(verdicts) and all_decided(plan.plan, verdicts)

    async def _pace_started(self) -> None:
        states = await self._corridor.state.plans()
        for state in states.values():
            if state.running and state.unpaced:
                work = Work(f"pace of experiment {state.plan.name}", token=state.since)
                await self._isolated.attempt(work, partial(self._pace, state))

    async def _pace(self, started: PlanState) -> None:
        """Spreads the pairs of a plan that a gateway has started, before any of them is stored. Stops one of which the
        segments or units are unknown, as `gateway ab start` refuses it."""
        found = await self._store.look(lambda c: paced_start(c, started, self._clock()))
        refusal = await self._store.look(lambda c: self._refusal(c, found.plan))
        harm = started.harm or await self._store.look(lambda c: harm_of(c, found.plan.hash))
        state = replace(started, plan=found.plan, unpaced=False, harm=harm)
        state = state if refusal is None else replace(state, state="stopped")
        if not await self._corridor.state.set_plan(state, started):
            return
        if refusal is not None:
            log.error("%s; the experiment is stopped; `gateway ab start %s` starts it", refusal, found.plan.name)
        elif found.says is not None:
            log.info("%s", found.says, extra={"plan": found.plan.hash, "started": started.plan.hash})

    def _refusal(self, connection: Reading, plan: Plan) -> str | None:
        now = self._clock()
        return segment_refusal(connection, plan, now) or population_refusal(connection, plan, now)

    async def _window(self, leader: LeaseHolder, plan: StoredPlan, watermark: str) -> bool:
        """Takes the next pairs of one plan. Returns whether there may be more."""
        deadline_ms = int(1000 * ((plan.plan.deadline_s or DEADLINE_S) + SLACK_S))
        most = self._timing.window
        found = await self._store_of(plan).run(lambda c: settled_pairs(c, plan.hash, watermark, deadline_ms, most))
        if not found:
            return False
        if await self._is_over(plan):
            await self._store_of(plan).run(lambda c: leave_out(c, [pair.id for pair in found]))
            return len(found) == most
        await self._compare(leader, plan, found)
        again = await self._score_again(plan, found)
        try:
            live = self._live.setdefault(plan.hash, LiveSequences())
            await self._store_of(plan).run(lambda c: advance(c, leader, plan, found, self._clock(), again, live))
        except LeaseLost:
            self.leads = False
            return False
        return len(found) == most

    async def _is_over(self, plan: StoredPlan) -> bool:
        """Whether a plan has been stopped and has its verdict, so that pairs still on their way change nothing."""
        if plan.state == "running" or plan.plan.after_verdict != "stop":
            return False
        return await self._store_of(plan).look(lambda connection: is_decided(StoredEvidence(connection, plan)))

    async def _score_again(self, plan: StoredPlan, found: Sequence[SettledPair]) -> Rescored:
        ids = drawn(found)
        if not ids or self._rescore is None:
            return Rescored()
        exchanges, scores = await self._store_of(plan).run(lambda c: (stored_exchanges(c, ids), arm_scores(c, ids)))
        return await scored_again(plan.plan, exchanges, scores, self._rescore)

    async def _stop_at_horizon(self, plan: StoredPlan) -> None:
        """Stops a plan whose primary has all its pairs, for every candidate, so that no more shadows are paid."""
        if await self._store_of(plan).look(lambda connection: is_closed(StoredEvidence(connection, plan))):
            p = plan.plan
            planned = ", planned as" if p.auto_horizon and p.rules >= 2 else " of"
            found_none = f"found no best candidate, planned to end at {p.ends_at} pairs"
            reached = f"reached its horizon{planned} {p.max_pairs} pairs"
            await self._stop(plan, found_none if p.method == "anytime" else reached)

    async def _stop(self, plan: StoredPlan, why: str) -> None:
        known = (await self._corridor.state.plans()).get(plan.plan.name)
        if known is None or not known.running or known.plan.hash != plan.hash:
            return
        stopped = replace(known, state="stopped", since=self._clock(), unpaced=False, more=0)
        if await self._corridor.state.set_plan(stopped, known):
            for arm, found in (await self._store_of(plan).look(lambda c: findings(StoredEvidence(c, plan)))).items():
                log.info(
                    "experiment %s %s; verdict on %s: %s",
                    plan.plan.name,
                    why,
                    arm,
                    found.decision.verdict,
                    extra={"plan": plan.hash, "pairs": found.pairs.joined},
                )

    async def _compare(self, leader: LeaseHolder, plan: StoredPlan, found: Sequence[SettledPair]) -> None:
        """Runs every pair scorer on every pair that it has not scored yet.

        Scores are stored at once, so a judge scores a pair only once even if the lease changes hands.
        """
        if not self._scorers or plan.plan.likelihood:
            return
        scored = await self._store_of(plan).run(lambda c: known_pair_scores(c, [pair.id for pair in found]))
        ids = [i for pair in found for i in (pair.id, *pair.arms.values()) if i is not None]
        exchanges = await self._store_of(plan).run(lambda c: stored_exchanges(c, ids))
        subjects = {i: self._subject(e) for i, e in exchanges.items()}
        jobs = [
            partial(self._opinion, plan, name, arm, subjects[pair.id], subjects[other])
            for pair in found
            if pair.id in subjects
            for arm, other in pair.arms.items()
            if other in subjects
            for name, registered in self._scorers.items()
            if (pair.id, arm, name, registered.scorer.version, registered.config_hash) not in scored
            and _drawn(registered, name, subjects[pair.id].exchange)
        ]
        for chunk in chunked(jobs, 4 * self._timing.at_once):
            rows = await asyncio.gather(*(job() for job in chunk))
            await self._store_of(plan).run(lambda c, rows=rows: add_pair_scores(c, rows))  # type: ignore[misc]
            await self._store_of(plan).run(lambda c: hold_lease(c, LEASE, leader.holder, self._clock(), leader.keep_s))

    def _subject(self, exchange: Exchange) -> Subject:
        return Subject(exchange, self._request_of(exchange.request), completion_of(exchange))

    async def _opinion(self, plan: StoredPlan, name: str, arm: str, served: Subject, other: Subject) -> Row:
        registered = self._scorers[name]
        pair = Pair(served, other, "a" if draw(f"first:{name}", served.exchange.id + arm) < 0.5 else "b")
        certain = _certain(plan.plan, registered, served, other)
        if certain is not None:
            result = ScoreResult(
                name, registered.scorer.version, registered.config_hash, "scored", None, "failed", 0.0, 1.0
            )
        else:
            async with self._turn:
                result = await run_scorer_twice(
                    name, registered, lambda: registered.scorer.compare(pair), self._threads
                )
        return _row(plan, arm, pair, registered, result, certain, self._clock())


def _drawn(registered: RegisteredPair, name: str, served: Exchange) -> bool:
    """Whether the scorer's sampling has drawn the pair, by the served exchange's unit, so that all arms of a pair are
    scored or none."""
    return registered.share >= 1 or draw(f"score:{registered.drawn_as or name}", served.unit) < registered.share


def _certain(plan: Plan, registered: RegisteredPair, a: Subject, b: Subject) -> float | None:
    """The value of a pair in which an arm failed: the largest distance, or a preference for the other arm.

    None means that both arms answered, so the scorer decides.
    """
    if b.exchange.tied:
        return 0.0 if registered.scorer.direction == "minimise" else 0.5
    lost, won = (_failed(plan, each) for each in (b, a))
    if not lost and not won:
        return None
    if registered.scorer.direction == "minimise":
        return 1.0
    return 0.5 if lost and won else float(won)


def _failed(plan: Plan, subject: Subject) -> bool:
    e = subject.exchange
    empty = plan.empty == "failed" and is_empty(e, subject.completion)
    return e.outcome != "ok" or e.status >= 400 or bool(empty)


def _row(
    plan: StoredPlan,
    arm: str,
    pair: Pair,
    registered: RegisteredPair,
    result: ScoreResult,
    certain: float | None,
    now: float,
) -> Row:
    scorer, score, spent = registered.scorer, result.score, result.spent
    identity = (pair.a.exchange.id, arm, result.scorer, result.version, result.config_hash)
    detail: dict[str, Any] = dict(score.detail) if score is not None else {}
    value = certain if score is None else float(score.value)
    text = result.explanation
    about = {
        "score_id": str(uuid5(NAMESPACE_OID, "\0".join(identity))),
        "pair": pair.a.exchange.id,
        "arm": arm,
        "exchange_id": pair.b.exchange.id,
        "experiment": plan.plan.name,
        "plan": plan.hash,
        "scorer": result.scorer,
        "version": result.version,
        "config_hash": result.config_hash,
        "kind": scorer.kind,
        "direction": scorer.direction,
    }
    found = {
        "status": result.status,
        "value": value,
        "label": None if score is None else score.label,
        "standard_error": None if score is None else score.standard_error,
        "explanation": text and text.replace("\0", "\ufffd"),
        "detail": orjson.dumps(detail).decode() if detail else None,
    }
    cost = {
        "cost_usd": spent.cost_usd if spent else None,
        "judge_model": spent.judge_model if spent else None,
        "tokens": spent.tokens if spent else None,
        "seconds": result.seconds,
    }
    return about | found | cost | {"created": now}


VerdictSentences = dict[tuple[str, str, str], tuple[int, str]]
"""(plan, candidate, verdict) → (pairs, sentence). They are kept, since each one reads thousands of requests."""
_MORE = 1.1  # times the pairs of a sentence, from which it is made again


def figures_of(connection: Reading, now: float) -> tuple[ExperimentFigures, ...]:
    """Figures of a store's experiments for Prometheus. now: Unix seconds."""
    return figures_and_errors(connection, now)[0]


def figures_and_errors(
    connection: Reading, now: float, sentences: VerdictSentences | None = None
) -> tuple[tuple[ExperimentFigures, ...], list[tuple[StoredPlan, Exception]]]:
    """The figures, and the plans for which they cannot be computed, with the reason.

    now: Unix seconds. sentences: those made before, which this look replaces by its own.
    """
    found, errors = list[ExperimentFigures](), list[tuple[StoredPlan, Exception]]()
    known, made = sentences if sentences is not None else {}, VerdictSentences()
    for plan in _shown(stored_plans(connection), now):
        evidence = StoredEvidence(connection, plan, now)
        look = SequenceStates(evidence)
        try:
            candidates = findings(evidence).values()
            said = {_key(c): _sentence(c, look, known) for c in candidates if c.decision.verdict != "hold"}
            found += [_figures(c, look, said.get(_key(c), (0, ""))[1]) for c in candidates]
            made |= said
        except QueryFailed:
            raise
        except Exception as error:  # of one plan, which must not take the figures of the others
            errors.append((plan, error))
    known.clear()
    known.update(made)
    return tuple(found), errors


def harm_found(connection: Reading, plan: StoredPlan, now: float) -> HarmStop | None:
    """The stop that the evidence on a plan asks for; None if it asks for none. now: Unix seconds."""
    evidence = StoredEvidence(connection, plan, now)
    dropped = SequenceStates(evidence).dropped
    arms = [arm for arm, _ in plan.plan.candidates if arm not in dropped]
    of_arm = harm_of_served if plan.plan.mode == "split" else partial(harm_of_pairs, connection)
    return of_all(of_arm(evidence, arm) for arm in arms)


def harm_of_served(evidence: StoredEvidence, arm: str) -> HarmStop | None:
    primary = finding(evidence, arm).primary
    design = evidence.plan.plan
    return None if primary is None else harm_in_split(design, primary.difference, primary.pairs, evidence.now)


def harm_of_pairs(connection: Reading, evidence: StoredEvidence, arm: str) -> HarmStop | None:
    sequence = SequenceStates(evidence).primary(arm)
    if sequence is None or sequence.n < FEWEST_PAIRS or sequence.moments.mean >= 0:
        return None
    times = times_of_pairs(connection, evidence.plan.hash)
    return harm_in_pairs(evidence.plan.plan, sequence, times, evidence.now)


def work_of(plan: StoredPlan) -> Work:
    """The work on a plan. A plan that is started again has another token."""
    return Work(f"experiment {plan.plan.name}", _resume(plan), plan.since if plan.state == "running" else None)


def figures_work(plan: StoredPlan) -> Work:
    """The work on the findings of a plan, without which it gets no verdict."""
    return replace(work_of(plan), name=f"{FIGURES_OF} {plan.plan.name}")


def _resume(plan: StoredPlan) -> str:
    return f"once its cause is mended, `gateway ab start {plan.plan.name}` begins it again"


def _key(found: Finding) -> tuple[str, str, str]:
    return found.stored_plan.hash, found.candidate, found.decision.verdict


def _sentence(found: Finding, look: SequenceStates, known: VerdictSentences) -> tuple[int, str]:
    """(pairs, sentence) of a verdict: the known one, unless there are many more pairs."""
    pairs, text = known.get(_key(found), (0, ""))
    if text and found.pairs.joined < _MORE * pairs:
        return pairs, text
    return found.pairs.joined, verdict_sentence(outcome_of(found, look)).text


def _shown(plans: Iterable[StoredPlan], now: float) -> list[StoredPlan]:
    """The current plan of each experiment that runs or ended less than SHOWN_S ago; the latest last."""
    by_name: dict[str, list[StoredPlan]] = {}
    for plan in plans:
        by_name.setdefault(plan.plan.name, []).append(plan)
    chosen = [c for c in map(current_plan, by_name.values()) if c is not None]
    shown = [c for c in chosen if c.state == "running" or now - c.since < SHOWN_S]
    return sorted(shown, key=lambda plan: (plan.since, plan.hash))[-MOST_SHOWN:]


def _figures(found: Finding, look: SequenceStates, sentence: str) -> ExperimentFigures:
    left = progress_of(found, look)
    rows = found.best.candidates if found.best else ()
    row = next((row for row in rows if row.candidate == found.candidate), None)
    return ExperimentFigures(
        experiment=found.stored_plan.plan.name,
        candidate=found.candidate,
        verdict=found.decision.verdict,
        pairs=found.pairs.joined,
        metrics=tuple(_metric(c) for c in found.metrics),
        gates=tuple((gate.name, gate.state) for gate in found.gates),
        withheld=withheld_of(found, look),
        srm_p=next((gate.value for gate in found.gates if gate.name == SRM), None),
        conditions=tuple(
            ConditionFigures(c.kind, c.name, c.estimate.low, c.estimate.high, c.values, c.pairs) for c in left.open
        ),
        feedback=tuple(each for c in found.metrics for each in _feedback(c)),
        requests_needed=left.requests,
        days_needed=left.days,
        rank=None if row is None else RANKS[row.state],
        by_segment=found.segments is not None,
        sentence=sentence,
        plan=found.stored_plan.hash,
        harm=_harm(found, look),
    )


def _harm(found: Finding, look: SequenceStates) -> str:
    """The stop for harm in a sentence; "" if there is none, somebody has cleared it, or the plan has ended."""
    plan = found.stored_plan
    stop = harm_stored(look.evidence.states, plan.hash)
    ended = stop is None or stop.cleared is not None or plan.state != "running"
    return "" if stop is None or ended else harm_sentence(plan.plan, stop)


def _feedback(c: Comparison) -> list[FeedbackFigures]:
    """Feedback of both arms; empty for a metric that is not feedback."""
    if c.responses is None:
        return []
    r = c.responses
    arms = ((CONTROL, c.a, r.a), ("candidate", c.b, r.b))
    return [FeedbackFigures(c.metric, arm, mean.value, of.share, of.closed) for arm, mean, of in arms]


def _metric(c: Comparison) -> MetricFigures:
    e = c.difference
    return MetricFigures(c.metric, e.value, e.low, e.high, c.margin, c.log_evalue, c.pairs)
