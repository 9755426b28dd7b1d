"""How many calls of a model come in an hour, from those that were recorded."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from gateway.core.plan import Plan
from gateway.store.tables import exchanges

FEWEST = 20  # recorded calls from which a rate is estimated
_HOUR_S = 3600.0


def calls_an_hour(connection: Connection, plan: Plan, since: float, now: float) -> float | None:
    """Served calls of the plan's model, keys and APIs; each recorded one stands for 1 / π.

    since, now: Unix seconds. From the first recorded call since then on, where that is later. None: fewer than FEWEST
    calls were recorded, or less than an hour.
    """
    e = exchanges.c
    ours = [e.alias == plan.model, e.role == "served", e.received >= since, e.api.in_(plan.apis)]
    ours += [] if plan.keys is None else [e.caller.in_(plan.keys)]
    query = select(func.count(), func.min(e.received), func.sum(1.0 / e.pi)).where(*ours)
    n, first, calls = connection.execute(query).one()
    if n < FEWEST or now - first < _HOUR_S:
        return None
    return float(calls) * _HOUR_S / (now - float(first))
