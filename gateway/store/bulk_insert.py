"""Inserts many new rows: into SQLite by statements of several rows, into PostgreSQL by COPY."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

from gateway.core.score import ConfiguredScorer
from gateway.store.binary_rows import END, START, BinaryScores, encoded_rows
from gateway.store.engine import insert
from gateway.store.rows import OWN, SHARED, Row, ScoredExchange
from gateway.store.sqlite_rows import NAN, SqliteScores
from gateway.store.tables import scores


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
    for sql, values, size in SqliteScores(scorers).statements(judged, now):
        _insert(connection, sql, values, size)


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


def _insert(connection: Connection, sql: str, rows: list[Row], each: int) -> None:
    """each: table rows per row of parameters."""
    if connection.exec_driver_sql(sql, rows).rowcount != each * len(rows):
        raise WriteConflict


@cache
def _one_row(table: Table, dialect: Dialect) -> str:
    return str(insert(dialect, table).on_conflict_do_nothing().compile(dialect=dialect))
