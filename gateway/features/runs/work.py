"""Scores runs once they are quiet, and again if they continue. One consumer does it, under a lease; all state is in the
store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.config.types import OtelConfig
from gateway.core.errors import StreamDown
from gateway.core.randomization import draw
from gateway.core.score import ScoreResult
from gateway.features.feedback.implicit import ImplicitFeedback
from gateway.features.runs.reading import RecordedRun, read_run
from gateway.features.runs.rows import save_scores, summaries
from gateway.features.task import PeriodicWork, TaskContext, TaskWorker
from gateway.scoring.registry import RegisteredRun
from gateway.scoring.run import run_scorer
from gateway.scoring.threads import ScoringThreads
from gateway.store.engine import Transaction
from gateway.store.query import Found, Reading
from gateway.store.runs import due, note_scored, note_sent
from gateway.store.store import StoreDown

log = logging.getLogger(__name__)
LEASE = "runs"
SEVERAL = 3
"""Runs of one look which, if all of them fail, are not the cause of it."""


@dataclass(frozen=True, slots=True)
class RunTiming:
    """Schedule of the search for runs, and the age of the runs that it takes."""

    quiet_s: float = 300.0
    """Seconds without a call after which a run is scored."""
    every_s: float = 2.0
    """Interval between two searches."""
    keep_s: float = 120.0
    """A lease that is not renewed for this long may be taken over."""
    latest_s: float = 7 * 86_400.0
    """Runs that ended longer ago are not scored: a store may have had no scorer of runs for months."""
    most: int = 50
    """Runs of one look."""


@dataclass(frozen=True, slots=True)
class RunScorers:
    """The scorers of runs of one config."""

    scorers: Mapping[str, RegisteredRun]
    threads: ScoringThreads
    implicit: ImplicitFeedback | None = None
    """Reads what users say of a run; None if no language is configured."""

    async def results(self, found: RecordedRun) -> list[ScoreResult]:
        """The result of each scorer that sees the run, by a draw of its own for each run."""
        drawn = {
            name: of for name, of in self.scorers.items()
            if of.share >= 1 or draw(f"score:{of.drawn_as or name}", found.key) < of.share
        }  # fmt: skip
        if found.incomplete:
            return [_not_applicable(name, of, found.incomplete) for name, of in drawn.items()]
        calls = (self._result(name, of, found) for name, of in drawn.items())
        return list(await asyncio.gather(*calls))

    async def _result(self, name: str, of: RegisteredRun, found: RecordedRun) -> ScoreResult:
        return await run_scorer(name, of, lambda: of.scorer.score_run(found.subject), self.threads, patient=True)


def _not_applicable(name: str, of: RegisteredRun, need: str) -> ScoreResult:
    identity = (name, of.scorer.version, of.config_hash)
    return ScoreResult(*identity, "not_applicable", None, need, 0.0, min(of.share, 1.0))


class SpansOfRuns(Protocol):
    """Exporter of the spans of runs; its SDK is imported only if there is a collector."""

    def emit(self, run: Found) -> None: ...

    def close(self) -> None: ...


class RunScoring:
    """Scores the runs of a store, and sends their spans."""

    def __init__(
        self, worker: TaskWorker, scorers: RunScorers, timing: RunTiming, spans: SpansOfRuns | None = None
    ) -> None:
        """spans: None if there is no collector."""
        self._worker, self._store, self._clock = worker, worker.store, worker.clock
        self._scorers, self._timing, self._spans = scorers, timing, spans
        self._failures: dict[str, int] = {}  # by run

    def periodic(self) -> PeriodicWork:
        return PeriodicWork(self.step, self._timing.every_s, pause_s=self._pause_s, close=self._close)

    def _pause_s(self, scored: int | None, _: float) -> float:
        return 0.0 if scored == self._timing.most else self._timing.every_s

    async def _close(self) -> None:
        if self._spans is not None:
            self._spans.close()

    async def step(self) -> int:
        """Scores the runs that are due. Returns their number; 0 where another consumer holds the lease."""
        if not await self._holds():
            return 0
        found = await self._store.look(self._due)
        errors = []
        for run_id, last_at in found:
            try:
                await self._score(run_id, last_at)
            except (StreamDown, StoreDown):
                raise
            except Exception as error:  # what callers sent in one run must not keep the others from being scored
                errors.append(error)
                await self._set_aside(run_id, last_at, error)
            if not await self._holds():
                break
        if len(errors) == len(found) >= SEVERAL:
            raise errors[-1]
        return len(found)

    async def _set_aside(self, run_id: str, last_at: float, error: Exception) -> None:
        """Leaves a run without scores after it has failed a few times."""
        self._failures[run_id] = tries = self._failures.get(run_id, 0) + 1
        if tries < self._worker.isolated.limits.tries:
            return
        log.error("a run cannot be scored, and is left without scores: run=%s", run_id, exc_info=error)
        del self._failures[run_id]
        await self._store.run(lambda connection: note_scored(connection, run_id, last_at, None))

    async def _holds(self) -> bool:
        return await self._worker.leads(LEASE, self._timing.keep_s)

    def _due(self, connection: Reading) -> list[tuple[str, float]]:
        now, timing = self._clock(), self._timing
        return due(connection, now - timing.quiet_s, now - timing.latest_s, timing.most)

    async def _score(self, run_id: str, last_at: float) -> None:
        if self._scorers.scorers:
            await self._store_scores(run_id, last_at)
        else:
            await self._store.run(lambda connection: note_sent(connection, run_id, last_at))
        if self._spans is not None:
            for run in (await self._store.look(lambda connection: summaries(connection, [run_id]))).values():
                self._spans.emit(run)

    async def _store_scores(self, run_id: str, last_at: float) -> None:
        found = await self._store.look(lambda connection: read_run(connection, run_id, self._scorers.implicit))
        results: Sequence[ScoreResult] = () if found is None else await self._scorers.results(found)

        def saving(connection: Transaction) -> None:
            if found is not None:
                run = (run_id, found.stored_place())
                save_scores(connection, *run, self._scorers.scorers, results, self._clock())
            note_scored(connection, run_id, last_at, None if found is None else found.place.id)

        await self._store.run(saving)


def run_scoring(of: TaskContext) -> PeriodicWork | None:
    """The task of a consumer; None if the config has no scorer of runs, and no collector of spans."""
    if not of.scorers.runs and of.config.otel is None:
        return None
    languages = of.config.feedback.implicit
    scorers = RunScorers(of.scorers.runs, of.threads, ImplicitFeedback(languages) if languages else None)
    timing = RunTiming(quiet_s=of.config.runs.quiet_s)
    return RunScoring(of.worker, scorers, timing, _spans(of.config.otel)).periodic()


def _spans(otel: OtelConfig | None) -> SpansOfRuns | None:
    if otel is None:
        return None
    from gateway.features.runs.spans import RunSpans

    return RunSpans(otel)
