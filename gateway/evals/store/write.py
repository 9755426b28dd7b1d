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
from gateway.evals.store import feedback, ledger, prediction_sums, score_sums, turns, usage
from gateway.evals.store.engine import insert
from gateway.evals.store.experiments import pairs
from gateway.evals.store.feedback import JoinedFeedback
from gateway.evals.store.predictions import predicted, prediction_row
from gateway.evals.store.rows import OWN, SHARED, Row, ScoredExchange, ScoreRowBuilder, ScoreRows, exchange_row
from gateway.evals.store.tables import counters, dead_letters, exchanges, predictions, scores


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """What was read from the stream and scored."""

    scorers: Mapping[str, ConfiguredScorer]
    """The running scorers, by name; the population that a Tally reports counts for each of them."""
    judged: Sequence[ScoredExchange] = ()
    tallies: Sequence[tuple[str, Tally]] = ()
    """With the stream id of their entry."""
    feedback: Sequence[Feedback] = ()


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """An entry that cannot be scored or stored."""

    entry: str
    """Its id in the stream."""
    reason: str
    error: str
    at: float
    exchange: Exchange | None = None
    """None where the entry could not be read."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    new: int = 0
    """Exchanges stored by this call."""
    duplicates: int = 0
    """Exchanges that were stored before."""
    met: Sequence[JoinedFeedback] = ()
    """The outcome of each feedback of the batch."""


MAX_SCORES = 40  # in one statement: SQLite before 3.32 takes 999 parameters


class WriteConflict(Exception):
    """Another consumer wrote one of these rows at the same time: run the whole transaction again."""


def null_of(connection: Connection) -> Any:
    """The value to bind for None. SQLite stores NaN as NULL (its docs, "Floating point numbers"); Python's
    driver binds a float at once, and for None first asks all adapters, which takes longer than to bind six texts."""
    return NAN if connection.dialect.name == "sqlite" else None


NAN = float("nan")


def insert_new(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """rows: in the order of the table's columns. Raises WriteConflict where one of them exists."""
    null = null_of(connection)
    if null is not None:
        rows = [tuple([null if value is None else value for value in row]) for row in rows]
    _insert(connection, rows, 1, *_compiled(table, connection.dialect))


