"""Keeps a worker's leases: reports usage, requests more ahead of need, returns surplus, and finds dead workers.

One exchange with the stream server is in flight at a time, off the path of every request. A call on the last slice of a
limit waits for the next exchange, at most 50 ms of the loop's time (patience.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from gateway.core.backoff import Backoff
from gateway.core.errors import StreamDown
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.limits.book import LeaseBook
from gateway.proxy.limits.lease import Lease
from gateway.proxy.limits.patience import Patience
from gateway.stream.leases import AT_ONCE, DEAD_S, ExchangeReply, LeaseServer

log = logging.getLogger("gateway")

EVERY_S = 0.5
"""Seconds between two regular exchanges."""
_IDLE_EVERY_S = 2.0  # for leases that only hold something
_ALIVE_EVERY_S = 5.0  # without any lease
_AGAIN = Backoff(first_s=0.1, most_s=1.0)
_LEAVE_S = 0.5


class LeaseExchange:
    """The exchanges of one worker."""

    def __init__(self, book: LeaseBook, store: LeaseServer, metrics: ProxyMetrics, every_s: float = EVERY_S) -> None:
        self._book = book
        self._store = store
        self._metrics = metrics
        self._every_s = every_s
        self._wake = asyncio.Event()
        self._round: asyncio.Future[None] | None = None  # of the next exchange; None if nobody waits for it
        self._last = float("-inf")
        self._failures = 0
        self.trouble = ""
        """Reason why leases cannot be renewed; "" if they can."""
        self._told = False  # the log knows that the server is unreachable
        self._contact_since: float | None = None
        self._swept_at = float("-inf")
        self._wanted: set[str] = set()  # upstreams of which the others know that this worker wants places
        book.on_urgent = self._wake.set

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            try:
                await self._turn()
            except Exception:  # without this loop no lease would be renewed any more
                log.exception("leases could not be renewed; tried again")
                self.trouble = "an internal error; see the log"
                self._failures += 1
                self._book.down = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN.wait_s(self._failures) if self._failures else self._every_s):
                    await self._wake.wait()

    async def next_exchange(self, patience: Patience) -> bool:
        """Waits for an exchange that begins after now. False if it failed, or took too long."""
        if self._round is None or self._round.done():
            self._round = asyncio.get_running_loop().create_future()
        return await patience.wait(self._round) and not self._book.down

    async def _turn(self) -> None:
        """The leases that are due; between their exchanges, those for which calls wait."""
        self._wake.clear()
        await self._urgent()
        await self._note_ends()
        now = self._book.clock()
        if now - self._last < self._every_s and not self._failures:
            return
        due = self._book.due(self._book.now(), _IDLE_EVERY_S)
        if not due and not self._failures and now - self._last < _ALIVE_EVERY_S:
            return
        self._last = now
        for at in range(0, max(1, len(due)), AT_ONCE):
            if not await self._exchange(due[at : at + AT_ONCE]):
                return
            await self._urgent()
        await self._share_places()
        await self._sweep()

    async def _note_ends(self) -> None:
        """Says which runs have ended. Each end counts once, on the worker that says it first."""
        book, m = self._book, self._metrics
        while book.ended and not book.down:
            name, end = book.ended.popitem()
            try:
                new = await self._store.note_end(name, end)
            except StreamDown:
                book.ended[name] = end
                return
            how, by, *_ = end.split(" ")
            m.counts.of(m.run_ends, how, by).n += new

    async def _share_places(self) -> None:
        for name, places in self._book.shared.items():
            wanted = places.wanted()
            if not wanted and name not in self._wanted:
                continue
            try:
                places.heard(await self._store.share_demand(name, wanted))
            except StreamDown:
                places.heard(None)
            (self._wanted.add if wanted else self._wanted.discard)(name)

    async def _urgent(self) -> None:
        while self._book.urgent:
            leases = [self._book.urgent.pop() for _ in range(min(AT_ONCE, len(self._book.urgent)))]
            if not await self._exchange(leases):
                return

    async def _exchange(self, leases: Sequence[Lease], *, leaving: bool = False) -> bool:
        """Whether the server answered. Waiting calls continue in any case."""
        book, clock = self._book, self._book.clock
        waiting, self._round = self._round, None
        sent = clock()
        reports = [lease.report(book.now(), leaving=leaving, keep=book.down and not leaving) for lease in leases]
        try:
            reply = await self._store.exchange(reports)
            if reply is None:
                raise StreamDown("a report was overtaken by a newer one")
            book.measured(sent, clock(), reply.now_s)
            self._accept(leases, reply)
        except StreamDown as error:
            self._failed(error, leases)
            return False
        finally:
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        return True

    def _accept(self, leases: Sequence[Lease], reply: ExchangeReply) -> None:
        book, now = self._book, self._book.now()
        book.workers = reply.workers
        for lease, grant in zip(leases, reply.grants, strict=True):
            lease.accept(grant, now)
            book.reported(lease)
            if grant.crossed and not lease.limit.heals_with_time and not lease.is_many:
                log.warning("%s has used %d %% of its %s", lease.scope, grant.crossed, lease.limit.name)
        if self._told:
            log.warning("the stream server is reachable again; limits hold for all gateways together")
        if self._failures or not reply.known:
            book.report_all()
        book.call_back(reply.called_back)
        if reply.stopped:
            book.note_stopped(reply.stopped)
        if self._contact_since is None:
            self._contact_since = book.clock()
        self._failures, self._told, self.trouble, book.down, book.late = 0, False, "", False, False

    def _failed(self, error: StreamDown, leases: Sequence[Lease]) -> None:
        for lease in leases:
            self._book.unreported(lease)
        if self._book.leases and not self._told:
            log.warning("%s; limits hold for each worker by itself until it is reachable again", error)
            self._told = True
        for places in self._book.shared.values():
            places.heard(None)
        self._failures += 1
        self.trouble = str(error)
        self._contact_since = None
        self._book.down = True

    async def _sweep(self) -> None:
        now = self._book.clock()
        if self._contact_since is None or now - max(self._contact_since, self._swept_at) < DEAD_S:
            return
        self._swept_at = now
        with contextlib.suppress(StreamDown):
            self._metrics.counts.of(self._metrics.limit_dead_workers).n += await self._store.sweep()

    async def leave(self) -> None:
        """Returns unspent amounts because the process stops. A server that does not answer delays it by half a
        second."""
        leases = list(self._book.leases.values())
        with contextlib.suppress(StreamDown, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                for at in range(0, len(leases), AT_ONCE):
                    await self._exchange(leases[at : at + AT_ONCE], leaving=True)
                await self._store.leave()
