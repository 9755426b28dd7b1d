"""Inserts many new rows: into SQLite by statements of several rows, into PostgreSQL by COPY.

SQLite: one statement inserts all scores of an exchange. To bind a value takes longer than to store it, so only values
that differ between exchanges are bound: the scorers, the outcomes and the NULLs are part of the statement. Exchanges
whose scores differ in nothing else share a statement.

PostgreSQL: rows in COPY's binary format (its docs, "COPY", section "Binary Format"). A value is its size as a 32-bit
number and its bytes; a row is the number of its values and the values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Connection, Double, Integer, LargeBinary, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

from gateway.core.score import ConfiguredScorer, Score, ScoreResult, ScorerInfo
from gateway.store.engine import insert
from gateway.store.rows import (
    OF_SCORER,
    OWN,
    PAID,
    PLACE,
    SCORED,
    SHARED,
    UNPAID,
    UNSCORED,
    Row,
    ScoredExchange,
    ScoreIds,
    paid_values,
    plain_text,
    score_values,
    scorer_values,
    shared_values,
)
from gateway.store.tables import scores

START = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
Encode = Callable[[Any], bytes]

_size, _double, _bigint, _integer = (struct.Struct(f"!i{of}").pack for of in ("", "d", "q", "i"))
_two_doubles = struct.Struct("!idid").pack
_count = struct.Struct("!h").pack


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _size(len(encoded)) + encoded


def _bytes(value: bytes) -> bytes:
    return _size(len(value)) + value


_ENCODERS: Mapping[type, Encode] = {
    Text: _text,
    LargeBinary: _bytes,
    Double: lambda value: _double(8, value),
    BigInteger: lambda value: _bigint(8, value),
    Integer: lambda value: _integer(4, value),
    Boolean: lambda value: b"\0\0\0\1\1" if value else b"\0\0\0\1\0",
}


class RowEncoder:
    """Encodes rows of some columns of a table."""

    def __init__(self, columns: Sequence[Column[Any]]) -> None:
        self._encoders = tuple([_ENCODERS[type(c.type)] for c in columns])

    def values(self, row: Row) -> bytes:
        """Encodes a row, without the number of values. Raises OverflowError, TypeError and UnicodeError for a value
        that its column cannot hold."""
        try:
            return b"".join(
                [NULL if value is None else encode(value) for encode, value in zip(self._encoders, row, strict=True)]
            )
        except struct.error as error:
            raise OverflowError(f"a number is not of its column's type: {error}") from error
        except AttributeError as error:
            raise TypeError(f"a value is not text: {error}") from error


def _columns(*names: str) -> RowEncoder:
    return RowEncoder([scores.columns[name] for name in names])


_COUNT = _count(len((*SHARED, *OWN)))
_PLACE = _columns(*PLACE)
_SCORER = _columns(*OF_SCORER)
_OUTCOME = _columns("status", "explanation")
_PAID, _SCORE = _columns(*PAID), _columns(*SCORED)
_NULL_PAID, _NULL_SCORED = len(PAID) * NULL, len(SCORED) * NULL
_ID = _size(36)


class BinaryScores:
    """Builds rows of `scores`, with the columns of SHARED and OWN in order. Values that rows of several exchanges or of
    one scorer share, and the encoding of an equal Score or outcome, are computed once."""

    def __init__(self, scorers: Mapping[str, ConfiguredScorer]) -> None:
        self._scorers = scorers
        self._ids = ScoreIds()
        self._places: dict[Row, bytes] = {}
        self._of_scorer: dict[tuple[str, ...], bytes] = {}
        self._outcomes: dict[tuple[str, str | None], bytes] = {}
        self._scores: dict[tuple[str, int], tuple[Score, bytes]] = {}  # by scorer and id(); holding it keeps the id

    def rows(self, judged: ScoredExchange, now: float) -> bytes:
        """Encodes all scores of an exchange. Raises as RowEncoder.values()."""
        start, pi = self._start(shared_values(judged, now)), judged.exchange.pi
        known, outcomes, parts = self._of_scorer, self._outcomes, list[bytes]()
        for r, score_id in zip(judged.results, self._ids.of(judged), strict=True):
            name, version, config_hash, status, score, why, seconds, seen, spent = r
            scorer, outcome = (name, version, config_hash), (status, why)
            parts += (start, score_id.encode(), known.get(scorer) or self._scorer(scorer))
            measured = NULL + _double(8, seconds) if pi is None else _two_doubles(8, pi * seen, 8, seconds)
            parts += (outcomes.get(outcome) or self._outcome(outcome), measured)
            parts += (
                _NULL_PAID if spent is None else _PAID.values(paid_values(spent)),
                _NULL_SCORED if score is None else self._score(name, score),
            )
        return b"".join(parts)

    def _start(self, shared: Row) -> bytes:
        """The beginning of every row of an exchange, up to the size of its score's id."""
        exchange_id, *of_place, received, now = shared
        place = tuple(of_place)
        made = self._places.get(place) or self._places.setdefault(place, _PLACE.values(place))
        return b"".join((_COUNT, _text(exchange_id), made, _two_doubles(8, received, 8, now), _ID))

    def _scorer(self, key: tuple[str, str, str]) -> bytes:
        made = self._of_scorer[key] = _SCORER.values(scorer_values(self._scorers[key[0]].scorer, *key))
        return made

    def _outcome(self, outcome: tuple[str, str | None]) -> bytes:
        made = self._outcomes[outcome] = _OUTCOME.values((outcome[0], plain_text(outcome[1])))
        return made

    def _score(self, scorer: str, score: Score) -> bytes:
        key = scorer, id(score)
        known = self._scores.get(key)
        if known is None:
            known = self._scores[key] = score, _SCORE.values(score_values(score, self._scorers[scorer].scorer))
        return known[1]


