"""Read → score → store → acknowledge, in that order: so an exchange may be judged twice, and is never lost here.

Entries of a consumer that died are taken over one at a time, so that one which kills its consumer takes no other with
it; after a number of deliveries it becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from gateway.core.backoff import Backoff
from gateway.core.errors import StreamDown
from gateway.evals.entry_scoring import EntryScorer, ReadEntry, batch_of, exchange_in
from gateway.evals.experiments.engine import ExperimentEngine
from gateway.evals.gauges import Gauges
from gateway.evals.scoring.budget import ledger_key_at
from gateway.evals.scoring.registry import RegisteredScorer
from gateway.evals.store.labels import labels_with_scores
from gateway.evals.store.store import Store, StoreDown, WriteRejected
from gateway.evals.store.write import DeadLetterRow
from gateway.observability.eval_metrics import EvalFigures, EvalMetrics
from gateway.runtime.tasks import Tasks
from gateway.stream import EVICTS, Corridor, StreamEntry

if TYPE_CHECKING:
    from gateway.evals.otel_events import ScoreEvents

BLOCKED_KEPT_S = 60
VERDICT_KEPT_S = 60
LATE_BEATS = 3  # a consumer that missed so many heartbeats does not count as alive
FAILURE_KEPT_S = 86_400
KILLED = "its consumer was killed, or hung, while it held it"
T = TypeVar("T")
log = logging.getLogger(__name__)
RETRY = Backoff(first_s=0.1, most_s=5.0)  # while the stream server or the store is down


@dataclass(frozen=True, slots=True)
class ConsumerTiming:
    """When a consumer does what. claim_idle_ms: an entry nobody has touched for so long belongs to whoever claims it.
    most_deliveries: an entry handed out more often is a dead letter."""

    count: int = 256
    block_ms: int = 500
    tick_s: float = 1.0
    labels_s: float = 30.0
    keep_s: float = 60.0
    heartbeat_s: float = 5.0
    claim_s: float = 5.0
    claim_idle_ms: int = 30_000
    most_deliveries: int = 5
    retry: Backoff = RETRY


@dataclass(frozen=True, slots=True)
class ConsumerContext:
    """What a consumer works with. experiments: None: it takes no part in moving them forward. events: None:
    nobody is told what scorers said."""

    corridor: Corridor
    store: Store
    scorers: Mapping[str, RegisteredScorer]
    judge: EntryScorer
    gauges: Gauges
    metrics: EvalMetrics
    experiments: ExperimentEngine | None = None
    events: ScoreEvents | None = None


class Consumer:
    """One consumer of the group. name: unique among all that run; clock: Unix time in seconds."""

    def __init__(
        self,
        desk: ConsumerContext,
        name: str,
        pace: ConsumerTiming | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._desk = desk
        self._name = name
        self._pace = pace or ConsumerTiming()
        self._clock = clock
        self._stopping = asyncio.Event()
        self._in_hand: list[str] = []
        self._due: dict[str, float] = {}
        self._told_trouble = False
        self._told_blocked = False
        self._labelled: Sequence[Mapping[str, Any]] = ()

    def stop(self) -> None:
        """run() returns when what is in hand is stored and acknowledged."""
        self._stopping.set()

    async def run(self) -> None:
        """Until stop(). Survives whatever the stream server and the store do."""
        with contextlib.suppress(StreamDown, StoreDown):  # only when it was stopped in the midst of it
            async with Tasks() as tasks:
                tasks.start(self._live(), "heartbeat")
                await self._until_done(self._desk.corridor.join)
                await self._warn_of_eviction()
                experimenting = self._experiments(tasks)
                while not self._stopping.is_set():
                    await self._until_done(self._round)
                await experimenting
            await self._tick()
            await self._desk.corridor.leave(self._name)

    def _experiments(self, tasks: Tasks) -> Awaitable[None]:
        """Beside the reading, which must not wait for a judge of pairs. Ends when all that was read is settled."""
        experiments = self._desk.experiments
        work = experiments.run(self._name, self._stopping) if experiments else self._stopping.wait()
        return tasks.start(work, "experiments")  # type: ignore[arg-type]

    async def _warn_of_eviction(self) -> None:
        with contextlib.suppress(StreamDown):  # where it may not be asked
            policy = await self._desk.corridor.evicting()
            if policy is not None:
                log.warning(EVICTS, policy)

    async def _round(self) -> None:
        if self._is_due("claim", self._pace.claim_s):
            await self._take_over()
        entries = await self._desk.corridor.read(self._name, self._pace.count, self._pace.block_ms)
        await self._settle(entries)
        if self._is_due("tick", self._pace.tick_s):
            await self._tick()

    def _is_due(self, what: str, every_s: float) -> bool:
        now = self._clock()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every_s
        return True

    async def _take_over(self) -> None:
        """What dead consumers left, and what was handed to us in an answer that never arrived."""
        while not self._stopping.is_set():
            claimed = await self._desk.corridor.claim(self._name, self._pace.claim_idle_ms, 1)
            if not claimed:
                return
            entry = claimed[0]
            if entry.deliveries > self._pace.most_deliveries:
                await self._dead_letter(entry, "too_many_deliveries", await self._why_never(entry))
            else:
                await self._settle(claimed)

    async def _why_never(self, entry: StreamEntry) -> str:
        last = await self._desk.corridor.state.recall(_failure(entry.id))
        return f"handed out {entry.deliveries} times, never stored; the last time: {last or KILLED}"

    async def _settle(self, entries: Sequence[StreamEntry]) -> None:
        """Judges, stores and acknowledges these entries, however long the store and the stream server need.

        What breaks it leaves all of them as they were: they are claimed later, one at a time.
        """
        if not entries:
            return
        self._in_hand = [entry.id for entry in entries]
        try:
            found = await self._desk.judge.read(entries)
            for each in found.unreadable:
                await self._dead_letter(each.entry, "unreadable", each.reason)
            stored = await self._store(found.read)
            await self._until_done(partial(self._desk.corridor.ack, stored))
        except (StreamDown, StoreDown):  # told to stop in the midst of it
            raise
        except Exception as error:  # one entry that breaks our own code must not end the consumer
            log.exception("%d entries could not be settled; each is tried again alone", len(entries))
            for entry in entries:
                said = f"{type(error).__name__}: {error}"
                await self._until_done(
                    partial(self._desk.corridor.state.remember, _failure(entry.id), said, FAILURE_KEPT_S)
                )
        finally:
            self._in_hand = []

    async def _store(self, read: Sequence[ReadEntry]) -> list[str]:
        """Returns the ids of the entries that are stored. What the database refuses is buried, and only that."""
        try:
            await self._write(read)
            return [r.entry.id for r in read]
        except WriteRejected as error:
            if len(read) == 1:
                await self._dead_letter(read[0].entry, "refused", str(error))
                return []
        return [i for r in read for i in await self._store([r])]

    async def _write(self, read: Sequence[ReadEntry]) -> None:
        if read:
            written = await self._until_done(partial(self._desk.store.write, batch_of(self._desk.scorers, read)))
            if self._desk.events is not None:
                self._desk.events.tell(read)
            for met in written.met:
                with contextlib.suppress(StreamDown):  # whoever waits for it then hears nothing, and does not wait long
                    await self._desk.corridor.state.remember(
                        f"feedback:{met.feedback_id}", met.to_json(), VERDICT_KEPT_S
                    )

    async def _dead_letter(self, entry: StreamEntry, reason: str, error: str) -> None:
        """Stores the dead letter before the entry is moved: a crash in between counts it once all the same."""
        log.warning("entry %s becomes a dead letter: %s: %s", entry.id, reason, error)
        letter = DeadLetterRow(entry.id, reason, error, self._clock(), exchange_in(entry))
        await self._until_done(partial(self._desk.store.bury, [letter]))
        await self._until_done(partial(self._desk.corridor.dead_letters.add, entry, reason, error))

    async def _tick(self) -> None:
        """What has been read and stored closes the ledgers; what is closed is shown, and leaves the stream."""
        corridor = self._desk.corridor
        standing = await self._desk.store.close(await corridor.looks())
        await corridor.trim_read()
        if self._is_due("keep", self._pace.keep_s):
            await self._keep()
        await self._tell_blocked()
        if self._is_due("labels", self._pace.labels_s):
            self._labelled = await self._desk.store.run(labels_with_scores)
        figures = self._desk.gauges.show(standing, await corridor.lag(self._clock()), self._labelled)
        if self._desk.experiments is not None:
            figures = replace(figures, experiments=self._desk.experiments.figures)
        self._desk.metrics.figures = self._alarmed(await self._of_the_stream(figures))

    async def _of_the_stream(self, figures: EvalFigures) -> EvalFigures:
        """With what only the stream server knows: what was trimmed, who lives, what budgets are used."""
        corridor, now = self._desk.corridor, self._clock()
        beats = (await corridor.state.consumers()).values()
        return replace(
            figures,
            trimmed_unread=await corridor.trimmed_unread(),
            at=now,
            consumers=sum(now - at < LATE_BEATS * self._pace.heartbeat_s for at in beats),
            budget_used=self._desk.gauges.budgets(await corridor.state.sums(ledger_key_at(now))),
        )

    async def _keep(self) -> None:
        swept = await self._desk.store.retain(self._name)
        if swept.more:
            self._due["keep"] = 0.0
        if swept.removed or swept.emptied:
            log.info("%d old exchanges are gone; of %d more, the words", swept.removed, swept.emptied)

    async def _tell_blocked(self) -> None:
        """For `gateway status`, until it says otherwise or says nothing for BLOCKED_KEPT_S: scorer → why."""
        blocked = {name: reason for name, reason in self._desk.gauges.gates().items() if reason is not None}
        if blocked or self._told_blocked:
            said = orjson.dumps(blocked).decode()
            await self._desk.corridor.state.remember(f"blocked:{self._name}", said, BLOCKED_KEPT_S)
        self._told_blocked = bool(blocked)

    def _alarmed(self, figures: EvalFigures) -> EvalFigures:
        """Says in the log what only rises when something is lost."""
        before = self._desk.metrics.figures
        if figures.unaccounted > before.unaccounted:
            log.error("%d exchanges were sent, never came, and nothing explains it", figures.unaccounted)
        if figures.trimmed_unread > before.trimmed_unread:
            log.error("%d entries left the stream before they were read", figures.trimmed_unread)
        for reason, n in figures.lost.items():
            if n > before.lost.get(reason, 0):
                log.warning("%d exchanges are lost so far: %s", n, reason)
        return figures

    async def _live(self) -> None:
        """Says that we live, and that what is in hand is ours: a judge may take longer than claim_idle_ms."""
        while True:
            with contextlib.suppress(StreamDown):  # told by whoever reads
                await self._desk.corridor.state.heartbeat(self._name, self._clock())
                await self._desk.corridor.keep(self._name, self._in_hand)
            await asyncio.sleep(self._pace.heartbeat_s)

    async def _until_done(self, action: Callable[[], Awaitable[T]]) -> T:
        """Again and again while the stream server or the store is down; told once. Raises only when it is to stop."""
        failures = 0
        while True:
            try:
                done = await action()
            except (StreamDown, StoreDown) as error:
                if self._stopping.is_set():
                    raise
                self._tell(error)
            else:
                self._untell()
                return done
            failures += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.retry.wait_s(failures)):
                    await self._stopping.wait()

    def _tell(self, error: Exception) -> None:
        if not self._told_trouble:
            log.warning("%s; tried again until it works", error)
        self._told_trouble = True

    def _untell(self) -> None:
        if self._told_trouble:
            log.warning("scoring goes on")
        self._told_trouble = False


def _failure(entry: str) -> str:
    """Where the last error of an entry is remembered."""
    return f"failure:{entry}"
