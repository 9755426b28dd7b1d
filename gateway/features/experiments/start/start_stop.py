"""Starts and stops experiments: the steps of `gateway ab` and the console before and when a plan is put in force."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gateway.config.config import Config
from gateway.config.derive import cautions, feedback_without_range, plans_of
from gateway.core.errors import CannotRun
from gateway.core.plan import Plan, PlanState, StoredPlan, running_rival, still_shipped
from gateway.core.plan_horizon import horizon_of
from gateway.features.experiments.judges import judge_cautions
from gateway.features.experiments.start.cautions import (
    api_cautions,
    paced,
    supply_cautions,
    supply_refusal,
    tried_cautions,
    unit_cautions,
)
from gateway.features.experiments.start.decisions import decision_cautions
from gateway.features.experiments.start.failures import failure_cautions, with_failure_rate
from gateway.features.experiments.start.population import population_cautions, population_refusal
from gateway.features.experiments.start.price import earlier_variance
from gateway.features.experiments.start.segments import segment_cautions, segment_refusal, with_segments
from gateway.features.manifest import ConfigFindings
from gateway.scoring.registry import BuiltScorers
from gateway.store.engine import StoreUnavailable
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import stored_plans
from gateway.store.query import Reading, reading
from gateway.stream.shared_state import SharedState
from gateway.verdict.ending import is_closed, is_decided


@dataclass(frozen=True, slots=True)
class PlanToStart:
    """A plan as it may be put in force."""

    plan: Plan
    closed: tuple[str, ...] = ()
    """Hashes of plans of the same design that closed without a verdict at fewer pairs: they do not start again."""
    cautions: tuple[str, ...] = ()
    """Sentences to read before the plan is started and anything is paid."""
    refusal: str | None = None
    """Reason why it must not start, from recent traffic."""


def prepared(connection: Reading, plan: Plan) -> PlanToStart:
    """The plan with an automatic horizon from earlier pairs of the same targets, if the store has enough of them, and
    with a pace that spreads its pairs over the hours that `ship` waits for."""
    variance = earlier_variance(connection, plan) if plan.auto_horizon else None
    plan = plan if variance is None else replace(plan, max_pairs=horizon_of(plan, variance))
    plan = with_failure_rate(connection, plan, time.time())
    alike = [each for each in stored_plans(connection, plan.name) if each.plan.same_design(plan)]
    plan = _with_known_segments(with_segments(connection, plan, time.time(), variance), alike)
    shorter = [each for each in alike if (each.plan.max_pairs or 0) < (plan.max_pairs or 0)]
    closed = [stored.hash for stored in shorter if _ended_undecided(StoredEvidence(connection, stored))]
    refusal = _traffic_refusal(connection, plan) or segment_refusal(connection, plan, time.time())
    pace = paced(connection, plan, time.time())
    said = () if pace.says is None else (pace.says,)
    return PlanToStart(pace.plan, tuple(closed), (*start_cautions(connection, plan), *said), refusal)


def _traffic_refusal(connection: Reading, plan: Plan) -> str | None:
    """Reason why a plan must not start, from the units of recent traffic."""
    now = time.time()
    return supply_refusal(connection, plan, now) or population_refusal(connection, plan, now)


def _ended_undecided(evidence: StoredEvidence) -> bool:
    return is_closed(evidence) and not is_decided(evidence)


def _with_known_segments(plan: Plan, alike: Sequence[StoredPlan]) -> Plan:
    """The plan with the segments of the newest earlier one, where the last day's traffic shows no values."""
    known = [stored.plan.segments for stored in alike if stored.plan.segments and not stored.plan.segments.unknown]
    return replace(plan, segments=known[-1]) if known and plan.segments and plan.segments.unknown else plan


def start_cautions(connection: Reading | None, plan: Plan) -> Iterator[str]:
    """Cautions from the plan, recent traffic and earlier plans. connection: None before there is a store."""
    yield from cautions(plan)
    if connection is not None:
        yield from stored_cautions(connection, plan)


def stored_cautions(connection: Reading, plan: Plan) -> Iterator[str]:
    yield from api_cautions(connection, plan, time.time())
    yield from unit_cautions(connection, plan, time.time())
    yield from supply_cautions(connection, plan, time.time())
    yield from population_cautions(connection, plan, time.time())
    yield from tried_cautions(connection, plan)
    yield from segment_cautions(connection, plan, time.time())
    yield from failure_cautions(connection, plan, time.time())
    yield from decision_cautions(connection, plan, time.time())
    yield from _short_horizon(connection, plan)


def _short_horizon(connection: Reading, plan: Plan) -> Iterator[str]:
    """Caution if a stated horizon is too early at the variance of earlier pairs, and not at the one that is assumed."""
    assumed = horizon_of(plan)
    if plan.auto_horizon or plan.max_pairs is None or assumed is None or assumed > plan.max_pairs:
        return
    variance = earlier_variance(connection, plan)
    needed = None if variance is None else horizon_of(plan, variance)
    if needed is not None and needed > plan.max_pairs:
        yield (
            f"experiment {plan.name}: max_pairs {plan.max_pairs} is unlikely to decide a margin of {plan.margin:g}; "
            f"that needs about {needed} pairs at the variance of earlier pairs of these targets; leave max_pairs out, "
            "or widen the margin"
        )


