"""Whether recent traffic names the unit that a plan counts by. Reads the store."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.core.plan import Plan
from gateway.features.experiments.rows.recent_units import recent_units
from gateway.store.query import Reading

DAY_S = 86_400.0
FEWEST = 50  # recorded calls from which something is said

_HOW = {
    "conversation": "send `x-gateway-conversation` or `metadata.conversation_id`",
    "user": "send `x-gateway-user`, or `user` in the body",
}


def unit_cautions(connection: Reading, plan: Plan, now: float) -> Iterator[str]:
    """What the last day's recorded calls of the plan's model lack. now: Unix seconds.

    A conversation that only a header names is recorded within experiments alone, so this is no proof that none is sent.
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
