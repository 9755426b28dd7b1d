"""`gateway ingest`: stores imported calls with the scores of all scorers that call no model. No gateway need run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.config.scorers import ScorerConfig
from gateway.consumer.entry_scoring import EntryScorer
from gateway.core.chunked import chunked
from gateway.core.errors import CannotRun
from gateway.core.exchange import Exchange
from gateway.runtime.tasks import on_first_signal
from gateway.scoring.asker import ExternalServices
from gateway.scoring.http_client import HttpConnections
from gateway.scoring.registry import DEFAULTS, RegisteredScorer, build_all, close_all
from gateway.scoring.threads import ScoringThreads
from gateway.store.store import Store, StoreDown, WriteRejected
from gateway.store.write import ScoredBatch

_BATCH = 128  # calls of one transaction


@dataclass(slots=True)
class IngestResult:
    done: int = 0
    new: int = 0
    """Calls stored; the others were there already."""
    scored: Counter[str] = field(default_factory=Counter)
    """Scores by scorer, of the new calls and the old."""
    waiting: tuple[str, ...] = ()
    """Scorers that call a model, which `gateway score` runs."""
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class IngestTarget:
    """Destination of imported calls."""

    store: str
    """URL of the store."""
    scorers: Mapping[str, ScorerConfig]
    """Sections of the config; {}: the default scorers."""
    directory: Path = Path()
    """The directory that file names in the config are relative to."""


async def ingest(calls: Iterable[Exchange], target: IngestTarget, watch: Callable[[int], None]) -> IngestResult:
    """Stores the calls, each once, however often it is read. SIGINT and SIGTERM end it after the batch in progress.

    watch: called with the number of calls that are done. Raises CannotRun; what was stored stays, and the same command
    continues.
    """
    result = IngestResult()

    def stop() -> None:
        result.stopped = True

    threads = ScoringThreads()
    try:
        async with _built(target) as (scorers, waiting), Store(target.store) as store:
            result.waiting = waiting
            scoring = EntryScorer(scorers, threads)
            with on_first_signal(stop):
                for batch in chunked(calls, _BATCH):
                    if result.stopped:
                        break
                    await _keep(batch, scoring, store, result)
                    watch(result.done)
    except (StoreDown, WriteRejected) as error:
        raise CannotRun(f"{error}. The same command continues from what is stored") from error
    finally:
        threads.close()
    return result


async def _keep(batch: list[Exchange], scoring: EntryScorer, store: Store, result: IngestResult) -> None:
    judged = await asyncio.gather(*(scoring.score_stored(each, None, scoring.scorers) for each in batch))
    written = await store.write(ScoredBatch(scoring.scorers, judged))
    result.done += len(batch)
    result.new += written.new
    for each in judged:
        result.scored.update(r.scorer for r in each.results if r.status == "scored")


@asynccontextmanager
async def _built(target: IngestTarget) -> AsyncIterator[tuple[dict[str, RegisteredScorer], tuple[str, ...]]]:
    """The scorers that call no model, and the names of those that do."""
    sections = dict(target.scorers) or {name: ScorerConfig() for name in DEFAULTS}
    async with HttpConnections() as connections:
        built = build_all(sections, ExternalServices(connections, directory=target.directory))
        try:
            local = {name: each for name, each in built.single.items() if not each.waits}
            yield local, tuple(name for name in built.single if name not in local)
        finally:
            await close_all(built)
