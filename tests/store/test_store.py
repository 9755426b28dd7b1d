"""The store on its thread: off the loop, refusing what cannot be stored, down when it is down."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from gateway.scoring.registry import RegisteredScorer
from gateway.store import engine
from gateway.store.bulk_insert import WriteConflict, insert_scores
from gateway.store.rows import ScoredExchange
from gateway.store.store import QueryBudget, QueryMistake, QueryTooSlow, Store, StoreDown, WriteRejected
from gateway.store.write import DeadLetterRow, ScoredBatch, WriteResult
from gateway.stream.types import ShardSnapshot

pytestmark = pytest.mark.dialect


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a store that does not exist yet."""
    return f"sqlite:///{tmp_path / 'gateway.db'}"


def batch(scorers: dict[str, RegisteredScorer], *judged: ScoredExchange) -> ScoredBatch:
    return ScoredBatch(scorers, judged)


async def test_every_transaction_is_on_one_thread_of_its_own(url):
    async with Store(url) as store:
        names = [await store.run(lambda _: threading.current_thread().name) for _ in range(3)]
    assert len(set(names)) == 1
    assert names[0] != threading.current_thread().name


async def test_writing_dead_letters_and_closing(
    url, exchange, store: object, stated_scorer: Callable[..., RegisteredScorer]
):
    scorers = {"stated": stated_scorer()}
    async with Store(url) as opened:
        assert await opened.write(batch(scorers, store.judged(exchange("1")))) == WriteResult(1, 0)
        await opened.add_dead_letters([DeadLetterRow("1-0", "unreadable", "why", 0.0)])
        standing = await opened.close({})
    assert [cell.n["scored"] for cell in standing.cells] == [1]
    assert dict(standing.dead_letters) == {"unreadable": 1}


async def test_silence_right_after_a_server_start_does_not_count(url, exchange, tally, stated_scorer):
    """Gateways are not taken for dead after a long outage before they have had the time to send."""
    sent = [exchange("1") for _ in range(5)]
    partial = tally(sent[:2], sampled=tally(sent).sampled)
    look = ShardSnapshot("900000-0", "b", 900_000, 900_000, up_ms=3_000)
    async with Store(url) as opened:
        await opened.write(ScoredBatch({"stated": stated_scorer()}, (), [("1000-0", partial)]))
        assert (await opened.close({0: look})).lost["gateway_lost"] == 0
        assert (await opened.close({0: replace(look, up_ms=60_000)})).lost["gateway_lost"] == 3


async def test_values_that_no_column_holds_are_refused(url, exchange, store):
    async with Store(url) as opened:
        with pytest.raises(WriteRejected, match="OverflowError"):
            await opened.write(batch(store.scorers, store.judged(exchange(status=2**70))))
        with pytest.raises(WriteRejected):
            await opened.write(batch(store.scorers, store.judged(exchange(caller={"no": "text"}))))


async def test_postgresql_gets_no_value_that_its_columns_cannot_hold(postgres_url, exchange, store):
    async with Store(postgres_url) as opened:
        for odd in ({"status": 2**70}, {"status": 2**40}, {"caller": {"no": "text"}}, {"caller": "\ud800"}):
            with pytest.raises(WriteRejected):
                await opened.write(batch(store.scorers, store.judged(exchange(**odd))))
        with pytest.raises(WriteRejected, match="invalid byte sequence"):
            await opened.write(batch(store.scorers, store.judged(exchange(caller="\0"))))
        assert await opened.write(batch(store.scorers, store.judged(exchange()))) == WriteResult(1, 0)


async def test_postgresql_that_ends_the_connection_is_down_and_later_up(postgres_url, exchange, store):
    written = batch(store.scorers, store.judged(exchange()))
    async with Store(postgres_url) as opened:

        def ended(connection: Connection) -> None:
            backend = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            other = engine.connect_writer(postgres_url)
            with other.begin() as killing:
                killing.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": backend})
            other.dispose()
            insert_scores(connection, written.scorers, written.judged, 0.0)

        with pytest.raises(StoreDown):
            await opened.run(ended)
        assert await opened.write(written) == WriteResult(1, 0)


