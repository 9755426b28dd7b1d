"""The program behind `gateway score`: builds the chosen scorers and what they call, and runs until done or a signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from gateway.config.config import Config
from gateway.config.derive import prices_of
from gateway.config.scorers import ScorerConfig
from gateway.consumer.backfill import CONCURRENCY, Backfill, BackfillProgress
from gateway.consumer.entry_scoring import EntryScorer
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import CannotRun, ConfigError, StreamDown
from gateway.features.replay.gateway_choice import GatewayLocation, Say, reached, store_of
from gateway.runtime.embedded_redis import keep
from gateway.scoring.asker import ExternalServices
from gateway.scoring.http_client import GatewayClient, HttpConnections
from gateway.scoring.registry import BuiltScorers, RegisteredScorer, build_all, close_all
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.warnings import called_aliases, config_mistakes
from gateway.store.query import ExchangeFilter, reading
from gateway.store.store import Store, StoreDown, WriteRejected
from gateway.stream import Corridor


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    scorers: tuple[str, ...]
    """Names in the config's `scorers` section."""
    filter: ExchangeFilter
    """Which exchanges; its limit: at most this many, oldest first; 0: all."""


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
            with _stopped_by_signals(run):
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
    async with _ledger(sections, location) as ledger, HttpConnections() as connections, _client(
        aliases, location, connections, say
    ) as client:  # fmt: skip
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
    return built.single


@asynccontextmanager
async def _ledger(sections: Mapping[str, ScorerConfig], location: GatewayLocation) -> AsyncIterator[Corridor | None]:
    """The stream server, which has what each scorer has spent today in all processes. None: no scorer has a budget."""
    if all(s.budget_usd is None and s.budget_tokens is None for s in sections.values()):
        yield None
        return
    async with keep(location.config, location.data, None) as url:
        corridor = Corridor.of(location.config.stream, url)
        try:
            await corridor.ping()
            yield corridor
        except StreamDown as error:
            raise CannotRun(f"what the scorers have spent today is unknown: {error}") from error
        finally:
            await corridor.aclose()


@asynccontextmanager
async def _client(
    aliases: Sequence[str], location: GatewayLocation, connections: HttpConnections, say: Say
) -> AsyncIterator[GatewayClient | None]:
    """None: no scorer calls a model."""
    if not aliases:
        yield None
        return
    async with reached(location, aliases, say) as (gateway, _):
        yield GatewayClient(gateway.base_url, gateway.api_key, connections)


@contextmanager
def _stopped_by_signals(run: Backfill) -> Iterator[None]:
    """The first SIGINT or SIGTERM lets the exchanges in progress end; the second kills the process."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        run.stop()
        for each in signals:
            loop.remove_signal_handler(each)

    for each in signals:
        loop.add_signal_handler(each, stop)
    try:
        yield
    finally:
        for each in signals:
            loop.remove_signal_handler(each)
