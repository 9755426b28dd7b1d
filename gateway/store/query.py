"""Read-only queries: filtered lists and one complete exchange. They run in any process, while others write.

The only way from a --where expression to SQL: values are parameters, names are columns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    LargeBinary,
    Select,
    and_,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)

from gateway.core.did_you_mean import did_you_mean
from gateway.core.exchange import cluster_digest
from gateway.core.json_values import parse_object
from gateway.core.request_format import stated_reference
from gateway.core.time_span import seconds_of
from gateway.store import engine
from gateway.store.run_chunks import WHOLE_EXCHANGE, whole_request
from gateway.store.tables import exchanges, feedback, score_cells, scores
from gateway.store.where import Node, Not, Or, QueryError, Term, parse, terms

Found = dict[str, Any]
Reading = Connection
"""A connection that only reads."""
_BODIES = {"request", "response", "text", "reasoning", "refusal", "tool_calls", "attempts"}
_OF_STORAGE = {"request_chunks", "request_bytes"}
SHOWN = [column for column in exchanges.columns if column.name not in _OF_STORAGE]
"""The columns of a call, with its whole request as `request`."""
LISTED = [column for column in SHOWN if column.name not in _BODIES]
"""The columns of a call in a list: all but those of its texts."""


@dataclass(frozen=True, slots=True)
class ExchangeFilter:
    """Selects exchanges to list, newest first; None: no condition."""

    limit: int = 20
    alias: str | None = None
    since: float | None = None
    """Unix seconds."""
    where: Node | None = None
    run: str | None = None
    """A run, by our id or the client's."""


def filter_of(
    limit: int, alias: str | None, since: str | None, where: str | None, run: str | None = None
) -> ExchangeFilter:
    """Makes a filter from the words of a command line. since: a time span, until now; None: no bound.

    Raises InvalidDuration, QueryError.
    """
    after = None if since is None else time.time() - seconds_of(since)
    return ExchangeFilter(limit, alias, after, None if where is None else parse(where), run)


@contextmanager
def reading(url: str) -> Iterator[Reading]:
    """A connection that can only read. Raises StoreUnavailable."""
    opened = engine.reader(url)
    try:
        with opened.connect() as connection:
            yield connection
    finally:
        opened.dispose()


@contextmanager
def writing(url: str) -> Iterator[engine.Transaction]:
    """One transaction of a writer. Raises StoreUnavailable."""
    opened = engine.writer(url)
    try:
        with opened.begin() as connection:
            yield connection
    finally:
        opened.dispose()


def list_exchanges(connection: Connection, filter: ExchangeFilter) -> list[Found]:
    """Exchanges without their texts, each with its `scores`. Raises QueryError."""
    query = select(*LISTED).where(*conditions(connection, filter)).order_by(exchanges.c.received.desc())
    query = query.limit(filter.limit)
    found = rows_of(connection, query)
    by_exchange = scores_of(connection, [each["id"] for each in found])
    return [{**each, "scores": by_exchange.get(each["id"], [])} for each in found]


def full_exchange(connection: Connection, exchange_id: str) -> Found | None:
    """Reads an exchange with every column, its `scores`, its caller's `feedback`, and the ids of its `shadows`."""
    found = rows_of(connection, select(*WHOLE_EXCHANGE).where(exchanges.c.id == exchange_id))
    if not found:
        return None
    [row] = found
    direct = and_(feedback.c.exchange_id == exchange_id, feedback.c.caller == row["caller"])
    given = select(feedback).where(or_(feedback.c.resolved == exchange_id, direct))
    shadows = select(exchanges.c.id).where(exchanges.c.pair == exchange_id)
    return {
        **row,
        "scores": scores_of(connection, [exchange_id]).get(exchange_id, []),
        "feedback": rows_of(connection, given),
        "shadows": list(connection.execute(shadows).scalars()),
    }


def right_answer(found: Found) -> str | None:
    """The reference that came with the request: in its header, or in its metadata."""
    if found["reference"]:
        return str(found["reference"])
    return stated_reference(parse_object(found["request"]) or {})


def conditions(connection: Connection, filter: ExchangeFilter) -> list[ColumnElement[bool]]:
    """The filter as conditions on `exchanges`, without its limit. Raises QueryError."""
    found: list[ColumnElement[bool]] = []
    if filter.alias is not None:
        found.append(exchanges.c.alias == filter.alias)
    if filter.since is not None:
        found.append(exchanges.c.received >= filter.since)
    if filter.where is not None:
        found.append(condition(connection, filter.where))
    if filter.run is not None:
        found.append(is_of_run(filter.run))
    return found


