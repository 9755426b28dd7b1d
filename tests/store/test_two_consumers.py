"""Two consumers that write the same ledgers and cells at once wait for each other, and never end each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fixtures.stores import Ledgerbook
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from gateway.core.exchange import Tally
from gateway.store import engine, ledger, score_sums
from gateway.store import write as writing
from gateway.store.write import ScoredBatch

ROUNDS = 15
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@pytest.fixture
def book(postgres_url: str, stated_scorer: Callable[..., Any]) -> Iterator[Ledgerbook]:
    """An empty store on PostgreSQL, with a scorer."""
    opened = engine.writer(postgres_url)
    yield Ledgerbook(postgres_url, opened, {"stated": stated_scorer()})
    opened.dispose()


def batch(book: Ledgerbook, exchange: Any, tally: Any, gateways: list[str], n: int) -> ScoredBatch:
    """A call of each gateway, each to a model of its own, and their tallies, in this order."""
    made = [exchange("0.5", incarnation=each, alias=f"chat-{each}", seq=n) for each in gateways]
    tallies: list[tuple[str, Tally]] = [(book.entry(), tally([each], last_seq=n)) for each in made]
    return ScoredBatch(book.scorers, [book.judged(each) for each in made], tallies)


def test_batches_in_opposite_orders_end_in_no_deadlock(book: Ledgerbook, exchange: Any, tally: Any) -> None:
    """PostgreSQL ends 5 or 6 of these 45 transactions where they take no lock first."""
    names = [f"g{i}" for i in range(6)]
    orders = [[batch(book, exchange, tally, order, n) for n in range(1, ROUNDS + 1)] for order in (names, names[::-1])]
    together, errors = threading.Barrier(3), list[str]()

    def closing(connection: Connection) -> None:
        score_sums.lock(connection)
        ledger.close_marks(connection, {0: f"{book.entries + 1}-0"})
        score_sums.close_weights(connection)

    def run(works: list[Callable[[Connection], Any]]) -> None:
        for work in works:
            together.wait()
            try:
                with book.engine.begin() as connection:
                    work(connection)
            except OperationalError as error:
                errors.append(type(error.orig).__name__)

    writers = [[lambda c, b=b: writing.write(c, b, time.time()) for b in batches] for batches in orders]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, [*writers, [closing] * ROUNDS]))
    assert errors == []
    assert book.sql(DEADLOCKS) == [(0,)]
    assert book.sql("SELECT count(*), sum(n_scored) FROM score_cells") == [(6, 2 * 6 * ROUNDS)]
