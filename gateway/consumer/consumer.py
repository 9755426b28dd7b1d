"""Read → score → store → acknowledge, in that order: an exchange may be scored twice, and is never lost here.

While more entries wait than a read returns, the next ones are read and scored during the store's transaction. Batches
are stored and acknowledged one after the other, in the order in which they were read.

Entries of a consumer that died are claimed one at a time, so that an entry that kills its consumer takes no other entry
with it; after a number of deliveries it becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from gateway.consumer.entry_scoring import EntryScorer, ReadEntry, SortedEntries, batch_of
from gateway.consumer.gauges import Gauges
from gateway.consumer.run_requests import RunRequests
from gateway.core.backoff import Backoff
from gateway.core.errors import StreamDown
from gateway.core.reasons import Reason
from gateway.features.consumer_report import ConsumerReport, FailingScorer, ScorerFailures
from gateway.features.hooks import Figures, Hooks, ShownFigures
from gateway.features.isolation import IsolatedWork, Work
from gateway.observability.eval_metrics import EvalFigures, EvalMetrics
from gateway.runtime.tasks import Tasks
from gateway.scoring.budget import ledger_key_at
from gateway.scoring.registry import RegisteredScorer
from gateway.store.store import Store, StoreDown, WriteRejected
from gateway.store.write import DeadLetterRow
from gateway.stream import EVICTS, Corridor, StreamEntry
from gateway.stream.corridor import DAY_S
from gateway.stream.types import exchange_in

if TYPE_CHECKING:
    from gateway.consumer.otel_events import ScoreEvents

BLOCKED_KEPT_S = 60
REPORT_KEPT_S = 60
VERDICT_KEPT_S = 60
LATE_BEATS = 3  # a consumer that missed this many heartbeats in a row counts as dead
FAILURE_KEPT_S = 86_400
KILLED = "its consumer was killed, or hung, while it was scoring the entry"
T = TypeVar("T")
log = logging.getLogger(__name__)
RETRY = Backoff(first_s=0.1, most_s=5.0)  # while the stream server or the store is down


@dataclass(frozen=True, slots=True)
class ConsumerTiming:
    """Intervals of a consumer's work."""

    first_count: int = 8
    """Entries of a read after a start, or after one that found none: nobody knows how large the next ones are."""
    count: int = 256
    """Entries of a read, as long as a read does not find that many."""
    most_count: int = 1024
    """Entries of a read while more wait: a larger batch costs less for each."""
    most_bytes: int = 8_000_000
    """Bytes of a batch, by the mean of the previous one."""
    most_scoring_s: float = 0.25
    """CPU time of such a batch, by the mean of the previous one: the event loop does nothing else meanwhile."""
    most_waiting_s: float = 10.0
    """Seconds until such a batch is scored, by the mean of the previous one. Time in a judge's queue counts towards its
    deadline, and a larger batch has a longer queue."""
    block_ms: int = 500
    tick_s: float = 1.0
    retention_s: float = 60.0
    heartbeat_s: float = 5.0
    forget_s: float = 600.0  # a killed consumer is forgotten after so long without a heartbeat
    rewrite_s: int = DAY_S  # between rewrites of the stream server's append-only file, where there is a retention
    claim_s: float = 5.0
    claim_idle_ms: int = 30_000
    """An entry that its consumer has not touched for this long may be claimed by another."""
    most_deliveries: int = 5
    """An entry delivered more often becomes a dead letter."""
    silent_ms: int = 60_000
    """A gateway process that has appended nothing for this long has ended; an idle one appends a tally each 15 s."""
    retry: Backoff = RETRY


@dataclass(frozen=True, slots=True)
class ScoringTime:
    """Seconds that an entry of a batch took to be scored."""

    cpu_s: float = 0.0
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ConsumerContext:
    """The services that a consumer works with."""

    corridor: Corridor
    store: Store
    scorers: Mapping[str, RegisteredScorer]
    scoring: EntryScorer
    gauges: Gauges
    metrics: EvalMetrics
    hooks: Hooks = field(default_factory=Hooks)
    """The part of the features in its turns."""
    events: ScoreEvents | None = None
    """The emitter of scores as OpenTelemetry events, if they are wanted."""
    isolated: IsolatedWork = field(default_factory=IsolatedWork)
    """The isolation of the features' work."""
    report: Callable[[], ConsumerReport] = ConsumerReport
    """Additional members of its heartbeat."""