def insert_scores(connection: Connection, scored: Iterable[ScoreRows]) -> None:
    """Inserts all scores of an exchange by one statement that binds their shared columns once: binding a parameter
    costs as much as storing it. Raises WriteConflict where one of the scores exists."""
    shared, own, most = len(SHARED), len(OWN), MAX_SCORES * len(OWN)
    by_size: dict[int, list[Row]] = {}
    for each in scored:
        values = each.values
        for at in range(shared, len(values), most):
            row = (*values[:shared], *values[at : at + most]) if len(values) > most + shared else tuple(values)
            by_size.setdefault((len(row) - shared) // own, []).append(row)
    for size, rows in sorted(by_size.items()):
        _insert(connection, rows, size, *_statement(size, connection.dialect.paramstyle))


def _insert(connection: Connection, rows: Sequence[Row], each: int, sql: str, names: tuple[str, ...] | None) -> None:
    """each: table rows per parameter row. names: of the parameters; None where the driver takes tuples."""
    if not rows:
        return
    values: Any = rows if names is None else [dict(zip(names, row, strict=True)) for row in rows]
    if connection.exec_driver_sql(sql, values).rowcount != each * len(rows):
        raise WriteConflict


@cache
def _compiled(table: Table, dialect: Dialect) -> tuple[str, tuple[str, ...] | None]:
    """(SQL for the driver, names of its parameters or None where it takes tuples)."""
    compiled = insert(dialect, table).on_conflict_do_nothing().compile(dialect=dialect)
    return str(compiled), None if compiled.positional else tuple(c.name for c in table.columns)


@cache
def _statement(size: int, paramstyle: str) -> tuple[str, tuple[str, ...] | None]:
    """The same for `size` scores of one exchange: one parameter for each of SHARED, then for each of OWN per score."""
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
    """Raises WriteConflict and database errors; then nothing of the batch is stored."""
    by_id = {j.exchange.id: j for j in batch.judged}
    known = _known(connection, _KNOWN_EXCHANGES, by_id)
    new = [j for i, j in by_id.items() if i not in known]
    ledger.count_late(connection, [(j.exchange.incarnation, j.exchange.seq) for j in new])
    insert_new(connection, exchanges, [exchange_row(j, now) for j in new])
    _predictions(connection, new, batch)
    pairs.open_pairs(connection, new)
    pairs.move_earlier(connection, [by_id[i] for i in known])
    _scores(connection, [*new, *_unscored(connection, [by_id[i] for i in known], batch)], batch, now)
    for entry, tally in batch.tallies:
        score_sums.add_population(connection, batch.scorers, ledger.add_tally(connection, entry, tally))
        usage.add_usage(connection, tally)
    feedback.join_waiting(connection, new, now)
    met = feedback.write_feedback(connection, batch.feedback, now)
    turns.add(connection, [j.turn for j in new if j.turn is not None], now)
    duplicates = len(batch.judged) - len(new)
    count(connection, "duplicates", duplicates)
    return WriteResult(len(new), duplicates, tuple(met))


def add_dead_letters(connection: Connection, rows: Sequence[DeadLetterRow]) -> None:
    """Stores dead letters; one that is added twice counts once."""
    statement = insert(connection.dialect, dead_letters).on_conflict_do_nothing()
    ledger.count_late(connection, [(x.exchange.incarnation, x.exchange.seq) for x in rows if x.exchange])
    for row in rows:
        of = row.exchange
        values = {
            "entry": row.entry,
            "reason": row.reason,
            "error": row.error.replace("\0", "\ufffd"),
            "at": row.at,
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
    """Stores the scores of these exchanges, none of which is stored yet, and adds them to the sums."""
    sums, builder = score_sums.ScoreSums(), ScoreRowBuilder(batch.scorers, null_of(connection))
    for j in judged:
        sums.count(j.exchange, j.results, batch.scorers)
    insert_scores(connection, [builder.score_rows(j, now) for j in judged])
    score_sums.add_costs(connection, score_sums.costs_of_results(chain.from_iterable(j.results for j in judged)))
    score_sums.add(connection, sums)


def _predictions(connection: Connection, new: Sequence[ScoredExchange], batch: ScoredBatch) -> None:
    """Stores the predictions of these exchanges, and adds them to their sums."""
    rows = [prediction_row(j.exchange, j.prediction) for j in new if j.prediction is not None]
    if rows:
        insert_new(connection, predictions, rows)
        prediction_sums.add_predictions(connection, new, batch.scorers)


def _unscored(connection: Connection, known: Sequence[ScoredExchange], batch: ScoredBatch) -> list[ScoredExchange]:
    """Redelivered exchanges with the scores that are not stored yet: of scorers configured in the meantime."""
    stored, builder = _known(connection, _KNOWN_SCORES, [j.exchange.id for j in known]), ScoreRowBuilder(batch.scorers)
    known = _undecided(connection, known)
    fresh = ([r for r, i in zip(j.results, builder.score_ids(j), strict=True) if i not in stored] for j in known)
    return [replace(j, results=results) for j, results in zip(known, fresh, strict=True) if results]


def _undecided(connection: Connection, known: Sequence[ScoredExchange]) -> Sequence[ScoredExchange]:
    """The same without results of a scorer whose draw was decided and stored before: by then there was another model,
    with another probability."""
    guided = {j.prediction.scorer for j in known if j.prediction is not None}
    for name in guided:
        decided = predicted(connection, name, [j.exchange.id for j in known])
        known = [
            replace(j, results=[r for r in j.results if r.scorer != name]) if j.exchange.id in decided else j
            for j in known
        ]
    return known


def _known(connection: Connection, statement: Any, ids: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for chunk in chunked(ids, _CHUNK):
        found.update(connection.execute(statement, {"ids": chunk}).scalars())
    return found
