"""Whether there are enough units for what a plan draws: with few keys, a small share of them may be nobody. Reads the
store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.core.plan import Plan
from gateway.features.experiments.rows.recent_units import recent_units
from gateway.features.experiments.rows.unit_counts import unit_counts
from gateway.store.query import Reading

DAY_S = 86_400.0
FEWEST = 50  # recorded calls from which something is said
NOBODY = 0.05  # the largest chance that no unit gets the candidate that needs no word


@dataclass(frozen=True, slots=True)
class UnitSupply:
    """The units of the last day that a plan draws from."""

    kind: str  # key or user
    n: int
    calls: int


def unit_supply(connection: Reading, plan: Plan, now: float) -> UnitSupply | None:
    """None: units are requests or conversations, of which there are many, or too few calls are recorded to tell.

    In a ramp, calls without a conversation belong to their key. now: Unix seconds.
    """
    if plan.only_shadows or (plan.unit != "key" and plan.unit != "user" and plan.ramp is None):
        return None
    if plan.unit == "request":
        return None
    if plan.unit == "conversation" and recent_units(connection, plan, now - DAY_S).conversations:
        return None
    found = unit_counts(connection, plan, now - DAY_S)
    n = found.users if plan.unit == "user" else found.callers
    if found.calls < FEWEST or not n:
        return None
    return UnitSupply("user" if plan.unit == "user" else "key", n, found.calls)


def supply_refusal(connection: Reading, plan: Plan, now: float) -> str | None:
    """Why the plan must not start: its only unit cannot be in two arms. None: it may."""
    supply = unit_supply(connection, plan, now)
    if supply is None or supply.n > 1:
        return None
    return (
        f"experiment {plan.name}: all of the last day's {supply.calls} recorded calls of {plan.model} are of one "
        f"{supply.kind}, which would get one arm as a whole: nothing could be compared; {_remedy(plan)}"
    )


def supply_cautions(connection: Reading, plan: Plan, now: float) -> Iterator[str]:
    """What few units mean for the plan's first share and the units that a step needs."""
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
    if plan.unit == "conversation":
        return f"{ids}, or set `unit: request`"
    return f"{ids} and set `unit: conversation`, or set `unit: request`"
