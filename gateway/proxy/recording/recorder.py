"""What was asked and answered, on its way to the stream. Never awaited by a request.

put() takes an exchange or drops it, at once; one task redacts, encodes and appends, off the requests' time. While the
stream server is down, the buffer fills; when it is full, the newest exchange is dropped and counted by stratum.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.core.backoff import Backoff
from gateway.core.errors import StreamDown
from gateway.core.exchange import Count, Exchange, Feedback, Fields, Tally
from gateway.observability import fast_counters
from gateway.observability.eval_metrics import ProxyMetrics
from gateway.proxy.recording.inline_media import without_data_urls
from gateway.proxy.recording.redaction.redactor import LARGE, Redactor, redacted

log = logging.getLogger(__name__)

_BATCH = 256
_BATCH_BYTES = 4 << 20
_AT_ONCE = 8  # records to encode before the loop has its turn
_MORE_OF = 32  # and one for so many that wait, so that the buffer does not fill while the loop is busy
_GATHER_S = 0.01  # for less than a batch: a round trip costs more than the records in it, and calls wait behind it
_RETRY = Backoff(first_s=0.1, most_s=2.0)  # while the stream server is down

Cell = tuple[str, str, str, str, str]
"""(stratum, alias, target, arm, reason); reason only for unsampled and dropped."""


class RecordStream(Protocol):
    async def append(self, entries: list[Fields]) -> None: ...


class Ledger:
    """Everything one process has counted, by cell. The Tally is its copy."""

    __slots__ = ("dropped", "enqueued", "sampled", "seen", "unsampled")

    def __init__(self) -> None:
        self.seen: Counter[Cell] = Counter()
        self.unsampled: Counter[Cell] = Counter()
        self.sampled: Counter[Cell] = Counter()
        self.enqueued: Counter[Cell] = Counter()
        self.dropped: Counter[Cell] = Counter()


@dataclass(slots=True)
class HeldRecord:
    """A record that must not leave as it is. redactor: None once it may. size: what it takes of the buffer. whole: its
    request still holds its images, and has no cap yet."""

    record: Exchange | Feedback
    redactor: Redactor | None
    size: int
    whole: bool = False


class Recorder:
    """One process's recorder. incarnation: names this process; with `seq` a consumer sees what was lost.

    redactors: by caller; one that is not there keeps its content whole. cap_bytes: of a request that comes with its
    images, because it is LARGE: they are taken out here, on a thread. buffer_bytes: of waiting exchanges. tally_s:
    how often the counts themselves are appended.
    """

    def __init__(
        self,
        stream: RecordStream,
        metrics: ProxyMetrics,
        *,
        buffer_bytes: int = 32_000_000,
        tally_s: float = 1.0,
        clock: Callable[[], float] = time.time,
        retry: Backoff = _RETRY,
    ) -> None:
        self.incarnation = uuid.uuid4().hex
        self.ledger = Ledger()
        self.redactors: dict[str, Redactor] = {}
        self.cap_bytes = 1 << 20
        self._stream = stream
        self._metrics = metrics
        self._buffer_bytes = self._room = buffer_bytes
        self._tally_s = tally_s
        self._clock = clock
        self._waiting: deque[Exchange | Feedback | HeldRecord] = deque()
        self._seq = 0
        self._last_seq = 0
        self._wake = asyncio.Event()
        self._known: dict[
            tuple[Cell, str | None], tuple[Cell, fast_counters.FastCounter, Cell, fast_counters.FastCounter | None]
        ] = {}
        self._closing = False
        self._told_down = False
        self._retry = retry
        self._failures = 0  # appends in a row that the stream server did not take

    @property
    def waiting(self) -> int:
        """How many records wait to be appended."""
        return len(self._waiting)

    @property
    def fill(self) -> float:
        """How much of the buffer is taken: 0 to 1."""
        return 1 - self._room / self._buffer_bytes

    @property
    def reached(self) -> bool:
        """Whether the stream server acknowledged what was appended last."""
        return not self._told_down

    @property
    def seq(self) -> int:
        """The number that the next exchange put here must carry."""
        return self._seq + 1

    def put(self, exchange: Exchange) -> bool:
        """Takes it, or drops it when the buffer is full. exchange.seq must be `seq`."""
        size = _size(exchange)
        cell = cell_of(exchange)
        self.ledger.sampled[cell] += 1
        self._metrics.counts.of(self._metrics.sampled, exchange.stratum).n += 1
        if size > self._room:
            self._drop(exchange, "buffer_full")
            return False
        self._room -= size
        self._seq += 1
        self._wait(exchange, size)
        self._wake.set()
        return True

    def feedback(self, feedback: Feedback) -> bool:
        """Takes what a person said; False when the buffer is full."""
        size = _size(feedback)
        if size > self._room:
            return False
        self._room -= size
        self._wait(feedback, size)
        self._wake.set()
        return True

    def _wait(self, record: Exchange | Feedback, size: int) -> None:
        redactor = self.redactors.get(record.caller) if self.redactors else None
        whole = size > LARGE and isinstance(record, Exchange) and len(record.request) > LARGE
        self._waiting.append(HeldRecord(record, redactor, size, whole) if whole or redactor is not None else record)

    def saw(self, cell: Cell, reason: str | None) -> None:
        """Counts one call that reached an upstream; reason: why it is not sampled, None when it is."""
        known = self._known.get((cell, reason))
        if known is None:
            known = self._known[cell, reason] = self._counted(cell, reason)
        bare, seen, left_out, unsampled = known
        self.ledger.seen[bare] += 1
        seen.n += 1
        if unsampled is not None:
            self.ledger.unsampled[left_out] += 1
            unsampled.n += 1

    def _counted(
        self, cell: Cell, reason: str | None
    ) -> tuple[Cell, fast_counters.FastCounter, Cell, fast_counters.FastCounter | None]:
        m, named = self._metrics, cell[:4]
        unsampled = None if reason is None else m.counts.of(m.unsampled, reason)
        return (*named, ""), m.counts.of(m.seen, cell[0]), (*named, reason or ""), unsampled

    async def run(self) -> None:
        """Appends what waits until close() is called and nothing waits any more."""
        tallied = 0.0
        while not (self._closing and not self._waiting):
            now = self._clock()
            if now - tallied >= self._tally_s and await self._append([self.tally().to_fields()]):
                tallied = now
            if self._waiting:
                await self._flush()
            else:
                await self._sleep(max(0.01, self._tally_s - (self._clock() - tallied)))
            if 0 < len(self._waiting) < _BATCH and not self._closing:
                await asyncio.sleep(_GATHER_S)
        await self._append([self.tally(final=True).to_fields()])

    def close(self) -> None:
        """No exchange comes any more: run() ends when all that waits is appended."""
        self._closing = True
        self._wake.set()

    def give_up(self) -> None:
        """What still waits is lost, and counted: the process ends and the stream server is not there."""
        for item in self._waiting:
            record = _record(item)
            if isinstance(record, Exchange):
                self._drop(record, "shutdown")
        self._waiting.clear()

    def tally(self, *, final: bool = False) -> Tally:
        ledger = self.ledger
        return Tally(
            incarnation=self.incarnation,
            at=self._clock(),
            last_seq=self._last_seq,
            seen=_counts(ledger.seen),
            unsampled=_counts(ledger.unsampled),
            sampled=_counts(ledger.sampled),
            enqueued=_counts(ledger.enqueued),
            dropped=_counts(ledger.dropped),
            final=final,
        )

    # ── appending ──

    async def _flush(self) -> None:
        """Appends one batch. It is kept until the server has acknowledged it: twice is harmless, lost is not."""
        batch: list[Exchange | Feedback | HeldRecord] = []
        size = 0
        for item in self._waiting:
            if len(batch) == _BATCH or size > _BATCH_BYTES:
                break
            batch.append(item)
            size += _size(item)
        for item in batch:
            if type(item) is HeldRecord:
                await self._prepare(item)
        if not await self._append(await self._encoded(batch)):
            return
        for item in batch:
            self._waiting.popleft()
            self._room += _size(item)
            record = _record(item)
            if isinstance(record, Exchange):
                self._last_seq = record.seq
                self.ledger.enqueued[cell_of(record)] += 1
                self._metrics.counts.of(self._metrics.enqueued, record.stratum).n += 1

    async def _encoded(self, batch: list[Exchange | Feedback | HeldRecord]) -> list[Fields]:
        entries: list[Fields] = []
        turn = _AT_ONCE
        for item in batch:
            if len(entries) == turn:
                turn += _AT_ONCE + len(self._waiting) // _MORE_OF
                await asyncio.sleep(0)
            entries.append(_record(item).to_fields())
        return entries

    async def _prepare(self, held: HeldRecord) -> None:
        if held.whole:
            await self._shrink(held)
        if held.redactor is not None:
            await self._redact(held, held.redactor)

    async def _shrink(self, held: HeldRecord) -> None:
        """Takes images out of a large request, which may be tens of megabytes; the room that it gives back is free."""
        record: Exchange = held.record  # type: ignore[assignment]
        request, cut = await asyncio.to_thread(without_data_urls, record.request, self.cap_bytes)
        held.record = replace(record, request=request, truncated=record.truncated or cut)
        held.whole = False
        self._room += held.size - _size(held.record)
        held.size = _size(held.record)

    async def _redact(self, held: HeldRecord, redactor: Redactor) -> None:
        done, failure = await redacted(redactor, held.record, held.size)
        held.record, held.redactor = done.record, None
        for rule, n in done.counts.items():
            self._metrics.counts.of(self._metrics.redactions, rule).n += n
        if failure is not None:
            self._metrics.counts.of(self._metrics.redaction_failed, failure).n += 1

    async def _append(self, entries: list[Fields]) -> bool:
        try:
            await self._stream.append(entries)
        except StreamDown as error:
            await self._wait_for_the_server(error)
            return False
        if self._told_down:
            log.warning("the stream server is back; recording resumes")
        self._told_down = False
        self._failures = 0
        return True

    async def _wait_for_the_server(self, error: StreamDown) -> None:
        if not self._told_down:
            log.warning("%s; exchanges wait in memory, and are dropped when the buffer is full", error)
        self._told_down = True
        self._failures += 1
        await asyncio.sleep(self._retry.wait_s(self._failures))

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _drop(self, exchange: Exchange, reason: str) -> None:
        self.ledger.dropped[(*cell_of(exchange)[:4], reason)] += 1
        self._metrics.counts.of(self._metrics.dropped, exchange.stratum, reason).n += 1


def cell_of(exchange: Exchange) -> Cell:
    # str(target) would be one call more for every request.
    target = f"{exchange.target.upstream}/{exchange.target.model}"
    return (exchange.stratum, exchange.alias, target, exchange.arm or "", "")


def _counts(counter: Counter[Cell]) -> tuple[Count, ...]:
    return tuple(Count(*cell[:4], n, cell[4]) for cell, n in counter.items())


def _record(item: Exchange | Feedback | HeldRecord) -> Exchange | Feedback:
    return item.record if type(item) is HeldRecord else item  # type: ignore[return-value]


def _size(item: Exchange | Feedback | HeldRecord) -> int:
    """Of the buffer: what was reserved for it, also once it is redacted."""
    if isinstance(item, Exchange):
        return 1024 + len(item.request) + len(item.response)
    if isinstance(item, HeldRecord):
        return item.size
    return 1024 + 4 * sum(len(text) for text in (item.label, item.comment, item.correction) if text)