def config_findings(config: Config, built: BuiltScorers, store: str) -> ConfigFindings:
    """Checks the enabled experiments against recent traffic, earlier plans and labels. store: URL; it may not exist."""
    plans = [plan for name, plan in plans_of(config).items() if config.experiments[name].enabled]
    refusals = [why for plan in plans if (why := best_refusal(plan, built))]
    found: list[str] = []
    try:
        with reading(store) as connection:
            refusals += [why for plan in plans if (why := _traffic_refusal(connection, plan))]
            refusals += [why for plan in plans if (why := _unknown_segments(connection, plan))]
            for plan in plans:
                if why := feedback_without_range(config, plan):
                    (found if _runs(connection, plan) else refusals).append(why)
            found += [caution for plan in plans for caution in stored_cautions(connection, plan)]
    except StoreUnavailable:
        found += [why for plan in plans if (why := segment_refusal(None, plan, time.time()))]
        found += [why for plan in plans if (why := feedback_without_range(config, plan))]
    return ConfigFindings(tuple(refusals), (*found, *judge_cautions(config, built, store)))


def _unknown_segments(connection: Reading, plan: Plan) -> str | None:
    """Reason why a plan cannot start; None if it may, or if one of the same design runs already."""
    if _runs(connection, plan):
        return None
    alike = [each for each in stored_plans(connection, plan.name) if each.plan.same_design(plan)]
    completed = _with_known_segments(with_segments(connection, plan, time.time()), alike)
    return segment_refusal(connection, completed, time.time())


def _runs(connection: Reading, plan: Plan) -> bool:
    """Whether a plan of the same design runs already."""
    stored = stored_plans(connection, plan.name)
    return any(each.state == "running" and each.plan.same_design(plan) for each in stored)


def best_refusal(plan: Plan, built: BuiltScorers) -> str | None:
    """Reason why a plan cannot compare its candidates with each other; None if it can, or does not."""
    if not plan.finds_best or plan.primary not in built.pairs:
        return None
    return (
        f"experiments.{plan.name}.primary: {plan.primary} compares an answer with the served one, so two candidates "
        "have no value of it that `family: best` could compare; name a scorer of single answers, or set `family: holm`"
    )


async def start(states: SharedState, wanted: PlanToStart, others: Iterable[str]) -> PlanState | None:
    """Puts a plan in force on every gateway of this stream server. Returns the state before; None if there was none.

    others: the experiments of the config. Raises CannotRun if one of them runs and competes for the same calls, if the
    plan is refused and does not run already, and StreamDown.
    """
    plan, all_states = wanted.plan, await states.plans()
    known = all_states.get(plan.name)
    if known is not None and _goes_on(known, wanted):
        plan = replace(known.plan, after_verdict=plan.after_verdict)  # its horizon was frozen at its first start
        if known.running and known.plan == plan:
            return known
    if wanted.refusal is not None:
        raise CannotRun(wanted.refusal)
    rival = running_rival(plan, all_states, others)
    if rival is not None:
        raise CannotRun(
            f"{plan.name}: experiment {rival} is running on {plan.model}, and a call can only be in one; "
            f"stop it first: gateway ab stop {rival}"
        )
    await _set(states, plan, "running", known)
    return known


async def stop(states: SharedState, name: str) -> PlanState | None:
    """Stops an experiment on every gateway, within a second. Returns the state before; None if it was never started.

    Raises CannotRun, StreamDown.
    """
    all_states: Mapping[str, PlanState] = await states.plans()
    known = all_states.get(name)
    if known is not None and known.running:
        await _set(states, known.plan, "stopped", known)
    return known


def _goes_on(known: PlanState, wanted: PlanToStart) -> bool:
    """Whether the plan in the state is the one that shall run. Of a stopped one, other segments are another plan, and
    so is one of which no value was known when it was started."""
    if not known.plan.same_design(wanted.plan) or _is_replaced(known, wanted.closed):
        return False
    segments = known.plan.segments
    return (known.running and not (segments and segments.unknown)) or known.plan.same_segments(wanted.plan)


def _is_replaced(known: PlanState, closed: Collection[str]) -> bool:
    return not known.running and known.plan.hash in closed


async def _set(states: SharedState, plan: Plan, to: Literal["running", "stopped"], known: PlanState | None) -> None:
    before = known if known is not None and known.plan.hash == plan.hash else None
    dropped, harm = (before.dropped, before.harm) if before else ((), None)
    shipped = still_shipped(known, plan)
    state = PlanState(plan, to, time.time(), dropped=dropped, harm=harm, shipped=shipped)
    if not await states.set_plan(state, known):
        raise CannotRun(
            f"{plan.name}: another command changed it at the same time; see `gateway ab status {plan.name}`"
        )
