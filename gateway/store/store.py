"""The store as the consumer sees it: transactions on one thread of its own, so that the event loop never waits."""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from gateway.store import engine, feedback, ledger, loss_accounting, retention, score_sums, turns, usage
from gateway.store import write as writing
from gateway.store.bulk_insert import WriteConflict
from gateway.store.query import Reading
from gateway.store.retention import RetentionLimits, RetentionResult
from gateway.store.snapshot import StoreSnapshot, take_snapshot
from gateway.store.write import DeadLetterRow, ScoredBatch, WriteResult
from gateway.stream.types import ShardSnapshot

T = TypeVar("T")
MAX_CONFLICTS = 5
FEEDBACK_WAITS_S = 3600.0  # for its exchange
CONVERSATION_S = 30 * 86_400.0  # without a call for this long, a conversation has ended


class StoreDown(Exception):
    """The store cannot write now (locked, full, unreachable); the same write may succeed later."""


class QueryMistake(StoreDown):
    """A statement is wrong. The work that it belongs to has failed; to all other code it is an outage."""


class WriteRejected(Exception):
    """The database rejects these rows; retrying does not help."""


class QueryTooSlow(Exception):
    """A transaction took longer than its budget, and was undone."""


@dataclass(frozen=True, slots=True)
class QueryBudget:
    """Seconds that the queries of some work may take: on SQLite those of a transaction, on PostgreSQL each of them.

    What Python computes within a transaction is not interrupted.
    """

    read_s: float = 120.0
    write_s: float = 30.0
    """Nobody else can write meanwhile on SQLite."""


@dataclass(slots=True)
class WriteTrouble:
    """The last transaction of a store, and of all stores that share its engine."""

    why: str = ""
    """Reason why it could not be written; "" if it could."""


