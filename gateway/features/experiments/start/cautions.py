"""Cautions before a plan starts, from recent traffic and earlier plans: its units, pace and error. Reads the store.

Units: traffic may not name the unit that a plan counts by, and with few keys a small share of them may be empty.

Pace: the planned pairs are spread over the hours that `ship` waits for, by lowering the share of calls that is
shadowed. The price in pairs is then the same as for a plan that does not wait for hours. The share is never raised.
`gateway ab start` and the console do it before a plan starts; for plans that gateways start by themselves, a consumer
does it within a second or two, since gateways read no store.

Error: each plan of one swap has an alpha of its own, so their errors add up over the plans.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gateway.core.plan import Plan, PlanState, StoredPlan
from gateway.features.experiments.rows.traffic import calls_an_hour, calls_by_api, recent_units, unit_counts
from gateway.features.experiments.start.failures import with_failure_rate
from gateway.features.experiments.start.segments import with_segments
from gateway.reports.model import TriedPlans
from gateway.store.plan_evidence import StoredEvidence, pair_counts
from gateway.store.plans import stored_plans
from gateway.store.query import Reading
from gateway.verdict.findings import finding_at
from gateway.verdict.sequences.difference import AlphaShare

DAY_S = 86_400.0
FEWEST = 50  # recorded calls from which a caution is possible

_HOW = {
    "conversation": "send `x-gateway-conversation` or `metadata.conversation_id`",
    "run": "send `x-gateway-run` or `metadata.run_id`",
    "user": "send `x-gateway-user`, or `user` in the body",
}


def unit_cautions(connection: Reading, plan: Plan, now: float) -> Iterator[str]:
    """Cautions if the last day's recorded calls of the plan's model name no unit. now: Unix seconds.

    A conversation that only a header names is recorded within experiments alone, so this does not prove that none is
    sent.
    """
    if plan.unit not in _HOW:
        return
    found = recent_units(connection, plan, now - DAY_S)
    if found.calls < FEWEST or found.named(plan.unit):
        return
    own = (
        "every call is then its own unit"
        if plan.ramp is None or plan.unit == "user"
        else "all calls of a key are then one unit"
    )
    yield (
        f"experiment {plan.name}: unit {plan.unit}, but none of the last day's {found.calls} recorded calls of "
        f"{plan.model} names one: {own}; {_HOW[plan.unit]}, or set `unit: key` or `unit: request`"
    )


_ALLOWED = ("chat", "completions", "responses", "messages")


def api_cautions(connection: Reading, plan: Plan, now: float) -> Iterator[str]:
    """Cautions if calls of the last day came by an API that the plan could take and does not. now: Unix seconds."""
    if plan.likelihood:
        return
    found = calls_by_api(connection, plan, now - DAY_S)
    for api in _ALLOWED:
        n = found.get(api, 0)
        if api not in plan.apis and n >= FEWEST:
            yield (
                f"experiment {plan.name}: {n} of the last day's {sum(found.values())} recorded calls of {plan.model} "
                f"came by the API {api}, which it does not take: add it to experiments.{plan.name}.allow.apis"
            )


NOBODY = 0.05  # the largest chance that no unit gets the candidate that needs no word


@dataclass(frozen=True, slots=True)
class UnitSupply:
    """The units of the last day that a plan draws from."""

    kind: str  # key or user
    n: int
    calls: int


def unit_supply(connection: Reading, plan: Plan, now: float) -> UnitSupply | None:
    """Number of units to draw from; None if the units are requests, conversations or runs, of which there are many, or
    too few calls are recorded.

    In a ramp, calls without a conversation or run belong to their key. now: Unix seconds.
    """
    if plan.only_shadows or (plan.unit != "key" and plan.unit != "user" and plan.ramp is None):
        return None
    if plan.unit == "request":
        return None
    if plan.unit in ("conversation", "run") and recent_units(connection, plan, now - DAY_S).named(plan.unit):
        return None
    found = unit_counts(connection, plan, now - DAY_S)
    n = found.users if plan.unit == "user" else found.callers
    if found.calls < FEWEST or not n:
        return None
    return UnitSupply("user" if plan.unit == "user" else "key", n, found.calls)


def supply_refusal(connection: Reading, plan: Plan, now: float) -> str | None:
    """Reason why the plan must not start: its only unit cannot be in two arms. None if it may."""
    supply = unit_supply(connection, plan, now)
    if supply is None or supply.n > 1:
        return None
    return (
        f"experiment {plan.name}: all of the last day's {supply.calls} recorded calls of {plan.model} are of one "
        f"{supply.kind}, which would get one arm as a whole: nothing could be compared; {_remedy(plan)}"
    )


def supply_cautions(connection: Reading, plan: Plan, now: float) -> Iterator[str]:
    """Cautions about few units: the plan's first share, and the units that a step needs."""
    supply = unit_supply(connection, plan, now)
    if supply is None or supply.n == 1:
        return
    share, n = (plan.ramp.steps[0] if plan.ramp else plan.split), supply.n
    nobody = (1.0 - share) ** n
    units = f"experiment {plan.name}: the last day's calls of {plan.model} came from {n} {supply.kind}s"
    if nobody > NOBODY:
        enough = 1.0 - NOBODY ** (1.0 / n)
        yield (
            f"{units}, the units of this plan: at a share of {share:.3g} no {supply.kind} gets the candidate in "
            f"{nobody:.0%} of plans; begin with {enough:.2g} or more, or {_remedy(plan)}"
        )
    if plan.ramp is not None and n * share < plan.ramp.min_units:
        yield (
            f"{units}: a step of {share:.3g} of them has about {n * share:.2g}, and ramp.min_units is "
            f"{plan.ramp.min_units}, so the ramp would stay there; lower it, or {_remedy(plan)}"
        )


