"""Sums of past hours, as hours.py counts them, kept longer than exchanges are: what is usual takes weeks to know."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import astuple
from typing import Any

import orjson
from sqlalchemy import Connection, delete, select

from gateway.features.today.rows.hours import GroupKey, HourSums, WeightedSums
from gateway.store.engine import insert
from gateway.store.query import Reading
from gateway.store.tables import hour_history


def stored_begins(connection: Reading, since: float) -> set[float]:
    """The hours that are stored, by their beginning in Unix seconds."""
    query = select(hour_history.c.begin).where(hour_history.c.begin >= since)
    return {float(begin) for (begin,) in connection.execute(query)}


def stored_hours(connection: Reading, begins: Collection[float]) -> dict[float, dict[GroupKey, HourSums]]:
    """The sums of those of these hours that are stored. At most a few hundred at a time."""
    query = select(hour_history.c.begin, hour_history.c.sums).where(hour_history.c.begin.in_(begins))
    return {float(begin): hour_from_json(sums) for begin, sums in connection.execute(query)}


def store_hour(connection: Connection, begin: float, sums: Mapping[GroupKey, HourSums], oldest: float) -> None:
    """Stores an hour, if nobody has, and forgets those that began before `oldest`."""
    statement = insert(connection.dialect, hour_history).values(begin=begin, sums=hour_to_json(sums))
    connection.execute(statement.on_conflict_do_nothing())
    connection.execute(delete(hour_history).where(hour_history.c.begin < oldest))


def hour_to_json(sums: Mapping[GroupKey, HourSums]) -> str:
    return orjson.dumps([[*group, _cell(cell)] for group, cell in sums.items()]).decode()


def _cell(cell: HourSums) -> dict[str, Any]:
    return {
        "errors": astuple(cell.errors),
        "cost": astuple(cell.cost),
        "slow": astuple(cell.slow),
        "latency": list(cell.latency.items()),
        "minimised": sorted(cell.minimised),
        "scores": {scorer: astuple(of) for scorer, of in cell.scores.items()},
    }


def hour_from_json(text: str) -> dict[GroupKey, HourSums]:
    return {(alias, target): _cell_of(cell) for alias, target, cell in orjson.loads(text)}


def _cell_of(cell: Mapping[str, Any]) -> HourSums:
    return HourSums(
        WeightedSums(*cell["errors"]),
        WeightedSums(*cell["cost"]),
        dict(cell["latency"]),
        WeightedSums(*cell["slow"]),
        {scorer: WeightedSums(*of) for scorer, of in cell["scores"].items()},
        set(cell["minimised"]),
    )
