"""Events of a deployment, for the lines on charts over time: new versions, changed configs, steps of ramps, alarms of
guards, new models behind a name.

Consumers and consoles write it, each event once: its id is derived from the event, so that two processes that see the
same event write the same row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Literal

from sqlalchemy import Connection, delete, select

from gateway.store.engine import insert
from gateway.store.tables import events

EventKind = Literal["deploy", "config", "ramp", "guard", "model"]
KEPT_S = 90 * 86_400.0
_SAME_S = 600.0  # within which two programs that see the same config see one change


@dataclass(frozen=True, slots=True)
class DeploymentEvent:
    id: str
    at: float
    """Unix seconds."""
    kind: EventKind
    subject: str
    """The version, the digest of the config, the name of the experiment or guard, or alias and target."""
    text: str


def config_event(digest: str, at: float) -> DeploymentEvent:
    """The change to a config. digest: of the config that is in force from then on."""
    return DeploymentEvent(f"config:{digest}:{int(at // _SAME_S)}", at, "config", digest, f"config {digest[:6]}")


def add_events(connection: Connection, found: Sequence[DeploymentEvent]) -> None:
    """Adds the events that are not stored yet."""
    names = ("id", "at", "kind", "subject", "text")
    for event in found:
        row = dict(zip(names, astuple(event), strict=True))
        connection.execute(insert(connection.dialect, events).values(row).on_conflict_do_nothing())


def events_since(connection: Connection, at: float, most: int) -> list[DeploymentEvent]:
    """The newest events since a time (Unix seconds), oldest first."""
    e = events.c
    query = select(e.id, e.at, e.kind, e.subject, e.text).where(e.at >= at).order_by(e.at.desc(), e.id).limit(most)
    return [DeploymentEvent(*row) for row in connection.execute(query)][::-1]


def newest_event(connection: Connection, kind: EventKind) -> DeploymentEvent | None:
    e = events.c
    query = select(e.id, e.at, e.kind, e.subject, e.text).where(e.kind == kind).order_by(e.at.desc(), e.id).limit(1)
    row = connection.execute(query).first()
    return None if row is None else DeploymentEvent(*row)


def forget_events(connection: Connection, before: float) -> None:
    connection.execute(delete(events).where(events.c.at < before))
