"""The stops of plans for harm."""

from __future__ import annotations

from sqlalchemy import Connection, select

from gateway.core.harm_stop import harm_changes, harm_from_json, harm_name
from gateway.core.plan import HarmStop
from gateway.store.sequences import save
from gateway.store.tables import sequences


def harm_of(connection: Connection, plan: str) -> HarmStop | None:
    """The stop of a plan; None if there has been none. plan: its hash."""
    values = harm_name(plan).values
    query = select(sequences.c.state).where(*(sequences.c[name] == value for name, value in values.items()))
    return harm_from_json(connection.execute(query).scalar())


def keep_harm(connection: Connection, plan: str, stop: HarmStop, now: float) -> None:
    save(connection, harm_changes(plan, stop), now)
