"""deploy/postgres/*.sql on a real PostgreSQL: a store works on partitions as on tables, and drops days whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fixtures.run_histories import growing
from fixtures.stores import Ledgerbook
from sqlalchemy import Connection, select

from gateway.core.exchange import Feedback, new_id
from gateway.store import engine, retention
from gateway.store.retention import WITHOUT_TEXTS
from gateway.store.run_chunks import whole_request
from gateway.store.tables import exchanges

SCRIPTS = Path(__file__).resolve().parents[2] / "deploy" / "postgres"
DAY_S = 86_400


@pytest.fixture
def book(postgres, postgres_template, stated_scorer) -> Iterator[Ledgerbook]:
    """A store of the test's own on PostgreSQL."""
    url = postgres.new(like=postgres_template)
    opened = engine.connect_writer(url)
    yield Ledgerbook(url, opened, {"stated": stated_scorer()})
    opened.dispose()
    postgres.drop(url)


def run(book: Ledgerbook, script: str) -> None:
    with psycopg.connect(book.url, autocommit=True) as connection:
        connection.execute((SCRIPTS / script).read_text())


def placed(book: Ledgerbook) -> dict[str, str]:
    """Exchange → its partition, where its scores are in the one of the same day."""
    found = book.sql("SELECT id, tableoid::regclass::text FROM exchanges")
    scored = dict(book.sql("SELECT exchange_id, tableoid::regclass::text FROM scores"))
    assert {i: part.replace("exchanges", "scores") for i, part in found} == scored
    return {i: part.removeprefix("exchanges_") for i, part in found}


def at(exchange, days: float, text: str = "1", **fields):
    """An exchange of `days` days from now."""
    now = time.time() + days * DAY_S
    return exchange(text, id=new_id(int(now * 1e9)), received=now, **fields)


def suffix(book: Ledgerbook, days: int) -> str:
    ((found,),) = book.sql(f"SELECT to_char(gateway_today() + {days}, 'YYYYMMDD')")
    return str(found)


def test_days_are_dropped_whole_but_for_numbers_of_experiments(book, exchange):
    before = at(exchange, 0)
    book.write(before)
    run(book, "partitions.sql")
    plain, tried, late = at(exchange, 1), at(exchange, 1, "0", experiment="e", plan="p", arm="a"), at(exchange, 40)
    assert book.write(before, plain, tried, late).new == 3
    assert (book.write(plain, late).duplicates, len(placed(book))) == (2, 4)
    assert placed(book) == {before.id: "before", plain.id: suffix(book, 1), tried.id: suffix(book, 1), late.id: "rest"}
    book.write(
        Feedback(plain.id, "f1", "web", 1.0, "thumb", 1.0), Feedback(tried.id, "f2", "web", 1.0, "x", 1.0, "l", "c")
    )
    assert len(book.sql("SELECT * FROM answers")) == 4, "the views read the new tables"

    assert book.sql("SELECT gateway_add_days(2, gateway_today() + 39)") == [(3,)]
    assert placed(book)[late.id] == suffix(book, 40), "rows of a new day move to it"
    assert book.sql("SELECT gateway_add_days(2, gateway_today() + 39)") == [(0,)]

    assert book.sql("SELECT gateway_drop_before(30, gateway_today() + 31)") == [(1,)]
    assert set(placed(book)) == {plain.id, tried.id, late.id}, (
        "what was there before the partitions is dropped like a day"
    )
    assert book.sql("SELECT gateway_drop_before(30, gateway_today() + 32)") == [(1,)]
    assert placed(book) == {tried.id: "rest", late.id: suffix(book, 40)}
    columns = ", ".join(WITHOUT_TEXTS)
    (kept,) = book.sql(f"SELECT {columns} FROM exchanges WHERE arm = 'a'")  # noqa: S608 - our own words
    assert tuple(bytes(v) if isinstance(v, memoryview) else v for v in kept) == tuple(WITHOUT_TEXTS.values())
    scored = "SELECT value, explanation, detail FROM scores WHERE arm = 'a' AND scorer = 'stated'"
    assert book.sql(scored) == [(0.0, None, None)]
    assert book.sql("SELECT feedback_id, comment FROM feedback") == [("f2", None)]
    book.run(lambda c: retention._remove(c, [late.id]))
    assert set(placed(book)) == {tried.id}


