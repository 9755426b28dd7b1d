"""Inserts many new rows: into SQLite by statements of several rows, into PostgreSQL by COPY."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

from gateway.core.score import ConfiguredScorer
from gateway.evals.store.binary_rows import END, START, BinaryScores, encoded_rows
from gateway.evals.store.engine import insert
from gateway.evals.store.rows import OWN, SHARED, Row, ScoredExchange, ScoreRowBuilder
from gateway.evals.store.tables import scores

MAX_SCORES = 40  # in one statement: SQLite before 3.32 takes 999 parameters
NAN = float("nan")
"""The value to bind for None. SQLite stores NaN as NULL (its docs, "Floating point numbers"); Python's driver binds a
float at once, and for None first asks all adapters, which takes longer than to bind six texts."""


class WriteConflict(Exception):
    """Another consumer wrote one of these rows at the same time: run the whole transaction again."""


def insert_new(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """rows: in the order of the table's columns. Raises WriteConflict where one of them exists."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        _copy(connection, table, table.columns.keys(), encoded_rows(table, rows))
    else:
        filled = [tuple([NAN if value is None else value for value in row]) for row in rows]
        _insert(connection, _one_row(table, connection.dialect), filled, 1)


def insert_scores(
    connection: Connection, scorers: Mapping[str, ConfiguredScorer], judged: Iterable[ScoredExchange], now: float
) -> None:
    """Inserts all scores of these exchanges. Raises WriteConflict where one of them exists."""
    if connection.dialect.name == "postgresql":
        binary = BinaryScores(scorers)
        rows = [rows for each in judged if (rows := binary.rows(each, now))]
        if rows:
            _copy(connection, scores, (*SHARED, *OWN), b"".join(rows))
        return
    builder = ScoreRowBuilder(scorers, NAN)
    for size, values in sorted(_by_size(builder.score_rows(each, now).values for each in judged).items()):
        _insert(connection, _several_rows(size), values, size)


def _copy(connection: Connection, table: Table, columns: Iterable[str], rows: bytes) -> None:
    from psycopg import Error  # an extra
    from psycopg.errors import UniqueViolation

    sql = f"COPY {table.name} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(sql) as copy:
            copy.write(b"".join((START, rows, END)))
    except UniqueViolation as error:
        raise WriteConflict from error
    except Error as error:
        failure: Any = error
        lost = connection.dialect.is_disconnect(failure, driver, None)
        if lost:
            connection.invalidate(error)
        dialect = connection.dialect
        raise DBAPIError.instance(sql, None, error, Error, dialect=dialect, connection_invalidated=lost) from error


def _by_size(scored: Iterable[list[Any]]) -> dict[int, list[Row]]:
    """The values of ScoreRows as rows of parameters, by the number of scores in each."""
    shared, own, most = len(SHARED), len(OWN), MAX_SCORES * len(OWN)
    by_size: dict[int, list[Row]] = {}
    for values in scored:
        for at in range(shared, len(values), most):
            row = (*values[:shared], *values[at : at + most]) if len(values) > most + shared else tuple(values)
            by_size.setdefault((len(row) - shared) // own, []).append(row)
    return by_size


def _insert(connection: Connection, sql: str, rows: list[Row], each: int) -> None:
    """each: table rows per row of parameters."""
    if connection.exec_driver_sql(sql, rows).rowcount != each * len(rows):
        raise WriteConflict


@cache
def _one_row(table: Table, dialect: Dialect) -> str:
    return str(insert(dialect, table).on_conflict_do_nothing().compile(dialect=dialect))


@cache
def _several_rows(size: int) -> str:
    """SQL for `size` scores of one exchange: one parameter for each of SHARED, then for each of OWN per score.

    Only the shared ones have numbers: Python's driver asks for the name of every parameter, and SQLite looks for it
    among all that have one.
    """
    shared = [f"?{i}" for i in range(1, len(SHARED) + 1)]
    row = f"({', '.join([*shared, *len(OWN) * '?'])})"
    columns = ", ".join((*SHARED, *OWN))
    return f"INSERT INTO {scores.name} ({columns}) VALUES {', '.join(size * [row])} ON CONFLICT DO NOTHING"  # noqa: S608 - our own words