class Consumer:
    """A consumer of the group.

    name: unique among the running consumers. clock: Unix time in seconds, for what is recorded and compared with other
    machines. pace: monotonic seconds, for intervals: the wall clock may be set back.
    """

    def __init__(
        self,
        context: ConsumerContext,
        name: str,
        timing: ConsumerTiming | None = None,
        clock: Callable[[], float] = time.time,
        pace: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._name = name
        self._timing = timing or ConsumerTiming()
        self._clock = clock
        self._pace = pace
        self._stopping = asyncio.Event()
        self._in_progress: set[str] = set()
        self._requests = RunRequests(context.store, context.corridor)
        self._tasks = Tasks()
        self._writing: asyncio.Task[StreamDown | StoreDown | None] | None = None
        self._due: dict[str, float] = {}
        self._count = min(self._timing.first_count, self._timing.count)
        self._scoring = ScoringTime()  # of an entry, in the newest batch
        self._paused = ""
        self._failures = ScorerFailures()
        context.metrics.failing_parts = lambda: len(self.reasons())
        self._failing: Mapping[str, FailingScorer] = {}  # as of the newest heartbeat
        self._reported_blocked = False
        self._shown: dict[str, ShownFigures] = {}  # as of the newest reading, by the name of the hook

    @property
    def paused(self) -> str:
        """Reason why it waits for the stream server or the store; "" if it does not."""
        return self._paused

    def reasons(self) -> list[Reason]:
        """Parts that do not work as they should, for /health. May be called on any thread."""
        return self._report().reasons(self._context.gauges.gates())

    def stop(self) -> None:
        """Makes run() return once the entries in progress are stored and acknowledged."""
        self._stopping.set()

    async def run(self) -> None:
        """Consumes until stop(). Survives outages of the stream server and the store."""
        with contextlib.suppress(StreamDown, StoreDown):  # raised only when stop() came during an outage
            async with self._tasks as tasks:
                tasks.start(self._heartbeat(), "heartbeat")
                await self._until_done(self._context.corridor.join)
                await self._warn_of_eviction()
                alongside = self._begin_alongside(tasks)
                while not self._stopping.is_set():
                    await self._until_done(self._round)
                await self._written()
                for work in alongside:
                    await work
            await self._tick()
            await self._context.corridor.leave(self._name)

    def _begin_alongside(self, tasks: Tasks) -> list[Awaitable[None]]:
        """Begins work that the reading must not wait for: a pairwise judge is slow."""
        return [tasks.start(work.run(self._stopping), work.name) for work in self._context.hooks.alongside]

    async def _warn_of_eviction(self) -> None:
        with contextlib.suppress(StreamDown):  # the ACL may forbid the question
            policy = await self._context.corridor.evicting()
            if policy is not None:
                log.warning(EVICTS, policy)

    async def _round(self) -> None:
        if self._is_due("claim", self._timing.claim_s):
            await self._written()
            await self._claim()
        asked = self._count
        read = await self._read(asked)
        entries = await self._restored(read)
        self._count = self._next_count(entries, asked)
        found = await self._score(entries)
        await self._written()
        if found is not None:
            self._writing = self._tasks.start(self._keep(entries, found), "store")
        if len(read) < asked:  # a consumer that keeps up has larger batches if it does not read ahead
            await self._written()
        if self._is_due("tick", self._timing.tick_s):
            await self._tick()

    def _next_count(self, entries: Sequence[StreamEntry], asked: int) -> int:
        first, count = self._timing.first_count, self._timing.count
        if not entries:
            return min(first, count)
        found = next_count(entries, asked, self._timing, self._scoring)
        return min(found, count) if asked == first else found  # a few entries do not tell the size of a thousand

    async def _read(self, count: int) -> list[StreamEntry]:
        if self._requests.full:
            await asyncio.sleep(self._timing.block_ms / 1000)
            return []
        try:
            return await self._context.corridor.read(self._name, count, self._timing.block_ms)
        except StreamDown:  # the next read may return whatever this consumer was handed and has not acknowledged
            await self._written()
            raise

    async def _restored(self, read: Sequence[StreamEntry]) -> list[StreamEntry]:
        """The entries whose requests are whole; those that wait for others stay this consumer's own."""
        try:
            return await self._requests.restore(read, self._timing.most_bytes)
        finally:
            self._in_progress.update(self._requests.waiting)

    async def _written(self) -> None:
        """Waits until the batch before is stored and acknowledged. Raises StreamDown, StoreDown only after stop()."""
        writing, self._writing = self._writing, None
        outage = await writing if writing is not None else None
        if outage is not None:
            raise outage

    def _is_due(self, what: str, every_s: float) -> bool:
        now = self._pace()
        if now < self._due.get(what, float("-inf")):
            return False
        self._due[what] = now + every_s
        return True

    async def _claim(self) -> None:
        """Claims what dead consumers left, and what was delivered to this one in a reply that never arrived."""
        while not self._stopping.is_set():
            claimed = await self._context.corridor.claim(self._name, self._timing.claim_idle_ms, 1)
            if not claimed:
                return
            entry = claimed[0]
            if entry.deliveries > self._timing.most_deliveries:
                last = await self._context.corridor.state.recall(_failure_key(entry.id)) or KILLED
                reason = f"delivered {entry.deliveries} times, never stored; last failure: {last}"
                await self._dead_letter(entry, "too_many_deliveries", reason)
            else:
                await self._settle(await self._restored(claimed))

    async def _settle(self, entries: Sequence[StreamEntry]) -> None:
        """Scores, stores and acknowledges these entries, however long the store and the stream server need."""
        found = await self._score(entries)
        outage = await self._keep(entries, found) if found is not None else None
        if outage is not None:
            raise outage

    async def _score(self, entries: Sequence[StreamEntry]) -> SortedEntries | None:
        """Scores entries; None if there are none, or an unexpected error left them pending."""
        if not entries:
            return None
        self._in_progress.update([entry.id for entry in entries])
        try:
            cpu_s, wall_s = time.thread_time(), time.monotonic()
            found = await self._context.scoring.read(entries)
            cpu_s, wall_s = time.thread_time() - cpu_s, time.monotonic() - wall_s
            self._scoring = ScoringTime(cpu_s / len(entries), wall_s / len(entries))
            for each in found.read:
                if each.judged is not None:
                    self._failures.count(each.judged.results, self._pace())
            return found
        except Exception as error:  # an entry that breaks our own code must not end the consumer
            await self._leave_pending(entries, error)
            return None

    async def _keep(self, entries: Sequence[StreamEntry], found: SortedEntries) -> StreamDown | StoreDown | None:
        """Stores and acknowledges these entries. Returns the outage during which the consumer was stopped."""
        try:
            for each in found.unreadable:
                await self._dead_letter(each.entry, "unreadable", each.reason)
            stored = await self._store(found.read)
            await self._until_done(partial(self._context.corridor.ack, stored))
            self._in_progress.difference_update([entry.id for entry in entries])
        except (StreamDown, StoreDown) as outage:
            return outage
        except Exception as error:  # as in _score
            await self._leave_pending(entries, error)
        return None

    async def _leave_pending(self, entries: Sequence[StreamEntry], error: Exception) -> None:
        """Leaves the entries pending: they are claimed later, one at a time."""
        log.error("scoring failed; each entry is retried alone: entries=%d", len(entries), exc_info=error)
        for entry in entries:
            failure = f"{type(error).__name__}: {error}"
            await self._until_done(
                partial(self._context.corridor.state.remember, _failure_key(entry.id), failure, FAILURE_KEPT_S)
            )
        self._in_progress.difference_update([entry.id for entry in entries])

    async def _store(self, read: Sequence[ReadEntry]) -> list[str]:
        """Stores the entries and returns the ids of those stored; rejected ones become dead letters."""
        try:
            await self._write(read)
            return [r.entry.id for r in read]
        except WriteRejected as error:
            if len(read) == 1:
                await self._dead_letter(read[0].entry, "refused", str(error))
                return []
        half = len(read) // 2
        return [*await self._store(read[:half]), *await self._store(read[half:])]

    async def _write(self, read: Sequence[ReadEntry]) -> None:
        if read:
            written = await self._until_done(partial(self._context.store.write, batch_of(self._context.scorers, read)))
            if self._context.events is not None:
                self._context.events.emit(read)
            for met in written.met:
                with contextlib.suppress(StreamDown):  # the client that waits for it gets a timeout
                    await self._context.corridor.state.remember(
                        f"feedback:{met.feedback_id}", met.to_json(), VERDICT_KEPT_S
                    )

    async def _dead_letter(self, entry: StreamEntry, reason: str, error: str) -> None:
        """Stores the dead letter before the entry is moved: a crash in between does not count it twice."""
        log.warning("entry moved to the dead letters: entry=%s reason=%s error=%s", entry.id, reason, error)
        letter = DeadLetterRow(entry.id, reason, error, self._clock(), exchange_in(entry))
        await self._until_done(partial(self._context.store.add_dead_letters, [letter]))
        await self._until_done(partial(self._context.corridor.dead_letters.add, entry, reason, error))

    async def _tick(self) -> None:
        """Closes the ledgers of everything read and stored, trims the stream, and updates the metrics."""
        corridor = self._context.corridor
        snapshot = await self._context.store.close(await corridor.snapshots(), self._timing.silent_ms)
        await corridor.trim_read()
        if self._is_due("retention", self._timing.retention_s):
            await self._apply_retention()
        await self._report_blocked()
        await self._context.isolated.alongside(self._due_figures())
        figures = self._context.gauges.show(snapshot, await corridor.lag(self._clock()))
        for shown in self._shown.values():
            figures = shown(figures, snapshot)
        figures = self._context.hooks.with_current(figures)
        self._context.metrics.figures = self._with_alarms(await self._with_stream_state(figures))

    def _due_figures(self) -> Iterator[tuple[Work, Callable[[], Coroutine[Any, Any, None]]]]:
        """The features' figures to be read now; none waits for another."""
        for hook in self._context.hooks.figures:
            if self._is_due(hook.name, hook.every_s):
                yield Work(hook.name), partial(self._read_figures, hook)

    async def _read_figures(self, hook: Figures) -> None:
        if (shown := await hook.read(self._reader)) is not None:
            self._shown[hook.name] = shown

    @cached_property
    def _reader(self) -> Store:
        """The store, for queries with a budget."""
        return self._context.store.bounded(self._context.isolated.limits.queries)

    async def _with_stream_state(self, figures: EvalFigures) -> EvalFigures:
        """Adds what only the stream server knows: trimmed entries, living consumers, used budgets."""
        corridor, now = self._context.corridor, self._clock()
        beats = (await corridor.state.consumers()).values()
        return replace(
            figures,
            trimmed_unread=await corridor.trimmed_unread(),
            at=now,
            consumers=sum(now - at < LATE_BEATS * self._timing.heartbeat_s for at in beats),
            budget_used=self._context.gauges.budgets(await corridor.state.sums(ledger_key_at(now))),
        )

    async def _apply_retention(self) -> None:
        store, corridor = self._context.store, self._context.corridor
        swept = await store.retain(self._name, (await corridor.lag(self._clock())).oldest_s)
        if swept.more:
            del self._due["retention"]
        if swept.removed or swept.emptied:
            log.info("retention: exchanges deleted=%d, reduced to numbers=%d", swept.removed, swept.emptied)
        if store.retention.keep_s is None:
            return
        with contextlib.suppress(StreamDown):  # the next turn does it; or an operator may not rewrite the file
            if expired := await corridor.dead_letters.expire(self._clock() - store.retention.keep_s):
                log.info("retention: dead letters deleted=%d", expired)
            await corridor.forget_deleted(self._timing.rewrite_s)

    async def _report_blocked(self) -> None:
        """Publishes scorer → reason for `gateway status`; expires after BLOCKED_KEPT_S."""
        blocked = {name: reason for name, reason in self._context.gauges.gates().items() if reason is not None}
        if blocked or self._reported_blocked:
            reasons = orjson.dumps(blocked).decode()
            await self._context.corridor.state.remember(f"blocked:{self._name}", reasons, BLOCKED_KEPT_S)
        self._reported_blocked = bool(blocked)

    def _with_alarms(self, figures: EvalFigures) -> EvalFigures:
        """Logs every counter of losses that has risen."""
        before = self._context.metrics.figures
        if figures.unaccounted > before.unaccounted:
            log.error(
                "exchanges were sent, never arrived, and no incident explains it: unaccounted=%d", figures.unaccounted
            )
        if figures.trimmed_unread > before.trimmed_unread:
            log.error("entries were trimmed from the stream before they were read: total=%d", figures.trimmed_unread)
        for reason, n in figures.lost.items():
            if n > before.lost.get(reason, 0):
                log.warning("exchanges were lost: reason=%s total=%d", reason, n)
        return figures

    def _report(self) -> ConsumerReport:
        return replace(
            self._context.report(), paused=self._paused, failing=self._failing, stopped=self._context.isolated.stopped()
        )

    async def _heartbeat(self) -> None:
        """Keeps this consumer alive and its entries unclaimed: a judge may take longer than claim_idle_ms."""
        state = self._context.corridor.state
        while True:
            self._failing = self._failures.failing(self._pace())
            report = self._report()
            with contextlib.suppress(StreamDown):  # logged by the reading loop
                now = self._clock()
                await state.heartbeat(self._name, now)
                await state.remember(f"report:{self._name}", report.to_json(), REPORT_KEPT_S)
                await self._context.corridor.keep(self._name, list(self._in_progress))
                for name, at in (await state.consumers()).items():
                    if now - at > self._timing.forget_s:
                        await state.forget_consumer(name)
            await asyncio.sleep(self._timing.heartbeat_s)

    async def _until_done(self, action: Callable[[], Awaitable[T]]) -> T:
        """Retries while the stream server or the store is down; logs once. Raises only after stop()."""
        failures = 0
        while True:
            try:
                done = await action()
            except (StreamDown, StoreDown) as error:
                if self._stopping.is_set():
                    raise
                self._log_outage(error)
            else:
                self._log_recovery()
                return done
            failures += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timing.retry.wait_s(failures)):
                    await self._stopping.wait()

    def _log_outage(self, error: Exception) -> None:
        went_on, self._paused = not self._paused, str(error)
        if went_on:
            log.warning("scoring paused; retrying: %s", error)

    def _log_recovery(self) -> None:
        if self._paused:
            log.warning("scoring resumed")
        self._paused = ""


def next_count(entries: Sequence[StreamEntry], asked: int, timing: ConsumerTiming, scoring: ScoringTime) -> int:
    """The number of entries to read in the next batch, given these entries and the number `asked` for.

    scoring: it limits by how much a batch grows, not how small it becomes.
    """
    if not entries:
        return timing.count
    size = sum(len(value) for entry in entries for value in entry.fields.values()) // len(entries)
    if len(entries) < asked:
        return max(1, min(timing.count, timing.most_bytes // max(1, size)))
    limits = (timing.most_scoring_s, scoring.cpu_s), (timing.most_waiting_s, scoring.wall_s)
    quick = max(timing.count, int(min(most_s / max(each_s, 1e-9) for most_s, each_s in limits)))
    return max(1, min(timing.most_count, quick, timing.most_bytes // max(1, size)))


def _failure_key(entry: str) -> str:
    """The key of the shared state that holds an entry's last error."""
    return f"failure:{entry}"
