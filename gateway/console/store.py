"""The console's store: opened in the background, and every transaction has a deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from copy import copy
from typing import TypeVar

from gateway.console.errors import AdminError, InvalidBody, NotPermitted, StoreAway
from gateway.core.backoff import Backoff
from gateway.core.errors import CannotRun
from gateway.store.directory import directory_state_of, ensure_directory
from gateway.store.engine import Transaction
from gateway.store.read_bounds import OutOfBounds, ReadBounds, bounded
from gateway.store.store import Store, StoreDown, WriteRejected

log = logging.getLogger(__name__)

T = TypeVar("T")
DEADLINE_S = 5.0
_BUSY_MS = 2_000
_AGAIN = Backoff(first_s=0.2, most_s=5.0)


class ConsoleStore:
    """A store that may be unreachable: `run` and `read` then raise StoreAway within seconds."""

    def __init__(self, url: str, deadline_s: float = DEADLINE_S, busy_ms: int = _BUSY_MS) -> None:
        """Opens nothing yet. deadline_s: of one transaction. busy_ms: see engine.writer."""
        self._url = url
        self._busy_ms = busy_ms
        self._deadline_s = deadline_s
        self._store: Store | None = None
        self._bounds: ReadBounds | None = None
        self._trouble = "it is being opened"

    def within(self, bounds: ReadBounds) -> ConsoleStore:
        """The same store for somebody who reads what belongs to some teams, and writes nothing."""
        found = copy(self)
        found._bounds = bounds
        return found

    @property
    def is_open(self) -> bool:
        return self._store is not None

    @property
    def trouble(self) -> str:
        """The reason why the store cannot be used; "" if it is open."""
        return "" if self.is_open else self._trouble

    async def open(self) -> None:
        """Opens the store, creating or migrating it; tries until that succeeds."""
        tries = 0
        while True:
            store = Store(self._url, busy_ms=self._busy_ms, keep_reader=True)
            try:
                await store.__aenter__()
                await store.run(ensure_directory)
                self._store = store
                return
            except (CannotRun, StoreDown, WriteRejected) as error:
                tries += 1
                self._trouble = str(error)
                if tries == 1:
                    log.error("the store cannot be opened, so keys cannot be read or changed: %s; retrying", error)
            await asyncio.sleep(_AGAIN.wait_s(tries))

    async def close(self) -> None:
        if self._store is not None:
            await self._store.__aexit__()

    async def answers(self) -> bool:
        """Whether it can be read now: it may have gone since it was opened."""
        try:
            await self.read(directory_state_of)
        except AdminError:
            return False
        return True

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """Runs a transaction that may write. Raises StoreAway; InvalidBody for values that the database rejects;
        NotPermitted within bounds."""
        if self._bounds is not None:
            raise NotPermitted("this changes more than one team: it needs rights that are not limited to one")
        return await self._within_deadline(lambda store: store.run(work))

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Runs queries that do not wait for writers, within the bounds if there are any. Raises as `run`."""
        bounds = self._bounds
        if bounds is None:
            return await self._within_deadline(lambda store: store.look(work))
        try:
            return await self._within_deadline(lambda store: store.look(lambda c: work(bounded(c, bounds))))
        except OutOfBounds as error:
            log.error("admin: a query was refused: %s", error)
            raise NotPermitted("this shows more than one team: it needs rights that are not limited to one") from None

    async def _within_deadline(self, use: Callable[[Store], Awaitable[T]]) -> T:
        if self._store is None:
            raise StoreAway(f"the store cannot be used: {self._trouble}", retry_after_s=2)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await use(self._store)
        except TimeoutError:
            raise StoreAway(
                f"the store did not answer within {self._deadline_s:g} s; whether a change was made is unknown, so "
                "read it before you repeat it",
                retry_after_s=2,
            ) from None
        except (StoreDown, CannotRun) as error:
            raise StoreAway(f"the store cannot be used: {error}", retry_after_s=2) from None
        except WriteRejected as error:
            raise InvalidBody(f"the database rejects a value: {error}") from None