NAN = float("nan")
"""The value to bind for None. SQLite stores NaN as NULL (its docs, "Floating point numbers"); Python's driver binds a
float at once, and for None first asks all adapters, which takes longer than to bind six texts."""
MAX_SCORES = 40  # in one statement: SQLite before 3.32 takes 999 parameters

_COLUMNS = (*SHARED, "pi", "score_id", "seconds", *OF_SCORER, "status", "explanation", *PAID, *SCORED)
# Only parameters that rows share have numbers: the driver asks for the name of every parameter, and SQLite looks for
# it among all that have one. An anonymous one has the number after the highest before it, so ?11 comes first.
_SHARED = ", ".join([f"?{i}" for i in range(1, 11)])
_INSERT = f"INSERT INTO {scores.name} ({', '.join(_COLUMNS)}) VALUES "  # noqa: S608 - our own words

_Made = tuple[str, Row, Score | None]
"""A row of a statement, the values of the last of its own parameters, and the objects that must be kept so that their
id() is not reused."""


class SqliteScores:
    """Builds statements, and rows of parameters for them. The parameters of an equal outcome are computed once."""

    def __init__(self, scorers: Mapping[str, ConfiguredScorer]) -> None:
        self._scorers = scorers
        self._ids = ScoreIds()
        self._made: dict[Row, _Made] = {}
        self._texts: dict[Row, str] = {}  # of rows, by what stands in them

    def statements(self, judged: Iterable[ScoredExchange], now: float) -> list[tuple[str, list[Row], int]]:
        """Returns (SQL, rows of parameters, scores that each inserts), in any order."""
        found: dict[tuple[str, ...], list[Row]] = {}
        for each in judged:
            shared = [NAN if value is None else value for value in (*shared_values(each, now), each.exchange.pi)]
            ids = self._ids.of(each)
            for at in range(0, len(ids), MAX_SCORES):
                rows, values = self._rows(each.results[at : at + MAX_SCORES], ids[at : at + MAX_SCORES])
                found.setdefault(tuple(rows), []).append((*shared, *values))
        return [(f"{_INSERT}{', '.join(rows)} ON CONFLICT DO NOTHING", each, len(rows)) for rows, each in found.items()]

    def _rows(self, results: Iterable[ScoreResult], ids: Iterable[str]) -> tuple[list[str], list[Any]]:
        known, rows, values = self._made, list[str](), list[Any]()
        for r, score_id in zip(results, ids, strict=True):
            name, version, config_hash, status, score, why, seconds, seen, spent = r
            key = name, version, config_hash, status, why, seen == 1, id(score)
            made = known.get(key) if spent is None else self._row(r)
            if made is None:
                made = known[key] = self._row(r)
            row, own, _ = made
            rows.append(row)
            values += (score_id, seconds, *own) if seen == 1 else (seen, score_id, seconds, *own)
        return rows, values

    def _row(self, r: ScoreResult) -> _Made:
        scorer = self._scorers[r.scorer].scorer
        paid = UNPAID if r.spent is None else paid_values(r.spent)
        scored = UNSCORED if r.score is None else score_values(r.score, scorer)
        own = (plain_text(r.explanation), *paid, *scored)
        key = (*r[:4], r.pi == 1, *[value is None for value in own])
        row = self._texts.get(key) or self._texts.setdefault(key, _row_text(r, scorer, own))
        return row, tuple([value for value in own if value is not None]), r.score


def _row_text(r: ScoreResult, scorer: ScorerInfo, own: Row) -> str:
    pi = "?11" if r.pi == 1 else "?11 * ?"  # SQLite multiplies as Python does
    stated = [_quoted(value) for value in (*scorer_values(scorer, *r[:3]), r.status)]
    return f"({', '.join([_SHARED, pi, '?, ?', *stated, *('NULL' if value is None else '?' for value in own)])})"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


class WriteConflict(Exception):
    """One of these rows was written by another consumer at the same time: run the whole transaction again."""


def insert_new(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Inserts rows in the order of the table's columns. Raises WriteConflict where one of them exists."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        encoder, size = RowEncoder(list(table.columns)), _count(len(table.columns))
        encoded = b"".join([part for row in rows for part in (size, encoder.values(row))])
        _copy(connection, table, table.columns.keys(), encoded)
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
    """Inserts rows of parameters. each: table rows per row of parameters."""
    if connection.exec_driver_sql(sql, rows).rowcount != each * len(rows):
        raise WriteConflict


@cache
def _one_row(table: Table, dialect: Dialect) -> str:
    return str(insert(dialect, table).on_conflict_do_nothing().compile(dialect=dialect))
