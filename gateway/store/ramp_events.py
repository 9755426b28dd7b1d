"""The audit of ramps: each change, with its evidence."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from sqlalchemy import Connection, RowMapping, and_, func, select

from gateway.core.ramp import RampEvent, RampRecord, record_from_json
from gateway.store.engine import insert
from gateway.store.tables import ramp_events


def add_ramp_events(connection: Connection, events: Sequence[RampEvent]) -> None:
    """Stores events; those that are stored already change nothing."""
    for each in events:
        record = each.record
        values = {name: getattr(record, name) for name in ("experiment", "plan", "version", "at", "reason")}
        values |= {"id": each.id, "actor": record.by, "kind": each.kind}
        values |= {"before": None if each.before is None else orjson.dumps(each.before).decode()}
        values |= {"record": record.to_json().decode(), "evidence": orjson.dumps(dict(each.evidence)).decode()}
        connection.execute(insert(connection.dialect, ramp_events).values(values).on_conflict_do_nothing())


def stored_ramp_events(connection: Connection, experiment: str) -> list[RampEvent]:
    """The events of an experiment, oldest first."""
    t = ramp_events.c
    query = select(ramp_events).where(t.experiment == experiment).order_by(t.version, t.at, t.id)
    return [_event(row) for row in connection.execute(query).mappings()]


def ramp_events_since(connection: Connection, at: float) -> list[RampEvent]:
    """The events of all experiments since a time (Unix seconds), oldest first."""
    t = ramp_events.c
    query = select(ramp_events).where(t.at >= at).order_by(t.at, t.experiment, t.version, t.id)
    return [_event(row) for row in connection.execute(query).mappings()]


def newest_ramp_records(connection: Connection) -> list[RampRecord]:
    """The newest record of each experiment."""
    t = ramp_events.c
    newest = select(t.experiment, func.max(t.version).label("version")).group_by(t.experiment).subquery()
    same = and_(t.experiment == newest.c.experiment, t.version == newest.c.version)
    found = connection.execute(select(t.record).join(newest, same).order_by(t.at, t.id)).scalars()
    return list({record.experiment: record for record in map(record_from_json, found)}.values())


def count_ramp_events(connection: Connection) -> dict[str, dict[str, int]]:
    """Number of events by experiment and kind."""
    t = ramp_events.c
    counts: dict[str, dict[str, int]] = {}
    query = select(t.experiment, t.kind, func.count()).group_by(t.experiment, t.kind)
    for experiment, kind, n in connection.execute(query):
        counts.setdefault(experiment, {})[kind] = n
    return counts


def _event(row: RowMapping) -> RampEvent:
    before = None if row["before"] is None else tuple(orjson.loads(row["before"]))
    return RampEvent(row["id"], record_from_json(row["record"]), before, orjson.loads(row["evidence"]))