async def test_a_database_that_another_holds_is_down_and_later_up(url, exchange, store):
    async with Store(url, busy_ms=1) as opened:
        other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreDown, match="locked"):
            await opened.write(batch(store.scorers, store.judged(exchange())))
        other.execute("ROLLBACK")
        other.close()
        assert await opened.write(batch(store.scorers, store.judged(exchange()))) == WriteResult(1, 0)


async def test_a_store_that_refuses_reads_is_down_and_later_up(url):
    """Reads connect again: a consumer whose read finds no database must pause, and not end."""
    file = url.removeprefix("sqlite:///")
    for keep_reader in (False, True):
        async with Store(url, keep_reader=keep_reader) as opened:
            os.rename(file, f"{file}.away")
            with pytest.raises(StoreDown, match="no store at"):
                await opened.look(lambda c: c.execute(text("SELECT 1")).scalar_one())
            os.rename(f"{file}.away", file)
            assert await opened.look(lambda c: c.execute(text("SELECT 1")).scalar_one()) == 1


async def test_a_race_is_run_again_and_not_forever(url):
    async with Store(url) as opened:
        tries = []

        def raced(_: object) -> int:
            tries.append(1)
            if len(tries) < 3:
                raise WriteConflict
            return 7

        assert await opened.run(raced) == 7

        def always(_: object) -> None:
            raise WriteConflict

        with pytest.raises(StoreDown, match="other consumers"):
            await opened.run(always)


async def test_the_loop_continues_while_the_database_waits(url):
    async with Store(url) as opened:
        held = threading.Event()
        waiting = asyncio.ensure_future(opened.run(lambda _: held.wait(10)))  # noqa: TID251 - awaited below
        await asyncio.sleep(0)
        held.set()  # reached only because the loop is free
        assert await waiting is True


async def test_a_kept_reader_sees_later_writes(file_url: str) -> None:
    async with Store(file_url, keep_reader=True) as store:
        for n in range(3):
            count = await store.look(lambda c: c.exec_driver_sql("SELECT count(*) FROM leases").scalar())
            assert count == n
            await store.run(
                lambda c, n=n: c.exec_driver_sql(f"INSERT INTO leases (name, holder, expires) VALUES ('{n}', 'h', 1)")  # type: ignore[misc]  # noqa: S608
            )


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


@pytest.mark.parametrize("method", ["look", "run"])
async def test_a_query_ends_with_its_budget_and_others_go_on(store_url, method):
    async with Store(store_url) as opened:
        bounded = opened.bounded(QueryBudget(read_s=0.2, write_s=0.2))
        with pytest.raises(QueryTooSlow, match=r"a query took longer than 0\.2 s"):
            await getattr(bounded, method)(lambda c: c.exec_driver_sql(ENDLESS).scalar())
        for each in (bounded, opened):
            assert await getattr(each, method)(lambda c: c.exec_driver_sql("SELECT 1").scalar()) == 1


async def test_on_postgresql_nothing_waits_for_a_slow_transaction(postgres_url):
    async with Store(postgres_url) as opened:
        bounded = opened.bounded(QueryBudget(write_s=60))
        slow = asyncio.ensure_future(bounded.run(lambda c: c.exec_driver_sql("SELECT pg_sleep(50)")))  # noqa: TID251
        other = opened.bounded(QueryBudget())
        for each in (opened, other):
            assert await each.run(lambda c: c.exec_driver_sql("SELECT 1").scalar()) == 1
        assert not slow.done()
        cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(50)'"
        while not await opened.run(lambda c: c.exec_driver_sql(cancel).all()):
            assert not slow.done()  # its connection has yet to begin
        with pytest.raises(QueryTooSlow):
            await slow


MISTAKES = ("SELECT no_such_column FROM exchanges", "SELEC 1", "SELECT no_such_function(1) FROM exchanges")


@pytest.mark.parametrize("statement", MISTAKES)
async def test_a_wrong_statement_is_not_taken_for_an_outage(store_url: str, statement: str) -> None:
    """Isolation of work stops what no later attempt mends; all other code waits, as in an outage."""
    async with Store(store_url) as opened:
        for ask in (opened.look, opened.run):
            with pytest.raises(QueryMistake):
                await ask(lambda c: c.exec_driver_sql(statement).all())
            with pytest.raises(StoreDown) as caught:
                await ask(lambda c: c.exec_driver_sql("SELECT 1 FROM no_such_table").all())
            assert type(caught.value) is StoreDown, "a store that is being restored has no tables"
