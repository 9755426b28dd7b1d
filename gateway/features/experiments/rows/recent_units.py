"""Which units the recorded calls of a model name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from gateway.core.plan import Plan
from gateway.store.tables import exchanges

MOST_READ = 500  # calls, the newest; their requests are read
_NAMED = b'"conversation_id"'


@dataclass(frozen=True, slots=True)
class RecentUnits:
    """calls: recorded with their content. users, conversations: of these, those that name one.

    A header's conversation is recorded as the cluster of calls in an experiment, where a call without one is a cluster
    of its own.
    """

    calls: int
    users: int
    conversations: int

    def named(self, unit: str) -> int:
        return self.users if unit == "user" else self.conversations


def recent_units(connection: Connection, plan: Plan, since: float) -> RecentUnits:
    """Over the newest served calls of the plan's model and keys. since: Unix seconds."""
    e = exchanges.c
    ours = [e.alias == plan.model, e.role == "served", e.received >= since, func.length(e.request) > len(b"{}")]
    ours += [] if plan.keys is None else [e.caller.in_(plan.keys)]
    query = select(e.user_digest, e.cluster, e.request).where(*ours).order_by(e.received.desc()).limit(MOST_READ)
    rows = connection.execute(query).all()
    shared = {cluster for cluster, n in Counter(row.cluster for row in rows).items() if cluster and n > 1}
    return RecentUnits(
        len(rows),
        sum(row.user_digest is not None for row in rows),
        sum(row.cluster in shared or _NAMED in row.request for row in rows),
    )
