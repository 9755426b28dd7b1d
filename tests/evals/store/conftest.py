"""A store of the test's own, written to directly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from gateway.core.completion import completion_of
from gateway.core.exchange import Exchange, Feedback, Tally
from gateway.evals.scoring.registry import RegisteredScorer
from gateway.evals.scoring.run import ScoreResult
from gateway.evals.scoring.types import Score
from gateway.evals.store import engine, ledger, score_sums
from gateway.evals.store import write as writing
from gateway.evals.store.batches import DeadLetterRow, ScoredBatch, WriteResult
from gateway.evals.store.rows import ScoredExchange
from gateway.evals.store.snapshot import ScoreCell, StoreSnapshot, standing


@dataclass
class Ledgerbook:
    """One engine and what tests do with it. Every call is one transaction."""

    url: str
    engine: Engine
    scorers: dict[str, RegisteredScorer]
    entries: int = 0

    def judged(self, exchange: Exchange, *only: str) -> ScoredExchange:
        """Scored by the number its answer says; "n/a", "error" and "timeout" are statuses."""
        completion = completion_of(exchange)
        results = [self._result(n, completion.text) for n in (only or self.scorers)]
        return ScoredExchange(exchange, completion, results)

    def _result(self, name: str, said: str) -> ScoreResult:
        registered = self.scorers[name]
        status = {"n/a": "not_applicable", "error": "error", "timeout": "timeout"}.get(said, "scored")
        score = Score(float(said), "label", "why", {"x": 1.0}) if status == "scored" else None
        version, share = registered.scorer.version, registered.share
        return ScoreResult(name, version, registered.config_hash, status, score, "why", 0.1, share)  # type: ignore[arg-type]

    def write(self, *records: Exchange | Tally | Feedback) -> WriteResult:
        batch = ScoredBatch(
            self.scorers,
            [self.judged(r) for r in records if isinstance(r, Exchange)],
            [(self.entry(), r) for r in records if isinstance(r, Tally)],
            [r for r in records if isinstance(r, Feedback)],
        )
        return self.run(lambda c: writing.write(c, batch, time.time()))

    def bury(self, exchange: Exchange | None, reason: str = "unreadable", entry: str | None = None) -> None:
        letter = DeadLetterRow(entry or self.entry(), reason, "why", time.time(), exchange)
        self.run(lambda c: writing.bury(c, [letter]))

    def entry(self) -> str:
        """The next stream id."""
        self.entries += 1
        return f"{self.entries}-0"

    def close(self) -> int:
        """Everything so far is read and acknowledged. Returns what is unaccounted for."""

        def closing(connection: Connection) -> int:
            score_sums.close_weights(connection)
            return ledger.close(connection, {0: f"{self.entries + 1}-0"})

        return self.run(closing)

    def run(self, work: Callable[[Connection], Any]) -> Any:
        with self.engine.begin() as connection:
            return work(connection)

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.run(lambda c: c.exec_driver_sql(query).all())]

    def standing(self) -> StoreSnapshot:
        found: StoreSnapshot = self.run(standing)
        return found

    def cell(self) -> ScoreCell:
        (only,) = self.standing().cells
        return only


@pytest.fixture(scope="session")
def migrated(postgres: Any) -> str:
    """The URL of an empty store on PostgreSQL."""
    url: str = postgres.new()
    engine.writer(url).dispose()
    return url


@pytest.fixture
def emptied(migrated: str) -> Iterator[str]:
    """The same store for every test, without the rows of the one before: quicker than to copy it."""
    yield migrated
    cleaner = create_engine(engine._url(migrated))
    with cleaner.begin() as connection:
        names = inspect(connection).get_table_names()
        connection.exec_driver_sql(f"TRUNCATE {', '.join(n for n in names if n != 'alembic_version')}")
        connection.execute(text("UPDATE alembic_version SET version_num = :head"), {"head": engine.head()})
    cleaner.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a store that is not there yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'gateway.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Every test of this room runs on both databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'gateway.db'}"
    url: str = request.getfixturevalue("emptied")
    return url


@pytest.fixture
def store(store_url: str, said: Callable[..., RegisteredScorer]) -> Iterator[Ledgerbook]:
    opened = engine.writer(store_url)
    yield Ledgerbook(store_url, opened, {"said": said()})
    opened.dispose()


@pytest.fixture
def file_store(tmp_path: Path, said: Callable[..., RegisteredScorer]) -> Iterator[Ledgerbook]:
    """A store in a file: for what only SQLite has."""
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    opened = engine.writer(url)
    yield Ledgerbook(url, opened, {"said": said()})
    opened.dispose()
