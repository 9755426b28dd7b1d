"""Questions to the store that change nothing: samples, one exchange whole. From any process, while others write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, or_, select

from gateway.evals.store import engine
from gateway.evals.store.searching import condition
from gateway.evals.store.tables import exchanges, feedback, scores
from gateway.evals.store.where import Node

Found = dict[str, Any]
Reading = Connection  # one that only reads
_BODIES = {"request", "response", "text", "reasoning", "refusal", "tool_calls", "attempts"}
_LISTED = [column for column in exchanges.columns if column.name not in _BODIES]


@dataclass(frozen=True, slots=True)
class ExchangeFilter:
    """Which exchanges to list, newest first. since: Unix time; None: no bound. alias: None: all. where: a query."""

    limit: int = 20
    alias: str | None = None
    since: float | None = None
    where: Node | None = None


@contextmanager
def reading(url: str) -> Iterator[Reading]:
    """A connection that can only read. Raises engine.NoStore."""
    opened = engine.reader(url)
    try:
        with opened.connect() as connection:
            yield connection
    finally:
        opened.dispose()


def listed(connection: Connection, wish: ExchangeFilter) -> list[Found]:
    """Exchanges without what was said, each with its `scores`. Raises QueryError."""
    query = select(*_LISTED).where(*conditions(connection, wish)).order_by(exchanges.c.received.desc())
    query = query.limit(wish.limit)
    found = [_plain(row) for row in connection.execute(query).mappings()]
    by_exchange = scores_of(connection, [each["id"] for each in found])
    return [{**each, "scores": by_exchange.get(each["id"], [])} for each in found]


def whole(connection: Connection, exchange_id: str) -> Found | None:
    """One exchange with everything: `scores`, `feedback` (only of the caller who asked), and `shadows` by id."""
    row = connection.execute(select(exchanges).where(exchanges.c.id == exchange_id)).mappings().first()
    if row is None:
        return None
    direct = and_(feedback.c.exchange_id == exchange_id, feedback.c.caller == row["caller"])
    said = select(feedback).where(or_(feedback.c.resolved == exchange_id, direct))
    shadows = select(exchanges.c.id).where(exchanges.c.pair == exchange_id)
    return {
        **_plain(row),
        "scores": scores_of(connection, [exchange_id]).get(exchange_id, []),
        "feedback": [_plain(each) for each in connection.execute(said).mappings()],
        "shadows": list(connection.execute(shadows).scalars()),
    }


def conditions(connection: Connection, wish: ExchangeFilter) -> list[ColumnElement[bool]]:
    """What the wish asks of `exchanges`, but for its limit. Raises QueryError."""
    found: list[ColumnElement[bool]] = []
    if wish.alias is not None:
        found.append(exchanges.c.alias == wish.alias)
    if wish.since is not None:
        found.append(exchanges.c.received >= wish.since)
    if wish.where is not None:
        found.append(condition(connection, wish.where))
    return found


def scores_of(connection: Connection, ids: Sequence[str]) -> dict[str, list[Found]]:
    """By exchange, in the order in which they came."""
    query = select(scores).where(scores.c.exchange_id.in_(ids)).order_by(scores.c.created, scores.c.scorer)
    by_exchange: dict[str, list[Found]] = {}
    for row in connection.execute(query).mappings():
        by_exchange.setdefault(row["exchange_id"], []).append(_plain(row))
    return by_exchange


def _plain(row: RowMapping) -> Found:
    """SQLAlchemy's own kind of str is no key for JSON."""
    return {str(name): value for name, value in row.items()}
