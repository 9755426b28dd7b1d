"""New rows into tables, by statements that are made once and parameters as the driver takes them: what SQLAlchemy does
with parameters costs more than SQLite's insert."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.engine import Dialect

from gateway.core.chunked import chunked
from gateway.evals.store.engine import insert
from gateway.evals.store.rows import OWN, SHARED, Row, ScoreRows
from gateway.evals.store.tables import scores

_MOST = 40  # scores in one statement: SQLite before 3.32 takes 999 parameters


class WriteConflict(Exception):
    """Another consumer wrote one of these rows at this moment: the whole transaction is to be run again."""


def null_of(connection: Connection) -> Any:
    """What is to be bound in None's place. SQLite stores NaN as NULL (its docs, "Floating point numbers"); Python's
    driver binds a float at once, and for None first asks all adapters, which takes longer than to bind six texts."""
    return NAN if connection.dialect.name == "sqlite" else None


NAN = float("nan")


def insert_new(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """rows: in the order of the table's columns. Raises Raced where one is there already."""
    null = null_of(connection)
    if null is not None:
        rows = [tuple([null if value is None else value for value in row]) for row in rows]
    _insert(connection, rows, 1, *_compiled(table, connection.dialect))


def insert_opinions(connection: Connection, said: Iterable[ScoreRows]) -> None:
    """All scores of an exchange by one statement, in which what they share stands once: to bind a parameter costs as
    much as to store it. Raises Raced where one of them is there already."""
    shared, own, most = len(SHARED), len(OWN), _MOST * len(OWN)
    by_size: dict[int, list[Row]] = {}
    for each in said:
        values = each.values
        for at in range(shared, len(values), most):
            row = (*values[:shared], *values[at : at + most]) if len(values) > most + shared else tuple(values)
            by_size.setdefault((len(row) - shared) // own, []).append(row)
    for size, rows in sorted(by_size.items()):
        _insert(connection, rows, size, *_statement(size, connection.dialect.paramstyle))


def _insert(connection: Connection, rows: Sequence[Row], each: int, sql: str, names: tuple[str, ...] | None) -> None:
    """each: how many rows of the table one of these makes. names: of the parameters; None where the driver takes
    tuples."""
    if not rows:
        return
    values: Any = rows if names is None else [dict(zip(names, row, strict=True)) for row in rows]
    if connection.exec_driver_sql(sql, values).rowcount != each * len(rows):
        raise WriteConflict


def add_to(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    key: tuple[str, ...],
    added: tuple[str, ...],
) -> None:
    """rows: by column, what to add to sums that stand under a key. Those that are not there yet begin with it, and with
    zero in every column that is not given."""
    if not rows:
        return
    sql, names = _adding(table, key, added, connection.dialect)
    zeros = {c.name: 0 for c in table.columns if c.name not in rows[0]}
    ordered = sorted(({**zeros, **row} for row in rows), key=itemgetter(*key))  # one order of locks
    values: Any = ordered if names is None else [tuple([row[name] for name in names]) for row in ordered]
    connection.exec_driver_sql(sql, values)


@cache
def _adding(
    table: Table, key: tuple[str, ...], added: tuple[str, ...], dialect: Dialect
) -> tuple[str, tuple[str, ...] | None]:
    """The statement as the driver takes it; names: of its parameters, in order; None where it takes them by name."""
    statement = insert(dialect, table)
    more = {name: table.c[name] + statement.excluded[name] for name in added}
    compiled = statement.on_conflict_do_update(index_elements=list(key), set_=more).compile(dialect=dialect)
    return str(compiled), tuple(compiled.positiontup) if compiled.positional else None


@cache
def _compiled(table: Table, dialect: Dialect) -> tuple[str, tuple[str, ...] | None]:
    """The statement as the driver takes it; names: None where it takes tuples."""
    compiled = insert(dialect, table).on_conflict_do_nothing().compile(dialect=dialect)
    return str(compiled), None if compiled.positional else tuple(c.name for c in table.columns)


@cache
def _statement(size: int, paramstyle: str) -> tuple[str, tuple[str, ...] | None]:
    """The same for so many scores of one exchange: one parameter for each of SHARED, then for each of OWN of each."""
    numbered = paramstyle == "qmark"
    names = tuple(f"p{i}" for i in range(1, len(SHARED) + size * len(OWN) + 1))
    places = [f"?{name[1:]}" if numbered else f"%({name})s" for name in names]
    shared, own = places[: len(SHARED)], places[len(SHARED) :]
    rows = (", ".join([*shared, *each]) for each in chunked(own, len(OWN)))
    columns, values = ", ".join((*SHARED, *OWN)), "), (".join(rows)
    sql = f"INSERT INTO {scores.name} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING"  # noqa: S608 - our own words
    return sql, None if numbered else names
