"""Queries about the stop of a plan for harm."""

from __future__ import annotations

from sqlalchemy import Connection, select

from gateway.core.plan import HarmStop
from gateway.store.sequences import save, state_texts
from gateway.store.tables import pairs
from gateway.verdict.harm import harm_changes, harm_stored

MOST_READ = 2_000  # pairs, the newest: three quarters of an hour are soon among them


def harm_of(connection: Connection, plan: str) -> HarmStop | None:
    """The stop of a plan; None if there has been none."""
    return harm_stored(state_texts(connection, plan), plan)


def keep_harm(connection: Connection, plan: str, stop: HarmStop, now: float) -> None:
    save(connection, harm_changes(plan, stop), now)


def times_of_pairs(connection: Connection, plan: str) -> list[float]:
    """Unix seconds at which the newest joined pairs were received."""
    p = pairs.c
    query = select(p.received).where(p.plan == plan, p.place.is_not(None)).order_by(p.place.desc()).limit(MOST_READ)
    return [float(at) for (at,) in connection.execute(query)]
