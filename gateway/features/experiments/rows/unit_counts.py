"""How many units of a kind the recorded calls of a model came from."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from gateway.core.plan import Plan
from gateway.store.tables import exchanges


@dataclass(frozen=True, slots=True)
class UnitCounts:
    """calls: recorded. callers: keys and subjects of tokens. users: as calls named them."""

    calls: int
    callers: int
    users: int


def unit_counts(connection: Connection, plan: Plan, since: float) -> UnitCounts:
    """Over the served calls of the plan's model and keys. since: Unix seconds."""
    e = exchanges.c
    ours = [e.alias == plan.model, e.role == "served", e.received >= since]
    ours += [] if plan.keys is None else [e.caller.in_(plan.keys)]
    counts = func.count(), func.count(e.caller.distinct()), func.count(e.user_digest.distinct())
    row = connection.execute(select(*counts).where(*ours)).one()
    return UnitCounts(int(row[0]), int(row[1]), int(row[2]))
