"""`gateway score`: runs scorers of the config on exchanges that are stored already. It may be stopped at any time; the
next run continues.

A result is stored under the same identity as the consumer's, so both may run at the same time: what one has scored, the
other leaves alone. A scorer whose budget is spent, or that is blocked, is set aside, and nothing of that is stored.
`score_stored` builds the chosen scorers and what they call, and runs until done or a signal.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from gateway.config.config import Config
from gateway.config.derive import outside_egress, prices_of
from gateway.config.scorers import ScorerConfig
from gateway.consumer.entry_scoring import EntryScorer
from gateway.core.chunked import chunked
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import CannotRun, ConfigError, StreamDown
from gateway.core.randomization import draw
from gateway.core.score import ScoreResult
from gateway.features.gateway_choice import GatewayLocation, Say, reached, store_of
from gateway.runtime.embedded_redis import keep
from gateway.runtime.tasks import Tasks, on_first_signal
from gateway.scoring.asker import ExternalServices
from gateway.scoring.http_client import GatewayClient, HttpConnections
from gateway.scoring.registry import BuiltScorers, RegisteredScorer, build_all, close_all
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.warnings import called_aliases, config_mistakes
from gateway.store.missing_scores import (
    Cell,
    Place,
    StoredExchange,
    StoredPlace,
    add_late_scores,
    cell_of,
    complete_population,
    places,
    stored_exchanges,
)
from gateway.store.query import ExchangeFilter, reading
from gateway.store.rows import ScoredExchange, score_id_of
from gateway.store.store import Store, StoreDown, WriteRejected
from gateway.stream import Corridor

_BATCH = 64  # exchanges per transaction
CONCURRENCY = 16  # exchanges that are scored at the same time


@dataclass(slots=True)
class BackfillProgress:
    total: int = 0
    """Exchanges of the filter that lack a score."""
    done: int = 0
    without_bodies: int = 0
    """Exchanges of the filter whose texts retention has removed."""
    stored: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Results by scorer and status."""
    usd: float = 0.0
    set_aside: dict[str, str] = field(default_factory=dict)
    """Scorers that this run stopped asking, and why."""
    stopped: bool = False

    @property
    def complete(self) -> bool:
        return not self.set_aside and not self.stopped


@dataclass(frozen=True, slots=True)
class _Missing:
    """An exchange, and the names of the scorers that it lacks."""

    id: str
    names: tuple[str, ...]


