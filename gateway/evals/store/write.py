"""One batch into the store, in one transaction: rows, and the sums over exactly the rows that are new.

Writing the same batch again changes nothing but the count of duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table, bindparam, select
from sqlalchemy.engine import Dialect

from gateway.core.chunked import chunked
from gateway.core.exchange import Exchange, Feedback, Tally
from gateway.core.score import ConfiguredScorer
from gateway.evals.store import feedback, ledger, score_sums
from gateway.evals.store.engine import insert
from gateway.evals.store.experiments import pairs
from gateway.evals.store.feedback import JoinedFeedback
from gateway.evals.store.rows import OWN, SHARED, Row, ScoredExchange, ScoreRowBuilder, ScoreRows, exchange_row
from gateway.evals.store.tables import counters, dead_letters, exchanges, scores


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """What was read from the stream and judged. tallies: with the stream id of their entry.

    scorers: those at work, by name; the population that a Tally reports counts for each of them.
    """

    scorers: Mapping[str, ConfiguredScorer]
    judged: Sequence[ScoredExchange] = ()
    tallies: Sequence[tuple[str, Tally]] = ()
    feedback: Sequence[Feedback] = ()


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A dead letter. entry: its id in the stream. exchange: None where the entry could not be read."""

    entry: str
    reason: str
    error: str
    at: float
    exchange: Exchange | None = None


@dataclass(frozen=True, slots=True)
class WriteResult:
    """new: exchanges stored now. duplicates: exchanges that were there before. met: what became of feedback."""

    new: int = 0
    duplicates: int = 0
    met: Sequence[JoinedFeedback] = ()


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


def insert_scores(connection: Connection, said: Iterable[ScoreRows]) -> None:
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


_KNOWN_EXCHANGES = select(exchanges.c.id).where(exchanges.c.id.in_(bindparam("ids", expanding=True)))
_KNOWN_SCORES = select(scores.c.score_id).where(scores.c.exchange_id.in_(bindparam("ids", expanding=True)))
_CHUNK = 500


def write(connection: Connection, batch: ScoredBatch, now: float) -> WriteResult:
    """Raises Raced, and what the database raises; then nothing of the batch is stored."""
    by_id = {j.exchange.id: j for j in batch.judged}
    known = _known(connection, _KNOWN_EXCHANGES, by_id)
    new = [j for i, j in by_id.items() if i not in known]
    ledger.count_late(connection, [(j.exchange.incarnation, j.exchange.seq) for j in new])
    insert_new(connection, exchanges, [exchange_row(j, now) for j in new])
    pairs.open_pairs(connection, new)
    pairs.move_earlier(connection, [by_id[i] for i in known])
    _scores(connection, [*new, *_unscored(connection, [by_id[i] for i in known], batch)], batch, now)
    for entry, tally in batch.tallies:
        score_sums.add_population(connection, batch.scorers, ledger.add_tally(connection, entry, tally))
    feedback.join_waiting(connection, new, now)
    met = feedback.write_feedback(connection, batch.feedback, now)
    duplicates = len(batch.judged) - len(new)
    count(connection, "duplicates", duplicates)
    return WriteResult(len(new), duplicates, tuple(met))


def add_dead_letters(connection: Connection, letters: Sequence[DeadLetterRow]) -> None:
    """Notes dead letters; noting one twice counts it once."""
    statement = insert(connection.dialect, dead_letters).on_conflict_do_nothing()
    ledger.count_late(connection, [(x.exchange.incarnation, x.exchange.seq) for x in letters if x.exchange])
    for letter in letters:
        of = letter.exchange
        values = {
            "entry": letter.entry,
            "reason": letter.reason,
            "error": letter.error.replace("\0", "\ufffd"),
            "at": letter.at,
            "incarnation": of.incarnation if of else None,
            "seq": of.seq if of else None,
        }
        connection.execute(statement, values)


def count(connection: Connection, name: str, n: int) -> None:
    """Adds to a counter that outlives every process."""
    if n:
        statement = insert(connection.dialect, counters).values(name=name, n=n)
        more = {"n": counters.c.n + statement.excluded.n}
        connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=more))


def _scores(connection: Connection, judged: Sequence[ScoredExchange], batch: ScoredBatch, now: float) -> None:
    """What was said of these, and is not there yet; with the sums over it."""
    sums, scribe = score_sums.ScoreSums(), ScoreRowBuilder(batch.scorers, null_of(connection))
    for j in judged:
        sums.count(j.exchange, j.results, batch.scorers)
    insert_scores(connection, [scribe.opinions(j, now) for j in judged])
    score_sums.add_costs(connection, score_sums.costs_of_results(chain.from_iterable(j.results for j in judged)))
    score_sums.add(connection, sums)


def _unscored(connection: Connection, known: Sequence[ScoredExchange], batch: ScoredBatch) -> list[ScoredExchange]:
    """What a redelivery brings that is not there yet: the scores of scorers that were configured in between."""
    stored, scribe = _known(connection, _KNOWN_SCORES, [j.exchange.id for j in known]), ScoreRowBuilder(batch.scorers)
    fresh = ([r for r, i in zip(j.results, scribe.score_ids(j), strict=True) if i not in stored] for j in known)
    return [replace(j, results=results) for j, results in zip(known, fresh, strict=True) if results]


def _known(connection: Connection, statement: Any, ids: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for chunk in chunked(ids, _CHUNK):
        found.update(connection.execute(statement, {"ids": chunk}).scalars())
    return found
