"""One run of a replay: sends missing requests, computes missing scores, and stores both. A new run continues where the
last one stopped."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from gateway.core.chunked import chunked
from gateway.core.errors import CannotRun
from gateway.core.randomization import draw
from gateway.core.sanitize import plain
from gateway.core.score import ScoreResult
from gateway.features.replay.datasets.datasets import Dataset, DatasetItem
from gateway.features.replay.design import ReplayDesign, body
from gateway.features.replay.rows import KnownAnswer, ReplayAnswer, ReplayKey, ReplayStore
from gateway.features.replay.sending.asking import ReplayRequest, RequestPacing, subject
from gateway.features.targets import ReplayTarget
from gateway.runtime.tasks import Tasks
from gateway.scoring.registry import RegisteredPair, RegisteredScorer
from gateway.scoring.run import run_scorer, score_all
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.types import Pair, Subject
from gateway.store.rows import ScoredExchange
from gateway.store.store import StoreDown, WriteRejected

_CHUNK = 200  # items per query of the stored state
_PAIR_CHUNK = 32  # the same for pairs, which are stored by the chunk
BATCH = 64
"""Answers per transaction. As many may wait for the next one: what a kill loses is paid for twice, so a replay that is
killed asks again for at most its requests in flight and two batches."""


class ReplayStopped(CannotRun):
    """The replay stopped early because a target kept failing. The answers so far are stored."""


class Asks(Protocol):
    async def ask(self, request: ReplayRequest) -> ReplayAnswer: ...


class AnswerScoring(Protocol):
    """The place where the scores of answers are computed."""

    async def score(
        self, request: ReplayRequest, answer: ReplayAnswer, judged: Subject, scorers: Mapping[str, RegisteredScorer]
    ) -> list[ScoreResult]:
        """Scores in the order of `scorers`. judged: the answer to the request, for scorers."""


class LocalScoring:
    """Scores in this process, and on its threads."""

    def __init__(self, threads: ScoringThreads) -> None:
        self._threads = threads

    async def score(
        self, request: ReplayRequest, answer: ReplayAnswer, judged: Subject, scorers: Mapping[str, RegisteredScorer]
    ) -> list[ScoreResult]:
        return await score_all(scorers, judged, lambda _: 0.0, self._threads, patient=True)


@dataclass(frozen=True, slots=True)
class ReplayJob:
    name: str
    """The replay's key in the store."""
    dataset: Dataset
    design: ReplayDesign
    rows: int
    """The number of rows, from the first."""
    repeats: int
    """The number of requests for each row and target."""
    scorers: Mapping[str, RegisteredScorer]
    pace: RequestPacing = field(default_factory=RequestPacing)
    pairs: Mapping[str, RegisteredPair] = field(default_factory=dict)
    """Scorers that compare a candidate's answer with the control's."""

    @property
    def total(self) -> int:
        return self.rows * len(self.design.targets) * self.repeats

    def request(self, item: DatasetItem, target: ReplayTarget, repeat: int) -> ReplayRequest:
        return ReplayRequest(self.name, item, target, repeat, body(item, target, self.design.settings, repeat))

    def items(self) -> Iterator[DatasetItem]:
        return itertools.islice(self.dataset.items(), self.rows)

    def chunks(self, size: int) -> Iterator[list[DatasetItem]]:
        return chunked(self.items(), size)


@dataclass(slots=True)
class ReplayProgress:
    total: int
    """The number of answers of the complete replay."""
    before: int = 0
    """Answered by earlier runs."""
    done: int = 0
    """Requests finished by this run, failures included."""
    failed: int = 0
    usd: float = 0.0
    """The cost of the answers of all runs; answers without a price count 0."""
    over_budget: bool = False
    """The run stopped because the budget is spent."""
    last_error: str = ""
    reused: int = 0
    """Answers that this run took from recorded calls."""


@dataclass(frozen=True, slots=True)
class _Rescore:
    """A stored answer, and the scorers that have not scored it."""

    request: ReplayRequest
    scorers: Mapping[str, RegisteredScorer]


@dataclass(slots=True)
class _Streaks:
    """Failures in a row of each target. A refusal counts only while the target has never answered: then the fault is in
    every request, and not in one row."""

    stop_after: int
    failures: dict[str, int] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)

    def take(self, answer: ReplayAnswer) -> None:
        """Raises ReplayStopped."""
        name = answer.target
        if answer.outcome == "ok":
            self.answered.add(name)
            self.failures[name] = 0
        elif answer.outcome != "refused" or name not in self.answered:
            self.failures[name] = self.failures.get(name, 0) + 1
            if self.failures[name] >= self.stop_after:
                raise ReplayStopped(
                    f"{self.failures[name]} requests to {name} failed in a row; the last error: {answer.error}"
                )


