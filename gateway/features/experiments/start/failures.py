"""Guardrails on failures are planned with the rate at which the control failed in the last day.

A guardrail of 1 point takes 1 450 pairs where both arms fail in 0.2 % of the calls, and 5 100 where they fail in 0.5 %.
A plan that assumes the first would end undecided in most cases of the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gateway.core.horizon import AT_MOST
from gateway.core.plan import UNITS_FIRST_RULES, Guardrail, Plan
from gateway.features.experiments.rows.traffic import control_failures
from gateway.reports.number_format import count
from gateway.store.query import Reading
from gateway.verdict.price.failures import (
    MOST_FAILURE_PAIRS,
    FailureRate,
    failure_pairs,
    planned_with,
    unreachable_rails,
)

DAY_S = 86_400.0


def with_failure_rate(connection: Reading, plan: Plan, now: float) -> Plan:
    """The plan with an automatic horizon that its guardrails on failures can be decided in. now: Unix seconds."""
    if plan.max_pairs is None or not plan.auto_horizon:
        return plan
    found = last_day(connection, plan, now)
    needed = None if found is None else planned_with(plan, found.rate)
    if needed is None or needed <= plan.max_pairs:
        return plan
    return replace(plan, max_pairs=min(needed, AT_MOST * plan.max_pairs))


def last_day(connection: Reading, plan: Plan, now: float) -> FailureRate | None:
    """Failures of the control in the last day; None for few calls, or a plan that does not plan with them."""
    return control_failures(connection, plan, now - DAY_S) if _planned(plan) else None


def failure_cautions(connection: Reading, plan: Plan, now: float) -> Iterator[str]:
    """Cautions about guardrails that cannot be decided at the rate of the last day. now: Unix seconds."""
    found = last_day(connection, plan, now)
    for rail in unreachable_rails(plan, None if found is None else found.rate):
        if found is not None:
            yield _caution(plan, rail, found)


def _planned(plan: Plan) -> bool:
    return plan.rules >= UNITS_FIRST_RULES and plan.only_shadows and not plan.guarded and not plan.likelihood


def _caution(plan: Plan, rail: Guardrail, found: FailureRate) -> str:
    pairs, most = failure_pairs(plan, rail, found.rate), AT_MOST * (plan.max_pairs or MOST_FAILURE_PAIRS)
    takes = "no number of pairs shows" if pairs is None else f"it takes about {count(pairs)} pairs to show"
    return (
        f"experiment {plan.name}: {found.basis}; {takes} that an equal candidate keeps {rail.metric} within "
        f"{rail.margin:g}, and the plan ends at {count(most)} at the latest: set the margin to "
        f"{_reachable(plan, rail, found.rate):.2g} or more"
    )


def _reachable(plan: Plan, rail: Guardrail, rate: float) -> float:
    """The smallest of a few wider margins that the plan can decide at this rate."""
    most, margin = AT_MOST * (plan.max_pairs or MOST_FAILURE_PAIRS), rail.margin
    while margin < 0.5:
        margin *= 1.25
        pairs = failure_pairs(plan, replace(rail, margin=margin), rate)
        if pairs is not None and pairs <= most:
            break
    return margin