PREDICTED = (
    "INSERT INTO predictions SELECT id, 'j', '', NULL, NULL, 1, true, received, alias, model, stratum, 'f', 'abcd' "
    "FROM exchanges"
)
TURNS = "INSERT INTO turns SELECT id, received, caller, NULL, 'q', 'a', NULL, '', NULL FROM exchanges"
OF_EXCHANGES = {
    "exchanges": "id", "scores": "score_id", "feedback": "feedback_id", "predictions": "exchange_id",
    "turns": "exchange_id", "pair_scores": "score_id", "runs": "run_id", "run_chunks": "run_id, chunk",
}  # fmt: skip


def test_a_dropped_day_leaves_what_retention_leaves(book, exchange):
    """The rows of every table are the same in a partitioned store and in another one."""
    of_run = {"run": "r", "run_source": "x-gateway-run"}
    plain, tried = at(exchange, 0), at(exchange, 0, "0", experiment="e", plan="p", arm="a")
    calls = [at(exchange, 0, request=body, **of_run) for body in growing(3, 40_000)]
    calls[2] = replace(calls[2], experiment="e", plan="p", arm="a")
    book.write(*calls)
    book.write(plain, tried, *(Feedback(e.id, e.id, "web", 1.0, "x", 1.0, "l", "c") for e in (plain, tried)))
    for statement in (PREDICTED, TURNS):
        book.run(lambda c, statement=statement: c.exec_driver_sql(statement))

    def left(connection: Connection) -> dict[str, list[Any]]:
        query = "SELECT * FROM {} ORDER BY {}"
        return {name: [tuple(row) for row in connection.exec_driver_sql(query.format(name, key))]
                for name, key in OF_EXCHANGES.items()}  # fmt: skip

    with book.engine.connect() as connection:
        retention._remove(connection, [plain.id, calls[0].id, calls[1].id])
        retention._empty(connection, [tried.id, calls[2].id])
        by_retention = left(connection)
        connection.rollback()
    run(book, "partitions.sql")
    assert book.sql("SELECT gateway_drop_before(30, gateway_today() + 31)") == [(1,)]
    assert book.run(left) == by_retention


def test_a_dropped_day_leaves_the_chunks_of_later_calls(book, exchange):
    run(book, "partitions.sql")
    requests = growing(4, 60_000)
    first, second, third = (at(exchange, days, run="r", request=body) for days, body in enumerate(requests[1:], 1))
    alone = at(exchange, 1, run="s", request=requests[3])
    book.write(first, second, third, alone)
    assert book.sql("SELECT gateway_drop_before(30, gateway_today() + 32)") == [(2,)]
    query = select(exchanges.c.id, whole_request())
    kept = {row[0]: bytes(row[1]) for row in book.run(lambda c: c.execute(query).all())}
    assert kept == {second.id: second.request, third.id: third.request}
    chunks = book.sql("SELECT run_id, COUNT(*), SUM(LENGTH(body)) FROM run_chunks GROUP BY run_id")
    assert [(run_id, int(size)) for run_id, _, size in chunks] == book.sql("SELECT run_id, chunk_bytes FROM runs")
    assert book.sql("SELECT gateway_drop_before(30, gateway_today() + 90)")[0][0] >= 2
    assert book.sql("SELECT run_id FROM run_chunks UNION ALL SELECT run_id FROM runs") == []


def test_tables_of_a_partitioned_store_are_those_of_migrations(book):
    def shape() -> list[tuple]:
        columns = book.sql("SELECT table_name, column_name, data_type, is_nullable, column_default FROM "
                           "information_schema.columns WHERE table_name IN ('exchanges', 'scores', 'answers', "
                           "'pairs_wide') ORDER BY 1, ordinal_position")  # fmt: skip
        indexes = book.sql("SELECT indexname, replace(indexdef, 'ONLY ', '') FROM pg_indexes WHERE tablename IN "
                           "('exchanges', 'scores') ORDER BY 1")  # fmt: skip
        return columns + indexes

    before = shape()
    run(book, "partitions.sql")
    assert shape() == before
    assert engine.migrate_store(book.url) == engine.head()


def test_following_the_store_uses_its_index(book):
    run(book, "follow.sql")
    with book.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        found = connection.exec_driver_sql(
            "EXPLAIN SELECT id FROM exchanges WHERE stored <= 2 AND (stored, id) > (1, 'x')"
        )
        assert "exchanges_stored" in "\n".join(row[0] for row in found)
