"""Sequences: their states, increments by pair, withheld pairs, and the interval over time."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import orjson
from sqlalchemy import Connection, select
from sqlalchemy.engine import Dialect

from gateway.core.sequence import Increment, SequenceChanges, SequenceName, State
from gateway.store.engine import adding, replacing
from gateway.store.tables import SEQUENCE, increments, sequences, trails, withheld

_NAME = [sequences.c[name] for name in SEQUENCE]


def states(connection: Connection, plan: str) -> dict[SequenceName, State]:
    return {name: orjson.loads(text) for name, text in state_texts(connection, plan).items()}


def state_texts(connection: Connection, plan: str) -> dict[SequenceName, str]:
    """The states as they are stored: JSON."""
    query = select(*_NAME, sequences.c.state).where(sequences.c.plan == plan)
    return {SequenceName(*row[:4]): row[4] for row in connection.execute(query)}


def newest_identities(connection: Connection, plan: str) -> dict[tuple[str, str], str]:
    """(candidate, metric) → the identity whose sequence moved last: that of the running scorer."""
    query = select(*_NAME).where(sequences.c.plan == plan).order_by(sequences.c.updated, sequences.c.identity)
    return {(row.candidate, row.metric): row.identity for row in connection.execute(query)}


def clusters_taken(connection: Connection, plan: str, clusters: Iterable[str]) -> set[tuple[SequenceName, str]]:
    """Sequences that already have an increment of these clusters."""
    query = select(*(increments.c[name] for name in SEQUENCE), increments.c.cluster).where(
        increments.c.plan == plan, increments.c.cluster.in_(sorted(set(clusters)))
    )
    return {(SequenceName(*row[:4]), row[4]) for row in connection.execute(query)}


def save(connection: Connection, changes: SequenceChanges, now: float) -> dict[SequenceName, str]:
    """Stores the changes, in the transaction that gives the pairs their indexes: both or neither.

    Returns the states as state_texts reads them.
    """
    dialect = connection.dialect
    texts = {name: orjson.dumps(state).decode() for name, (_, state) in sorted(changes.states.items())}
    if texts:
        moved = [
            {**name.values, "n": changes.states[name][0], "state": text, "updated": now} for name, text in texts.items()
        ]
        connection.execute(_newer_state(dialect), moved)
    if changes.increments:
        connection.execute(increments.insert(), [each.row for each in changes.increments])
    if changes.withheld:
        reasons = sorted(changes.withheld.items())
        more = [{**name.values, "reason": reason, "arm": arm, "n": n} for (name, reason, arm), n in reasons]
        connection.execute(_more_withheld(dialect), more)
    if changes.points:
        connection.execute(trails.insert(), [each.row for each in changes.points])
    return texts


@cache
def _newer_state(dialect: Dialect) -> Any:
    """The statement that stores a newer state, built once: with dozens of sequences a second, building the statement
    costs more than running it.
    """
    return replacing(dialect, sequences, ("n", "state", "updated"))


@cache
def _more_withheld(dialect: Dialect) -> Any:
    return adding(dialect, withheld, ["n"])


def trail(connection: Connection, name: SequenceName) -> list[tuple[int, float, float, float]]:
    """(pairs, value, low, high), in order."""
    query = select(trails.c.n, trails.c.value, trails.c.low, trails.c.high).where(*of_sequence(trails, name))
    return [(row[0], row[1], row[2], row[3]) for row in connection.execute(query.order_by(trails.c.n))]


def withheld_of(connection: Connection, plan: str) -> dict[tuple[SequenceName, str, str], int]:
    """(sequence, reason, arm) → pairs."""
    query = select(withheld).where(withheld.c.plan == plan)
    return {(SequenceName(*row[:4]), row[4], row[5]): row[6] for row in connection.execute(query)}


def increments_of(connection: Connection, name: SequenceName) -> list[Increment]:
    c = increments.c
    query = select(c.pair, c.place, c.cluster, c.a, c.b, c.difference).where(*of_sequence(increments, name))
    return [Increment(name, *row) for row in connection.execute(query.order_by(c.place))]


def of_sequence(table: Any, name: SequenceName) -> list[Any]:
    return [table.c[column] == value for column, value in name.values.items()]