def _remedy(plan: Plan) -> str:
    ids = "send `x-gateway-conversation` or `metadata.conversation_id`"
    if plan.unit in ("conversation", "run"):
        return f"{_HOW[plan.unit]}, or set `unit: request`"
    return f"{ids} and set `unit: conversation`, or set `unit: request`"


LEAST = 0.001  # the smallest share
FRESH_S = 60.0  # after its start, pairs of a plan are on their way, which another share of shadows would leave out
EARLY, LATE = 1.1, 0.9  # pairs in those hours, in units of the planned ones: where the end waits for hours, and else


@dataclass(frozen=True, slots=True)
class PacedPlan:
    """A plan, and the change of its pace."""

    plan: Plan
    says: str | None = None


def paced(connection: Reading, plan: Plan, now: float) -> PacedPlan:
    """The plan with a share of shadows that spreads its pairs. now: Unix seconds."""
    if not plan.has_pace or plan.max_pairs is None:
        return PacedPlan(plan)
    name = f"experiment {plan.name}"
    rate = calls_an_hour(connection, plan, now - DAY_S, now)
    if rate is None:
        says = f"too few calls of {plan.model} are recorded to spread the pairs over the {plan.min_hours:g} hours"
        return PacedPlan(plan, f"{name}: {says} that `ship` waits for")
    wanted = plan.max_pairs * (EARLY if plan.auto_horizon else LATE) / (rate * plan.min_hours)
    share = max(LEAST, _rounded_up(wanted))
    if share >= plan.shadow:
        return PacedPlan(plan)
    says = (
        f"{name}: shadow is lowered from {plan.shadow:g} to {share:g}, so that the planned {plan.max_pairs} pairs take "
        f"the {plan.min_hours:g} hours that `ship` waits for (the last day had {rate:.0f} calls an hour)"
    )
    return PacedPlan(replace(plan, shadow=share, shadow_asked=plan.shadow), says)


def paced_start(connection: Reading, started: PlanState, now: float) -> PacedPlan:
    """The plan that a gateway has started, with the pace that a command would have given it.

    Where the store has a plan of the same design, it is that one: the stream server has lost its data, and the evidence
    goes on. A plan that has run for a while stays as it is.
    """
    plan = started.plan
    alike = [each.plan for each in stored_plans(connection, plan.name) if each.plan.same_design(plan)]
    if alike:
        return PacedPlan(replace(alike[-1], after_verdict=plan.after_verdict))
    if now - started.since > FRESH_S:
        return PacedPlan(plan)
    return paced(connection, with_segments(connection, with_failure_rate(connection, plan, now), now), now)


def _rounded_up(share: float) -> float:
    """Round to two significant digits."""
    step = 10.0 ** (math.floor(math.log10(share)) - 1)
    return round(math.ceil(share / step - 1e-9) * step, 12)


_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")


def earlier_plans(connection: Reading, plan: Plan) -> int:
    """Lists other plans of the same model, control and candidate that have taken evidence, under any name."""
    swap, own = _swap(plan), plan.hash
    others = [each for each in stored_plans(connection) if each.hash != own and _swap(each.plan) & swap]
    return sum(each.plan.mode == "split" or pair_counts(connection, each.hash).joined > 0 for each in others)


def _swap(plan: Plan) -> set[tuple[str, str, str]]:
    return {(plan.model, str(plan.control), str(target)) for _, target in plan.candidates}


def tried_plans(connection: Reading, plan: StoredPlan, candidate: str) -> TriedPlans | None:
    """The verdict if all plans of the swap share one alpha evenly; None if this is the only plan.

    Source: Bonferroni's inequality over the plans so far.
    """
    number = earlier_plans(connection, plan.plan) + 1
    if number == 1:
        return None
    shared = plan.plan.alpha / number
    stricter = replace(plan, plan=replace(plan.plan, alpha=shared))
    found = finding_at(StoredEvidence(connection, stricter), candidate, AlphaShare(1 / number, 1 / number))
    return TriedPlans(number, plan.plan.alpha, shared, found.decision.verdict)


def tried_sentence(of: TriedPlans) -> str:
    """ "Third plan of this swap: …; with one alpha of 0.05 shared over the 3, the verdict is hold."."""
    chance = f"{of.alpha * of.number:.2g}"
    return (
        f"{ordinal(of.number).capitalize()} plan of this swap: each has an alpha of {of.alpha:g} of its own, so a "
        f"wrong verdict among them has a chance of up to {chance}. With one alpha of {of.alpha:g} shared over the "
        f"{of.number}, this verdict is: {of.verdict}."
    )


def tried_cautions(connection: Reading, plan: Plan) -> Iterator[str]:
    """Caution before a plan starts that is not the first of its swap, and how to share one alpha."""
    number = earlier_plans(connection, plan) + 1
    if number > 1:
        yield (
            f"experiment {plan.name}: this is the {ordinal(number)} plan of this swap, with an alpha of its own; a "
            f"wrong verdict among them has a chance of up to {plan.alpha * number:.2g}. The report also says what the "
            f"verdict is with one alpha shared over all; `alpha: {plan.alpha / number:.2g}` plans for that"
        )


def ordinal(number: int) -> str:
    return _ORDINALS[number - 1] if number <= len(_ORDINALS) else f"{number}th"