class ReplayRun:
    """One run of a job. watch: called after every answer."""

    def __init__(
        self,
        job: ReplayJob,
        store: ReplayStore,
        requester: Asks,
        scoring: AnswerScoring,
        watch: Callable[[ReplayProgress], None],
    ) -> None:
        self._job, self._store, self._requester, self._scoring, self._watch = job, store, requester, scoring, watch
        self.progress = ReplayProgress(job.total)
        self._streaks = _Streaks(job.pace.stop_after)
        self._results: asyncio.Queue[tuple[ReplayAnswer, ScoredExchange | None]] = asyncio.Queue(BATCH)
        self._turn = asyncio.Lock()

    async def run(self) -> ReplayProgress:
        """Runs until everything is answered and stored, or the budget is spent. Answers are stored however it ends.

        Raises CannotRun, its subclass ReplayStopped, StoreDown and WriteRejected.
        """
        self.progress.usd = await self._store.spent(self._job.name)
        todo = self._todo()
        async with Tasks() as tasks:
            writing = tasks.start(self._write(), "replay store")
            working = [tasks.start(self._work(todo), f"replay {i}") for i in range(self._job.pace.concurrency)]
            try:
                await _first_error([*working, writing])
            finally:
                for task in (*working, writing):
                    task.cancel()
                await asyncio.wait([*working, writing])
                await todo.aclose()
                await self._flush()
        return self.progress

    async def _work(self, todo: AsyncIterator[ReplayRequest | _Rescore]) -> Exception | None:
        try:
            while True:
                async with self._turn:
                    job = None if self._spent() else await anext(todo, None)
                if job is None:
                    return None
                await (self._rescore(job) if isinstance(job, _Rescore) else self._ask(job))
        except (CannotRun, StoreDown, WriteRejected) as error:
            return error

    def _spent(self) -> bool:
        """Requests in flight are still awaited, so at most `concurrency` answers exceed the budget."""
        budget = self._job.pace.budget_usd
        if budget is not None and self.progress.usd >= budget:
            self.progress.over_budget = True
        return self.progress.over_budget

    async def _ask(self, request: ReplayRequest) -> None:
        answer = await self._requester.ask(request)
        judged = await self._judge(request, answer, self._job.scorers) if answer.outcome == "ok" else None
        await self._results.put((answer, judged))
        self._count(request, answer)
        self._streaks.take(answer)

    async def _rescore(self, job: _Rescore) -> None:
        answer = await self._store.answer(job.request.answer_id)
        await self._results.put((answer, await self._judge(job.request, answer, job.scorers)))

    async def _judge(
        self, request: ReplayRequest, answer: ReplayAnswer, scorers: Mapping[str, RegisteredScorer]
    ) -> ScoredExchange:
        judged = subject(request, answer)
        results = await self._scoring.score(request, answer, judged, scorers)
        return ScoredExchange(judged.exchange, judged.completion, results)

    def _count(self, request: ReplayRequest, answer: ReplayAnswer) -> None:
        progress = self.progress
        progress.done += 1
        if answer.outcome != "ok":
            progress.failed += 1
            progress.last_error = plain(f"{answer.target}: {answer.error}")
        recorded = answer.exchange_id is not None and answer.exchange_id == request.item.exchange_id
        if answer.cost_usd is not None and not recorded:  # a recorded answer was paid for when it was recorded
            progress.usd += answer.cost_usd
        self._watch(progress)

    async def _write(self) -> Exception | None:
        while True:
            first = await self._results.get()
            try:
                await self._keep([first, *_waiting(self._results, BATCH - 1)])
            except (StoreDown, WriteRejected) as error:
                return error

    async def _keep(self, batch: list[tuple[ReplayAnswer, ScoredExchange | None]]) -> None:
        # Shielded: a cancelled replay stores the answers that it has paid for.
        await asyncio.shield(self._store.keep(self._job.name, batch, self._job.scorers))

    async def _flush(self) -> None:
        while batch := _waiting(self._results, BATCH):
            await self._keep(batch)

    async def _todo(self) -> AsyncGenerator[ReplayRequest | _Rescore]:
        for chunk in self._job.chunks(_CHUNK):
            known = await self._store.known(self._job.name, chunk[0].number, chunk[-1].number)
            for item, repeat, target in itertools.product(
                chunk, range(1, self._job.repeats + 1), self._job.design.targets
            ):
                left = self._left(item, target, repeat, known.get(ReplayKey(item.number, target.name, repeat)))
                if left is not None:
                    yield left

    def _left(
        self, item: DatasetItem, target: ReplayTarget, repeat: int, known: KnownAnswer | None
    ) -> ReplayRequest | _Rescore | None:
        request = self._job.request(item, target, repeat)
        if known is None or not known.ok:
            return request
        self.progress.before += 1
        self._streaks.answered.add(target.name)
        missing = {name: self._job.scorers[name] for name in known.lacks(self._job.scorers)}
        return _Rescore(request, missing) if missing else None