class Backfill:
    """One backfill run. `watch` is called after every exchange."""

    def __init__(
        self,
        store: Store,
        scorers: Mapping[str, RegisteredScorer],
        scoring: EntryScorer,
        watch: Callable[[BackfillProgress], None] = lambda _: None,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._store, self._scorers, self._scoring = store, scorers, scoring
        self._watch, self._concurrency = watch, concurrency
        self._remaining: Counter[Cell] = Counter()
        self._cells: set[Cell] = set()
        self.progress = BackfillProgress()

    def stop(self) -> None:
        """Makes run() return once the exchanges in progress are scored and stored."""
        self.progress.stopped = True

    async def run(self, filter: ExchangeFilter) -> BackfillProgress:
        """Scores at most `filter.limit` exchanges, the oldest first; 0 means all.

        Raises QueryError, StoreDown and WriteRejected.
        """
        until, progress = time.time(), self.progress
        async for page in self._pages(filter, until, selected_only=False):
            self._count(page)
        progress.total = min(progress.total, filter.limit or progress.total)
        left = progress.total
        async for page in self._pages(filter, until, selected_only=True):
            missing = [m for p in page if p.readable and (m := self._lacking(p)).names][:left]
            left -= len(missing)
            for batch in chunked(missing, _BATCH):
                if self._over():
                    return progress
                await self._score(batch)
        done = self._cells - self._remaining.keys()
        await self._store.run(lambda connection: complete_population(connection, done))
        return progress

    def _over(self) -> bool:
        return self.progress.stopped or len(self.progress.set_aside) == len(self._scorers)

    async def _pages(
        self, filter: ExchangeFilter, until: float, *, selected_only: bool
    ) -> AsyncIterator[list[StoredPlace]]:
        """Reads each page in a transaction of its own, so that hours of judging hold no snapshot of the database."""
        after: Place | None = None
        of = partial(places, filter=filter, until=until, selected_only=selected_only)
        while page := await self._store.look(partial(of, after=after)):
            yield page
            after = page[-1].received, page[-1].id

    def _count(self, page: Sequence[StoredPlace]) -> None:
        """Counts the results that each cell lacks, inside and outside the filter, and the exchanges of this run."""
        for each in page:
            names = self._lacking(each).names
            if each.readable:
                self._cells.update(cell_of(name, r, each.place) for name, r in self._scorers.items())
                self._remaining.update(cell_of(name, self._scorers[name], each.place) for name in names)
            self.progress.total += bool(each.selected and each.readable and names)
            self.progress.without_bodies += bool(each.selected and not each.readable and names)

    def _lacking(self, stored: StoredPlace) -> _Missing:
        """The scorers that would have seen the exchange, and have no settled result of it."""
        names = (
            name
            for name, r in self._scorers.items()
            if name not in stored.decided
            and (r.share >= 1 or draw(f"score:{r.drawn_as or name}", stored.unit) < r.share)
            and score_id_of(stored.id, name, r.scorer.version, r.config_hash) not in stored.settled
        )
        return _Missing(stored.id, tuple(names))

    async def _score(self, batch: Sequence[_Missing]) -> None:
        """Scores the exchanges and stores what is done, also when this task is cancelled meanwhile."""
        names = {each.id: each.names for each in batch}
        read = await self._store.look(lambda connection: stored_exchanges(connection, list(names)))
        todo = iter(read)
        done: list[ScoredExchange] = []

        async def work() -> None:
            for each in todo:  # shared by all workers
                if self._over():
                    return
                if scored := await self._one(each, names[each.exchange.id]):
                    done.append(scored)
                self.progress.done += 1
                self._watch(self.progress)

        try:
            async with Tasks() as tasks:
                await asyncio.gather(*(tasks.start(work(), f"score {i}") for i in range(self._concurrency)))
        finally:
            await asyncio.shield(self._keep(done))

    async def _one(self, stored: StoredExchange, names: Sequence[str]) -> ScoredExchange | None:
        wanted = [name for name in names if name not in self.progress.set_aside]
        judged = await self._scoring.score_stored(stored.exchange, stored.cost_usd, wanted)
        kept = [r for r in judged.results if not self._sets_aside(r)]
        return replace(judged, results=kept) if kept else None

    def _sets_aside(self, result: ScoreResult) -> bool:
        """Tells whether the result says nothing about the exchange, because its scorer may not or cannot run now."""
        gate = self._scorers[result.scorer].gate
        blocked = gate is not None and gate.reason is not None
        if result.status == "budget" or (blocked and result.status in ("error", "timeout")):
            reason = gate.reason if gate is not None and blocked else result.explanation
            self.progress.set_aside.setdefault(result.scorer, reason or "")
            return True
        return False

    async def _keep(self, done: Sequence[ScoredExchange]) -> None:
        if not done:
            return
        now = time.time()
        added = await self._store.run(
            lambda connection: add_late_scores(connection, done, self._scorers, self._remaining, now)
        )
        self._remaining -= added.new + added.present
        for each in done:
            for r in each.results:
                self.progress.stored[r.scorer, r.status] += 1
                self.progress.usd += (r.spent.cost_usd or 0.0) if r.spent else 0.0


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    scorers: tuple[str, ...]
    """Names in the config's `scorers` section."""
    filter: ExchangeFilter
    """Selects the exchanges; its limit: at most this many, oldest first; 0: all."""


async def score_stored(
    request: ScoreRequest, location: GatewayLocation, say: Say, watch: Callable[[BackfillProgress], None]
) -> BackfillProgress:
    """Scores what the exchanges of the filter lack. SIGINT and SIGTERM end it once what is in progress is stored.

    Raises ConfigError, QueryError and CannotRun.
    """
    sections = _sections(request.scorers, location.config)
    url = store_of(location)
    with reading(url):  # raises StoreUnavailable: an empty store is not created
        pass
    threads = ScoringThreads()
    try:
        async with _built(sections, location, say) as scorers, Store(url) as store:
            scoring = EntryScorer(scorers, threads, prices_of(location.config))
            at_once = max([CONCURRENCY, *(s.concurrency or 0 for s in sections.values())])
            run = Backfill(store, scorers, scoring, watch, at_once)
            say("looking for calls that lack a score")
            with on_first_signal(run.stop):  # the exchanges in progress end
                return await run.run(request.filter)
    except (StoreDown, WriteRejected) as error:
        raise CannotRun(f"{error}. The same command continues from what is stored") from error
    finally:
        threads.close()


def _sections(names: Sequence[str], config: Config) -> dict[str, ScorerConfig]:
    unknown = [n for n in names if n not in config.scorers]
    if unknown:
        known = f"; configured: {', '.join(config.scorers) or 'none'}"
        raise ConfigError(
            [f'--scorers: no scorer "{n}" in the config{did_you_mean(n, config.scorers) or known}' for n in unknown]
        )
    return {name: config.scorers[name] for name in names}


@asynccontextmanager
async def _built(
    sections: Mapping[str, ScorerConfig], location: GatewayLocation, say: Say
) -> AsyncIterator[dict[str, RegisteredScorer]]:
    """The scorers, with a gateway for those that call one and the shared sums for those that have a budget."""
    needed = _single(build_all(sections, ExternalServices(HttpConnections(), directory=location.path.parent)))
    aliases = list(dict.fromkeys(alias for _, alias in called_aliases(BuiltScorers(needed, {}))))
    if wrong := config_mistakes(location.config, BuiltScorers(needed, {})):
        raise ConfigError(wrong)
    async with (
        _ledger(sections, location) as ledger,
        HttpConnections(egress=outside_egress(location.config)) as connections,
        _client(aliases, location, connections, say) as client,
    ):
        prices = prices_of(location.config)
        built = build_all(
            sections,
            ExternalServices(connections, client, prices, ledger.state if ledger else None, location.path.parent),
        )
        try:
            yield _single(built)
        finally:
            await close_all(built)


def _single(built: BuiltScorers) -> dict[str, RegisteredScorer]:
    if built.pairs:
        names = ", ".join(built.pairs)
        raise ConfigError([f"--scorers: {names}: compares the two answers of a pair, which only an experiment has"])
    if built.runs:
        names = ", ".join(built.runs)
        raise ConfigError([f"--scorers: {names}: scores whole runs, which `gateway evaluate` does once they are quiet"])
    return built.single


@asynccontextmanager
async def _ledger(sections: Mapping[str, ScorerConfig], location: GatewayLocation) -> AsyncIterator[Corridor | None]:
    """The stream server, which has what each scorer has spent today in all processes. None if no scorer has a
    budget.
    """
    if all(s.budget_usd is None and s.budget_tokens is None for s in sections.values()):
        yield None
        return
    stream = location.config.stream
    async with keep(location.config, location.data, None) as url, aclosing(Corridor.of(stream, url)) as corridor:
        try:
            await corridor.ping()
            yield corridor
        except StreamDown as error:
            raise CannotRun(f"what the scorers have spent today is unknown: {error}") from error


@asynccontextmanager
async def _client(
    aliases: Sequence[str], location: GatewayLocation, connections: HttpConnections, say: Say
) -> AsyncIterator[GatewayClient | None]:
    """Opens a client of the gateway; None if no scorer calls a model."""
    if not aliases:
        yield None
        return
    async with reached(location, aliases, say) as (gateway, _):
        yield GatewayClient(gateway.base_url, gateway.api_key, connections)
