"""Appends exchanges and feedback to the stream. No call ever waits for it.

put() takes an exchange or drops it, at once; one task redacts, encodes and appends, off the hot path. While the stream
server is unreachable the buffer fills; if it is full, the newest exchange is dropped and counted by stratum.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from gateway.core.backoff import Backoff
from gateway.core.errors import StreamDown
from gateway.core.exchange import Count, Exchange, Feedback, Fields, Tally
from gateway.core.guards import has_found
from gateway.observability import fast_counters
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.recording.answer_origin import note_origin
from gateway.proxy.recording.inline_media import without_data_urls
from gateway.proxy.recording.redaction.redactor import LARGE, Redactor, redacted
from gateway.proxy.recording.run_histories import RunHistories
from gateway.proxy.recording.usage_ledger import MOST_CELLS, UsageLedger

log = logging.getLogger(__name__)

WHOLE_S = 300.0
"""Seconds between tallies that have all counts: with 1 000 aliases they are half a megabyte."""

TALLY_S = 1.0
"""Period of tallies: counts that change are appended within it."""
IDLE_TALLIES = 15
"""Periods of tallies after which a process whose counts have not changed appends one, so that a consumer does not take
it for dead: at most a quarter of the time after which it does."""

_BATCH = 256
_BATCH_BYTES = 4 << 20
_AT_ONCE = 8  # records encoded before the event loop runs again
_MORE_OF = 32  # one more for each 32 that wait, so that the buffer does not fill while the loop is busy
_GATHER_S = 0.01  # to fill a batch: a round trip costs as much as twenty records in it
_RETRY = Backoff(first_s=0.1, most_s=2.0)  # while the stream server is down

Cell = tuple[str, str, str, str, str]
"""(stratum, alias, target, arm, reason); reason only for unsampled and dropped."""


class RecordStream(Protocol):
    async def append(self, entries: list[Fields]) -> None: ...

    async def losses(self) -> int:
        """Counts entries that were lost from the stream; raises StreamDown."""
        ...


class CountsOfProcess(NamedTuple):
    """Counts that a process keeps in case it is killed (last_counts.py), in the order of `Recorder.kept`."""

    taken: int
    """Records that it took into its buffer."""
    appended: int
    """The number of these that the stream server acknowledged."""
    seen: int
    """Calls that reached an upstream."""
    reported: int
    """The number of these whose usage was in an acknowledged tally."""


_TAKEN, _APPENDED, _SEEN, _REPORTED = range(4)


class Ledger:
    """The counts of one process, by cell. A Tally is a copy of it."""

    __slots__ = ("dropped", "enqueued", "sampled", "seen", "unsampled")

    def __init__(self) -> None:
        self.seen: Counter[Cell] = Counter()
        self.unsampled: Counter[Cell] = Counter()
        self.sampled: Counter[Cell] = Counter()
        self.enqueued: Counter[Cell] = Counter()
        self.dropped: Counter[Cell] = Counter()


@dataclass(slots=True)
class HeldRecord:
    """A record that must not leave the process as it is."""

    record: Exchange | Feedback
    redactor: Redactor | None
    """Removes secrets before the record leaves; None if it may leave as it is."""
    size: int
    """Bytes reserved in the buffer."""
    unshrunk: bool = False
    """The request still holds its images and has not been cut at the cap."""


class Recorder:
    def __init__(
        self,
        stream: RecordStream,
        metrics: ProxyMetrics,
        *,
        buffer_bytes: int = 32_000_000,
        tally_s: float = TALLY_S,
        whole_s: float = WHOLE_S,
        clock: Callable[[], float] = time.time,
        pace: Callable[[], float] = time.monotonic,
        retry: Backoff = _RETRY,
        shrink: Callable[[bytes, int], tuple[bytes, bool]] = without_data_urls,
    ) -> None:
        """buffer_bytes: of waiting records. tally_s: how soon counts that have changed are appended; whole_s: how often
        all of them, since an entry may be lost. clock: Unix seconds, for records. pace: monotonic seconds, for
        intervals: the wall clock may be set back. retry: while the stream server is unreachable. shrink: removes the
        images of a large request, on a thread."""
        self.incarnation = uuid.uuid4().hex
        """Names this process; gaps in `seq` show a consumer the losses."""
        self.ledger = Ledger()
        self.usage = UsageLedger(clock, whole_s, tally_s)
        self.kept: list[int] | memoryview[int] = [0] * len(CountsOfProcess._fields)
        """A CountsOfProcess that changes; in a file, if last_counts.py has opened one."""
        self.redactors: dict[str, Redactor] = {}
        """Redactors by caller; a caller without one keeps its content in full."""
        self.guard_redactor: Redactor | None = None
        """Redacts records in which a guard's rule matched; None if no guard has such rules."""
        self.cap_bytes = 1 << 20
        """The largest size of a request above LARGE, whose images are removed here, on a thread."""
        self._shrink_body = shrink
        self._histories = RunHistories(pace=pace)
        self._stream = stream
        self._metrics = metrics
        self._buffer_bytes = self._room = buffer_bytes
        self._tally_s = tally_s
        self._idle_s = IDLE_TALLIES * tally_s
        self._whole_s = whole_s
        self._tallied_at = float("-inf")  # when a tally was last appended
        self._whole_at = float("-inf")  # when all counts were last appended
        self._reported: dict[str, dict[Cell, int]] = {}
        """The counts of the newest tally that was acknowledged, by ledger."""
        self._clock = clock
        self._pace = pace
        self._waiting: deque[Exchange | Feedback | HeldRecord] = deque()
        self._seq = 0
        self._last_seq = 0
        self._wake = asyncio.Event()
        self._known: dict[
            tuple[Cell, str | None], tuple[Cell, fast_counters.FastCounter, Cell, fast_counters.FastCounter | None]
        ] = {}
        self._closing = False
        self.trouble = ""
        """Reason why the stream server did not take the last append; "" if it did."""
        self._retry = retry
        self._failures = 0  # appends in a row that the stream server did not take

    @property
    def waiting(self) -> int:
        """Number of records that wait to be appended."""
        return len(self._waiting)

    @property
    def fill(self) -> float:
        """The share of the buffer in use, 0 to 1."""
        return 1 - self._room / self._buffer_bytes

    @property
    def reached(self) -> bool:
        """Whether the stream server acknowledged the last append."""
        return not self.trouble

    @property
    def seq(self) -> int:
        """The number that the next exchange must carry."""
        return self._seq + 1

    def put(self, exchange: Exchange) -> bool:
        """Takes an exchange. False if the buffer is full and the exchange was dropped. exchange.seq must be `seq`."""
        size = _size(exchange)
        cell = cell_of(exchange)
        self.ledger.sampled[cell] += 1
        self._metrics.counts.of(self._metrics.sampled, exchange.stratum).n += 1
        if size > self._room:
            self._drop(exchange, "buffer_full")
            return False
        self._room -= size
        self._seq += 1
        self.kept[_TAKEN] = self._seq
        self._wait(exchange, size)
        return True

    def feedback(self, feedback: Feedback) -> bool:
        """Takes a person's feedback. False if the buffer is full."""
        size = _size(feedback)
        if size > self._room:
            return False
        self._room -= size
        self._wait(feedback, size)
        return True

    def _wait(self, record: Exchange | Feedback, size: int) -> None:
        redactor = self.redactors.get(record.caller) if self.redactors else None
        if self.guard_redactor is not None and type(record) is Exchange and record.guards is not None:
            redactor = self._guarded(record.guards, redactor)
        large = size > LARGE and isinstance(record, Exchange) and len(record.request) > LARGE
        self._waiting.append(HeldRecord(record, redactor, size, large) if large or redactor is not None else record)
        self._wake.set()

    def _guarded(self, guards: str, own: Redactor | None) -> Redactor | None:
        """The redactor of a record whose call guards have judged. own: its caller's."""
        keeps_none = own is not None and own.content == "metadata"
        return own if keeps_none or not has_found(guards) else self.guard_redactor

    def saw(self, cell: Cell, reason: str | None) -> None:
        """Counts one call that reached an upstream. reason: why it is not sampled; None if it is."""
        try:
            bare, seen, left_out, unsampled = self._known[cell, reason]
        except KeyError:
            bare, seen, left_out, unsampled = self._known[cell, reason] = self._counted(cell, reason)
        self.ledger.seen[bare] += 1
        self.kept[_SEEN] += 1
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
        """Appends records until close() has been called and none waits any more."""
        while not (self._closing and not self._waiting):
            now = self._pace()
            if self._is_tally_due(now):
                await self._append_tally(now)
            elif now - self._tallied_at >= self._tally_s:
                await self._look_at_stream()
            if self._waiting:
                await self.flush()
            else:
                await self._sleep(self._until_next_look())
            if 0 < len(self._waiting) < _BATCH and not self._closing:
                await asyncio.sleep(_GATHER_S)
        await self._append([self.tally(final=True).to_fields()])

    def close(self) -> None:
        """Announces that no exchange follows: run() ends once all waiting records are appended."""
        self._closing = True
        self._wake.set()

    def give_up(self) -> None:
        """Drops the waiting records and counts them, because the process ends and the stream server is unreachable."""
        for item in self._waiting:
            record = _record(item)
            if isinstance(record, Exchange):
                self._drop(record, "shutdown")
        self._waiting.clear()

    def _is_tally_due(self, now: float) -> bool:
        """Whether a period has passed and counts have changed in it, or the process was idle for long enough, or the
        stream server must be tried again.

        A record that ends an idle time therefore follows a tally, and a gap is known to lie after that tally.
        """
        passed = now - self._tallied_at
        return passed >= self._tally_s and (bool(self.trouble) or passed >= self._idle_s or self._has_changed(now))

    def _has_changed(self, now: float) -> bool:
        """Whether a count differs from the newest acknowledged tally, or a tally's worth of usage is due again."""
        self._metrics.counts.fold()  # calls that have no record, of embeddings for example, change the usage alone
        if self.usage.changed or self.usage.due_again(self._periods(now)) >= MOST_CELLS:
            return True
        ledgers = ((getattr(self.ledger, name), self._reported.get(name, {})) for name in Ledger.__slots__)
        return any(dict.__ne__(counter, before) for counter, before in ledgers)  # Counter's own is not in C

    def _periods(self, now: float) -> int:
        """Periods of tallies since the last one."""
        passed = min(now - self._tallied_at, self._idle_s)
        return max(1, round(passed / self._tally_s)) if self._tally_s else 1

    def _until_next_look(self) -> float:
        """Seconds. A call that is not sampled changes counts without waking the recorder, so it looks each period."""
        passed = self._pace() - self._tallied_at
        left = self._tally_s - passed
        return max(0.01, left if left > 0 else min(self._tally_s, self._idle_s - passed))

    async def _look_at_stream(self) -> None:
        """Notices, also while the process is idle, that the stream server is unreachable, or has lost entries."""
        try:
            self._histories.heed(await self._stream.losses())
        except StreamDown as error:
            self._histories.forget()
            await self._back_off(error)

    async def _append_tally(self, now: float) -> None:
        """Appends the counts that have changed since the last tally, or all of them."""
        whole = now - self._whole_at >= self._whole_s
        counts = {name: dict(getattr(self.ledger, name)) for name in Ledger.__slots__}
        seen = self.kept[_SEEN]
        tally = self.tally(changed_only=not whole, periods=self._periods(now))
        if not await self._append([tally.to_fields()]):
            return
        with contextlib.suppress(StreamDown):  # the next append fails too
            self._histories.heed(await self._stream.losses())
        self.usage.acknowledge(tally.usage)
        if len(tally.usage) < MOST_CELLS:  # otherwise some of it follows in the next tallies
            self.kept[_REPORTED] = seen
        self._reported = counts
        self._whole_at = now if whole else self._whole_at
        self._tallied_at = now

    def tally(self, *, final: bool = False, changed_only: bool = False, periods: int = 1) -> Tally:
        """The counts so far. changed_only: without those that the newest acknowledged tally had. Usage has a pace of
        its own, and is complete in the final tally. periods: since the last tally."""
        self._metrics.counts.fold()
        reported = self._reported if changed_only else {}

        def counts(name: str) -> tuple[Count, ...]:
            counter: Counter[Cell] = getattr(self.ledger, name)
            before = reported.get(name, {})
            return tuple(Count(*cell[:4], n, cell[4]) for cell, n in counter.items() if before.get(cell) != n)

        return Tally(
            incarnation=self.incarnation,
            at=self._clock(),
            last_seq=self._last_seq,
            seen=counts("seen"),
            unsampled=counts("unsampled"),
            sampled=counts("sampled"),
            enqueued=counts("enqueued"),
            dropped=counts("dropped"),
            final=final,
            usage=self.usage.everything() if final else self.usage.due(periods),
        )

    async def flush(self) -> None:
        """Appends one batch and keeps it until the server has acknowledged it: a repeat is harmless, a loss is not."""
        batch = self._batch()
        for item in batch:
            if type(item) is HeldRecord:
                await self._prepare(item)
        if not await self._append(await self._encoded(batch)):
            return
        cells: Counter[Cell] = Counter()
        for item in batch:
            self._waiting.popleft()
            self._room += _size(item)
            record = item.record if type(item) is HeldRecord else item
            if type(record) is Exchange:
                self._last_seq = record.seq
                cells[cell_of(record)] += 1
        self.kept[_APPENDED] = self._last_seq
        self.ledger.enqueued.update(cells)
        for cell, n in cells.items():
            self._metrics.counts.of(self._metrics.enqueued, cell[0]).n += n

    def _batch(self) -> list[Exchange | Feedback | HeldRecord]:
        """The oldest waiting records, at least one."""
        batch: list[Exchange | Feedback | HeldRecord] = []
        size = 0
        for item in self._waiting:
            batch.append(item)
            size += _size(item)
            if size > _BATCH_BYTES or len(batch) == _BATCH:
                break
        return batch

    async def _encoded(self, batch: list[Exchange | Feedback | HeldRecord]) -> list[Fields]:
        entries: list[Fields] = []
        turn = _AT_ONCE
        for item in batch:
            if len(entries) == turn:
                turn += _AT_ONCE + len(self._waiting) // _MORE_OF
                await asyncio.sleep(0)
            record = _record(item)
            if type(item) is Exchange:  # a held record was read when it was prepared
                await _note_origin(item)
            of_run = type(record) is Exchange and record.run is not None
            entries.append(self._histories.fields(record) if of_run else record.to_fields())  # type: ignore[arg-type]
        return entries

    async def _prepare(self, held: HeldRecord) -> None:
        if type(held.record) is Exchange:
            await _note_origin(held.record)  # first: a redacted answer has other bytes
        if held.unshrunk:
            await self._shrink(held)
        if held.redactor is not None:
            await self._redact(held, held.redactor)

    async def _shrink(self, held: HeldRecord) -> None:
        """Removes the images of a request that may have tens of megabytes, and returns the space to the buffer."""
        record: Exchange = held.record  # type: ignore[assignment]
        request, cut = await asyncio.to_thread(self._shrink_body, record.request, self.cap_bytes)
        held.record = replace(record, request=request, truncated=record.truncated or cut)
        held.unshrunk = False
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
            self._histories.forget()
            await self._back_off(error)
            return False
        if self.trouble:
            log.warning("the stream server is reachable again; recording resumes")
        self.trouble = ""
        self._failures = 0
        return True

    async def _back_off(self, error: StreamDown) -> None:
        if not self.trouble:
            log.warning("%s; exchanges wait in memory, and are dropped once the buffer is full", error)
        self.trouble = str(error) or type(error).__name__
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
    target = exchange.target
    name = str(target) if target.variant else f"{target.upstream}/{target.model}"
    return (exchange.stratum, exchange.alias, name, exchange.arm or "", "")


async def _note_origin(exchange: Exchange) -> None:
    response = exchange.response
    if not response or exchange.form != "raw":
        return
    if len(response) > LARGE:
        await asyncio.to_thread(note_origin, exchange, response)
    else:
        note_origin(exchange, response)


def _record(item: Exchange | Feedback | HeldRecord) -> Exchange | Feedback:
    return item.record if type(item) is HeldRecord else item  # type: ignore[return-value]


def _size(item: Exchange | Feedback | HeldRecord) -> int:
    """Bytes reserved in the buffer, also after redaction."""
    if type(item) is Exchange:
        return 1024 + len(item.request) + len(item.response)
    if type(item) is HeldRecord:
        return item.size
    feedback: Feedback = item  # type: ignore[assignment]
    return 1024 + 4 * sum(len(text) for text in (feedback.label, feedback.comment, feedback.correction) if text)
