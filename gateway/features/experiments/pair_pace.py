"""Spreads the planned pairs over the hours that `ship` waits for, by lowering the share of calls that is shadowed.

The price in pairs then stays that of a plan that waits for no hours. The share is never raised. `gateway ab start` and
the console do it before a plan starts; what a gateway starts by itself, a consumer does it for within a second or two,
since gateways read no store.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gateway.core.plan import Plan, PlanState
from gateway.features.experiments.rows.recent_traffic import calls_an_hour
from gateway.store.plans import stored_plans
from gateway.store.query import Reading

DAY_S = 86_400.0
LEAST = 0.001  # the smallest share
FRESH_S = 60.0  # after its start, pairs of a plan are on their way, which another share of shadows would leave out
EARLY, LATE = 1.1, 0.9  # pairs in those hours, in units of the planned ones: where the end waits for hours, and else


@dataclass(frozen=True, slots=True)
class PacedPlan:
    """A plan, and what was done to its pace."""

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
    return paced(connection, plan, now) if now - started.since <= FRESH_S else PacedPlan(plan)


def _rounded_up(share: float) -> float:
    """Round to two significant digits."""
    step = 10.0 ** (math.floor(math.log10(share)) - 1)
    return round(math.ceil(share / step - 1e-9) * step, 12)
