"""Which recorded calls of a model are decisions, and why the others are not. Reads the store.

Before a plan with `as: decision` starts, its cautions list the reasons for which calls of the last day stay outside.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import orjson

from gateway.core.chat_decision import decision_of, reason_counts
from gateway.core.decision_schema import INELIGIBLE, Ineligible, IneligibleReason
from gateway.core.plan import Plan
from gateway.features.experiments.rows.traffic import RecentCall, recent_calls
from gateway.store.query import Reading

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class DecisionCalls:
    """Recorded calls of one model, by whether they are decisions. Figures stand for all calls: each recorded one for
    1 / π."""

    read: int = 0
    """Calls whose requests were read."""
    decisions: int = 0
    """Calls among them that are decisions."""
    reasons: tuple[tuple[IneligibleReason, int], ...] = ()
    """Reasons of the others, the most frequent first."""
    calls: float = 0.0
    """All calls that the decisions stand for."""
    usd: float | None = None
    """Cost of these calls; None if one of them has no price."""
    input_tokens: float = 0.0
    apis: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        return self.decisions / self.read if self.read else 0.0


def why_ineligible(call: RecentCall) -> IneligibleReason | None:
    """Reason why a recorded call is not a decision; None if it is one."""
    try:
        decision_of(call.api, orjson.loads(call.request))
    except Ineligible as ineligible:
        return ineligible.reason
    except (AttributeError, TypeError, ValueError):
        return "unreadable"
    return None


def decision_calls(connection: Reading, alias: str, keys: Collection[str] | None, since: float) -> DecisionCalls:
    """The newest recorded calls of a model. since: Unix seconds."""
    rows = recent_calls(connection, alias, keys, since)
    reasons = [why_ineligible(row) for row in rows]
    eligible = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    costs = [None if row.cost_usd is None else row.cost_usd / row.pi for row in eligible]
    known = [cost for cost in costs if cost is not None]
    return DecisionCalls(
        read=len(rows),
        decisions=len(eligible),
        reasons=tuple(reason_counts(reasons)),
        calls=sum(1.0 / row.pi for row in eligible),
        usd=sum(known) if len(known) == len(costs) else None,
        input_tokens=sum((row.input_tokens or 0) / row.pi for row in eligible),
        apis=tuple(sorted({row.api for row in eligible})),
    )


def decision_cautions(connection: Reading, plan: Plan, now: float) -> Iterator[str]:
    """Says how many of the last day's calls are decisions, and lists the reasons of the others. now: Unix seconds."""
    if not any(target.decides for _, target in plan.candidates):
        return
    calls = decision_calls(connection, plan.model, plan.keys, now - DAY_S)
    if not calls.read or calls.decisions == calls.read:
        return
    others = "; ".join([f"{reason}: {n} ({INELIGIBLE[reason]})" for reason, n in calls.reasons])
    yield (
        f"experiment {plan.name}: {calls.decisions} of the last day's {calls.read} newest recorded calls of "
        f"{plan.model} are decisions; the others stay with the control, outside the experiment: {others}"
    )