def is_of_run(name: str) -> ColumnElement[bool]:
    """The condition that a call is one of the runs with this id, ours or a client's."""
    e = exchanges.c
    named = and_(e.run.in_((name, cluster_digest(name))), e.run_id.is_not(None))  # no shadow of one of its calls
    return or_(named, e.run_id == name)


def scores_of(connection: Connection, ids: Sequence[str]) -> dict[str, list[Found]]:
    """The scores of each exchange, in order of arrival."""
    query = select(scores).where(scores.c.exchange_id.in_(ids)).order_by(scores.c.created, scores.c.scorer)
    by_exchange: dict[str, list[Found]] = {}
    for row in rows_of(connection, query):
        by_exchange.setdefault(row["exchange_id"], []).append(row)
    return by_exchange


def rows_of(connection: Connection, query: Select[Any]) -> list[Found]:
    """The rows of a query as dicts: orjson does not accept SQLAlchemy's quoted_name as a key."""
    return [{str(name): value for name, value in row.items()} for row in connection.execute(query).mappings()]


_SIGNS: Mapping[str, Callable[[Any, Any], Any]] = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}


def condition(connection: Connection, node: Node) -> ColumnElement[bool]:
    """A --where expression as a condition on `exchanges`. Raises QueryError for a misspelt scorer."""
    _check_scorers(connection, terms(node))
    return _of(node, connection.dialect.name)


def _of(node: Node, dialect: str) -> ColumnElement[bool]:
    if isinstance(node, Term):
        return _scored([node]) if node.of_score else _compared(node, dialect)
    if isinstance(node, Not):
        return not_(_of(node.part, dialect))
    if isinstance(node, Or):
        return or_(*(_of(part, dialect) for part in node.parts))
    of_score = [part for part in node.parts if all(term.of_score for term in terms(part))]
    together = of_score if any(not isinstance(part, Not) for part in of_score) else []
    alone = [_of(part, dialect) for part in node.parts if part not in together]
    return and_(*([_scored(together)] if together else []), *alone)


def _scored(of: Sequence[Node]) -> ColumnElement[bool]:
    """The condition that some score of the exchange meets all of these."""
    mine = scores.c.exchange_id == exchanges.c.id
    return select(scores.c.score_id).where(mine, *(_of_one(node) for node in of)).correlate(exchanges).exists()


def _of_one(node: Node) -> ColumnElement[bool]:
    """The condition on a score itself."""
    if isinstance(node, Term):
        return _compared(node, "")
    if isinstance(node, Not):
        return not_(_of_one(node.part))
    parts = (_of_one(part) for part in node.parts)
    return or_(*parts) if isinstance(node, Or) else and_(*parts)


def _compared(term: Term, dialect: str) -> ColumnElement[bool]:
    """NULL differs from every value, and is neither less nor more than any."""
    name = "status" if term.field == "score_status" else term.field
    column: ColumnElement[Any] = (scores if term.of_score else exchanges).c[name]
    if term.kind == "bytes":
        column = whole_request()
    if term.value is None:
        return column.is_(None) if term.sign == "=" else column.is_not(None)
    if term.kind == "bytes":
        holds = _holds(column, str(term.value), dialect)
        return holds if term.sign == "~" else not_(holds)
    if term.sign in ("~", "!~"):
        holds = func.coalesce(column, "").icontains(str(term.value), autoescape=True)
        return holds if term.sign == "~" else not_(holds)
    value = literal(term.value, Boolean) if isinstance(term.value, bool) else term.value
    compared: ColumnElement[bool] = _SIGNS[term.sign](column, value)
    return or_(column.is_(None), compared) if term.sign == "!=" else and_(column.is_not(None), compared)


def _holds(column: Any, word: str, dialect: str) -> ColumnElement[bool]:
    """The condition that these bytes occur in a column of bytes."""
    if not word:
        return true()
    searched = literal(word.encode(), LargeBinary)
    find = func.position(searched.op("IN")(column)) if dialect == "postgresql" else func.instr(column, searched)
    holds: ColumnElement[bool] = find > 0
    return holds


def _check_scorers(connection: Connection, of: Sequence[Term]) -> None:
    asked = {str(t.value) for t in of if t.field == "scorer" and t.sign == "=" and t.value is not None}
    if not asked:
        return
    # score_cells has few rows, and nearly always every scorer.
    known = set(connection.execute(select(score_cells.c.scorer).distinct()).scalars())
    if not asked <= known:
        known |= set(connection.execute(select(scores.c.scorer).distinct()).scalars())
    for name in sorted(asked - known):
        hint = did_you_mean(name, sorted(known))
        if hint:
            raise QueryError(f'no score of "{name}" is in the store{hint}')