class Store:
    """Every method raises StoreDown or WriteRejected; then nothing of that call is stored.

    clock: Unix time in seconds. retention: None: everything is kept. busy_ms: see engine.writer.
    """

    def __init__(
        self,
        url: str,
        clock: Callable[[], float] = time.time,
        retention: RetentionLimits | None = None,
        busy_ms: int = engine.BUSY_MS,
        *,
        keep_reader: bool = False,
    ) -> None:
        """Opens nothing yet. keep_reader: `look` keeps its connections open, for programs that read often.

        Otherwise each `look` connects again, and sees that the database has gone; its queries stay compiled.
        """
        self._url = url
        self._clock = clock
        self.retention = retention or RetentionLimits()
        self.writes = WriteTrouble()
        self._busy_ms = busy_ms
        self._keep_reader = keep_reader
        self._reader: Engine | None = None
        self._budget: QueryBudget | None = None
        self._done: Callable[[], object] | None = None
        self._opening = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    async def __aenter__(self) -> Self:
        self._engine = await self._on_thread(lambda: engine.writer(self._url, self._busy_ms))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._on_thread(self._engine.dispose)
        if self._reader is not None:
            await self._on_thread(self._reader.dispose)
        self._thread.shutdown(wait=False)

    @property
    def url(self) -> str:
        return self._url

    def bounded(self, budget: QueryBudget, done: Callable[[], object] | None = None) -> Store:
        """The same store, opened, for work whose queries have a budget; above it they raise QueryTooSlow.

        On PostgreSQL its transactions have a thread and connections of their own, so that no other work waits for a
        slow one. done: is called after each transaction.
        """
        bounded = copy.copy(self)
        bounded._budget, bounded._done, bounded._reader = budget, done, None
        if self._engine.dialect.name == "postgresql":
            bounded._thread = ThreadPoolExecutor(1, thread_name_prefix="bounded-store")
        return bounded

    async def write(self, batch: ScoredBatch) -> WriteResult:
        """Stores the whole batch or nothing."""
        return await self.run(lambda connection: writing.write(connection, batch, self._clock()))

    async def add_dead_letters(self, letters: Sequence[DeadLetterRow]) -> None:
        """Records entries that are about to move to the dead-letter stream."""
        await self.run(lambda connection: writing.add_dead_letters(connection, letters))

    async def close(self, looks: Mapping[int, ShardSnapshot], silent_ms: int = 60_000) -> StoreSnapshot:
        """Closes the ledgers and the weights, and returns a snapshot of the store.

        looks: a snapshot of each shard of the stream; the ledgers of a missing shard stay open.
        silent_ms: a gateway process without a tally for this long has ended; an idle one appends one each 15 s.
        """

        def closing(connection: Connection) -> StoreSnapshot:
            settled = {shard: look.settled for shard, look in looks.items()}
            loss_accounting.add_incidents(connection, looks)
            score_sums.lock(connection)
            ledger.close_marks(connection, settled)
            # Nobody could append to a server that was down: silence counts only once it has been up for that long.
            heard = {shard: settled[shard] for shard, look in looks.items() if look.up_ms >= silent_ms}
            ledger.close_silent(connection, heard, silent_ms)
            loss_accounting.explain_gaps(connection)
            score_sums.close_weights(connection)
            usage.merge_ended(connection, settled)
            return take_snapshot(connection)

        return await self.run(closing)

    async def retain(self, holder: str, behind_s: float = 0.0) -> RetentionResult:
        """Does a step of housekeeping: joins late feedback to its exchange and applies the retention limits.

        holder: this consumer's name; one consumer holds the lease at a time. behind_s: age of the oldest record that
        is not stored yet.
        """

        def retaining(connection: Connection) -> RetentionResult:
            now = self._clock()
            feedback.sweep(connection, now - FEEDBACK_WAITS_S, now)
            turns.sweep(connection, now, behind_s)
            score_sums.forget_units(connection, now - CONVERSATION_S)
            return retention.sweep(connection, self.retention, holder, now)

        return await self.run(retaining)

    async def look(self, work: Callable[[Reading], T]) -> T:
        """Runs read-only queries on a thread and a connection of their own: writing does not wait for them."""

        def looking() -> T:
            with self._opening:
                if self._reader is None:
                    self._reader = engine.reader(self._url, keep=self._keep_reader)
            with self._reader.connect() as connection, self._within(connection, reads=True):
                return work(connection)

        try:
            found = await asyncio.to_thread(looking)
        except DBAPIError as error:
            self._check_budget(error, reads=True)
            kind = QueryMistake if engine.mistaken(error) else StoreDown
            raise kind(f"store: {type(error.orig).__name__}: {error.orig}") from error
        except engine.StoreUnavailable as error:  # a new connection failed; this store was opened before
            raise StoreDown(f"store: {error}") from error
        self._note_done()
        return found

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Runs a transaction, and again when another consumer wrote the same rows."""
        try:
            done = await self._on_thread(lambda: self._run(work))
        except StoreDown as error:
            self.writes.why = str(error)
            raise
        self.writes.why = ""
        self._note_done()
        return done

    def _run(self, work: Callable[[Connection], T]) -> T:
        for _ in range(MAX_CONFLICTS):
            try:
                with self._engine.begin() as connection, self._within(connection):
                    return work(connection)
            except WriteConflict:
                continue
            except DBAPIError as error:
                self._check_budget(error)
                raise _kind_of(error)(f"store: {type(error.orig).__name__}: {error.orig}") from error
            except (OverflowError, UnicodeError, ValueError, TypeError) as error:  # the driver cannot carry the value
                raise WriteRejected(f"store: {type(error).__name__}: {error}") from error
        raise StoreDown(f"store: other consumers wrote the same exchanges {MAX_CONFLICTS} times in a row")

    @contextmanager
    def _within(self, connection: Connection, *, reads: bool = False) -> Iterator[None]:
        """Interrupts the queries within it when the budget is used up."""
        if self._budget is None:
            yield
            return
        with engine.query_deadline(connection, self._budget.read_s if reads else self._budget.write_s):
            yield

    def _check_budget(self, error: DBAPIError, *, reads: bool = False) -> None:
        """Raises QueryTooSlow for the error of a query that was interrupted."""
        if self._budget is not None and engine.interrupted(error):
            budget_s = self._budget.read_s if reads else self._budget.write_s
            raise QueryTooSlow(f"a query took longer than {budget_s:g} s") from error

    def _note_done(self) -> None:
        if self._done is not None:
            self._done()

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _kind_of(error: DBAPIError) -> type[StoreDown | WriteRejected]:
    """The error of a write that failed."""
    if engine.mistaken(error):
        return QueryMistake
    return StoreDown if engine.transient(error) else WriteRejected