def _waiting(
    results: asyncio.Queue[tuple[ReplayAnswer, ScoredExchange | None]], most: int
) -> list[tuple[ReplayAnswer, ScoredExchange | None]]:
    return [results.get_nowait() for _ in range(min(most, results.qsize()))]


async def _first_error(tasks: list[asyncio.Task[Exception | None]]) -> None:
    """Returns when all tasks but the last, which runs forever, are done. Raises the first error that one returned."""
    working = tasks[:-1]
    pending = set(tasks)
    while pending & set(working):
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if (error := task.result()) is not None:
                raise error


def against(pairs: Mapping[str, RegisteredPair], control: str) -> dict[str, RegisteredPair]:
    """The scorers under identities of their own for this control: the same answer may be compared with several."""
    return {
        name: replace(r, config_hash=hashlib.sha256(f"{r.config_hash}:{control}".encode()).hexdigest()[:12])
        for name, r in pairs.items()
    }


@dataclass(frozen=True, slots=True)
class _UncomparedPair:
    """Two answers to one item, and the scorers that have not compared them."""

    control: ReplayRequest
    candidate: ReplayRequest
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class PairScoring:
    """One run over the stored answers of a job."""

    job: ReplayJob
    store: ReplayStore
    threads: ScoringThreads

    async def run(self) -> int:
        """The number of pairs that it scored. Raises StoreDown and WriteRejected."""
        done = 0
        if not self.job.pairs:
            return done
        for chunk in self.job.chunks(_PAIR_CHUNK):
            known = await self.store.known(self.job.name, chunk[0].number, chunk[-1].number)
            missing = [m for item in chunk for m in self._missing(item, known)]
            done += await self._score(missing)
        return done

    def _missing(self, item: DatasetItem, known: Mapping[ReplayKey, KnownAnswer]) -> Iterator[_UncomparedPair]:
        control, *candidates = self.job.design.targets
        for repeat, candidate in itertools.product(range(1, self.job.repeats + 1), candidates):
            one, other = (known.get(ReplayKey(item.number, t.name, repeat)) for t in (control, candidate))
            if one is None or other is None or not one.ok or not other.ok:
                continue
            if names := other.lacks(self.job.pairs):
                a, b = (self.job.request(item, target, repeat) for target in (control, candidate))
                yield _UncomparedPair(a, b, names)

    async def _score(self, missing: Sequence[_UncomparedPair]) -> int:
        """Scores and stores; what is done is stored also when this task is cancelled."""
        turn = asyncio.Semaphore(self.job.pace.concurrency)
        done: list[tuple[ReplayAnswer, ScoredExchange | None]] = []

        async def one(each: _UncomparedPair) -> None:
            async with turn:
                done.append(await self._compared(each))

        try:
            async with Tasks() as tasks:
                await asyncio.gather(*(tasks.start(one(each), "replay pair") for each in missing))
        finally:
            if done:
                await asyncio.shield(self.store.keep(self.job.name, done, self.job.pairs))
        return len(done)

    async def _compared(self, each: _UncomparedPair) -> tuple[ReplayAnswer, ScoredExchange]:
        control, candidate = each.control, each.candidate
        answers = [await self.store.answer(r.answer_id) for r in (control, candidate)]
        a, b = subject(control, answers[0]), subject(candidate, answers[1])
        results = await asyncio.gather(*(self._by(name, a.exchange.id, Pair(a, b)) for name in each.names))
        return answers[1], ScoredExchange(b.exchange, b.completion, results)

    async def _by(self, name: str, unit: str, pair: Pair) -> ScoreResult:
        registered = self.job.pairs[name]
        shown = replace(pair, first="a" if draw(f"first:{name}", unit + pair.b.exchange.id) < 0.5 else "b")
        return await run_scorer(name, registered, lambda: registered.scorer.compare(shown), self.threads, patient=True)
