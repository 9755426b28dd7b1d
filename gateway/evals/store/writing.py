"""One batch into the store, in one transaction: rows, and the sums over exactly the rows that are new.

Writing the same batch again changes nothing but the count of duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, bindparam, select
from sqlalchemy.engine import Dialect

from gateway.evals.store import cells, costs, experiments_pairs, feedback, ledger
from gateway.evals.store.batches import Batch, Letter, Written
from gateway.evals.store.engine import insert
from gateway.evals.store.rows import Judged, Row, exchange_row, score_rows
from gateway.evals.store.tables import counters, dead_letters, exchanges, scores

_KNOWN_EXCHANGES = select(exchanges.c.id).where(exchanges.c.id.in_(bindparam("ids", expanding=True)))
_KNOWN_SCORES = select(scores.c.score_id).where(scores.c.score_id.in_(bindparam("ids", expanding=True)))
_CHUNK = 500


class Raced(Exception):
    """Another consumer wrote one of these exchanges at this moment: the whole transaction is to be run again."""


def write(connection: Connection, batch: Batch, now: float) -> Written:
    """Raises Raced, and what the database raises; then nothing of the batch is stored."""
    by_id = {j.exchange.id: j for j in batch.judged}
    known = _known(connection, _KNOWN_EXCHANGES, by_id)
    new = [j for i, j in by_id.items() if i not in known]
    ledger.arriving(connection, [(j.exchange.incarnation, j.exchange.seq) for j in new])
    _insert_new(connection, exchanges, [exchange_row(j, now) for j in new])
    experiments_pairs.open_pairs(connection, new)
    experiments_pairs.seen_earlier(connection, [by_id[i] for i in known])
    sums = cells.Sums()
    rows = [row for j in new for row in _counted(j, batch, now, sums)]
    rows += _scores_of_known(connection, [by_id[i] for i in known], batch, now, sums)
    _insert_new(connection, scores, rows)
    costs.add(connection, costs.of_rows(rows))
    cells.add(connection, sums)
    for entry, tally in batch.tallies:
        cells.add_population(connection, batch.scorers, ledger.take(connection, entry, tally))
    feedback.arrived(connection, new, now)
    met = feedback.write(connection, batch.feedback, now)
    duplicates = len(batch.judged) - len(new)
    count(connection, "duplicates", duplicates)
    return Written(len(new), duplicates, tuple(met))


def bury(connection: Connection, letters: Sequence[Letter]) -> None:
    """Notes dead letters; noting one twice counts it once."""
    statement = insert(connection.dialect, dead_letters).on_conflict_do_nothing()
    ledger.arriving(connection, [(x.exchange.incarnation, x.exchange.seq) for x in letters if x.exchange])
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


def _counted(judged: Judged, batch: Batch, now: float, sums: cells.Sums) -> list[Row]:
    sums.count(judged.exchange, judged.results, batch.scorers)
    return score_rows(judged, batch.scorers, now)


def _scores_of_known(
    connection: Connection, known: Sequence[Judged], batch: Batch, now: float, sums: cells.Sums
) -> list[Row]:
    """What a redelivery brings that is not there yet: the scores of scorers that were configured in between."""
    pairs = [(j, r, row) for j in known for r, row in zip(j.results, score_rows(j, batch.scorers, now), strict=True)]
    stored = _known(connection, _KNOWN_SCORES, [row[0] for _, _, row in pairs])
    fresh = [(j, r, row) for j, r, row in pairs if row[0] not in stored]
    for judged, result, _ in fresh:
        sums.count(judged.exchange, [result], batch.scorers)
    return [row for _, _, row in fresh]


def _known(connection: Connection, statement: Any, ids: Iterable[str]) -> set[str]:
    ids = list(ids)
    found: set[str] = set()
    for at in range(0, len(ids), _CHUNK):
        found.update(connection.execute(statement, {"ids": ids[at : at + _CHUNK]}).scalars())
    return found


def _insert_new(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    if not rows:
        return
    sql, names = _compiled(table, connection.dialect)
    values: Any = rows if names is None else [dict(zip(names, row, strict=True)) for row in rows]
    if connection.exec_driver_sql(sql, values).rowcount != len(rows):
        raise Raced


@cache
def _compiled(table: Table, dialect: Dialect) -> tuple[str, tuple[str, ...] | None]:
    """The statement as the driver takes it; names: None where it takes tuples. SQLAlchemy's own handling of parameters
    costs more than SQLite's insert."""
    compiled = insert(dialect, table).on_conflict_do_nothing().compile(dialect=dialect)
    return str(compiled), None if compiled.positional else tuple(c.name for c in table.columns)
