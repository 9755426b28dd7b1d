"""The program behind `gateway evaluate`: builds one consumer and runs it until a signal.

A changed gateway.yaml is read again, and applied completely or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from gateway import __version__
from gateway.config.changes import changes
from gateway.config.config import Config
from gateway.config.derive import outside_egress, prices_of
from gateway.config.environment import debuggable, metrics_socket, resolve_evals
from gateway.config.extras import OF_CONSUMER, require_extras
from gateway.config.loading import file_stamp, load_for_consumer
from gateway.consumer.consumer import Consumer, ConsumerContext, ConsumerTiming
from gateway.consumer.entry_scoring import EntryScorer
from gateway.consumer.gauges import Gauges
from gateway.core.backoff import Backoff
from gateway.core.errors import ConfigError
from gateway.core.reasons import on_page, one_line
from gateway.features import FEATURES, all_extras
from gateway.features.consumer_report import ConsumerReport
from gateway.features.hooks import HookMaker, Hooks, joined
from gateway.features.isolation import IsolatedWork, Work
from gateway.features.manifest import Manifest, load
from gateway.features.task import MadeTask, TaskContext, TaskMaker, keep_working
from gateway.observability import logging as log_format
from gateway.observability.eval_metrics import EvalFigures, EvalMetrics
from gateway.observability.label_history import LabelHistory
from gateway.observability.metrics_server import Health, inherited_metrics_server, metrics_server
from gateway.runtime.confinement import hide_memory
from gateway.runtime.embedded_redis import keep
from gateway.runtime.tasks import Tasks, on_first_signal
from gateway.scoring.asker import ExternalServices
from gateway.scoring.budget import BudgetLedger
from gateway.scoring.http_client import GatewayClient, HttpConnections
from gateway.scoring.registry import BuiltScorers, build_all, close_all
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.warnings import config_mistakes, config_warnings
from gateway.store.engine import StoreUnreachable
from gateway.store.location import default_url
from gateway.store.retention import RetentionLimits
from gateway.store.store import Store, StoreDown
from gateway.stream import Corridor

log = logging.getLogger("gateway")

CHECK_S = 1.0  # between two checks of the file


class ConfigWatch:
    """The file of the config in force. A file that is refused leaves that config in force."""

    def __init__(
        self,
        path: Path,
        config: Config,
        load: Callable[[Path], Config] = load_for_consumer,
        check_s: float = CHECK_S,
    ) -> None:
        """Looks at the file. config: as it was read from there."""
        self._path = path
        self._config = config
        self._load = load
        self._check_s = check_s
        self._seen = self._stamps()
        self._asked = asyncio.Event()
        self.refused = ""
        """Reason why the newest file is not in force; "" if it is."""

    async def changed(self) -> Config:
        """Waits for another config that can be read: looks at the file each second, and at once on SIGHUP."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # no signals in this thread
            loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._check_s):
                    await self._asked.wait()
            stamps = self._stamps()
            if stamps == self._seen and not self._asked.is_set():
                continue
            self._seen = stamps
            self._asked.clear()
            if (config := await self._read()) is not None:
                return config

    async def _read(self) -> Config | None:
        """Reads the changed config; None if it is refused, or has the same content."""
        try:
            config = await asyncio.to_thread(self._load, self._path)
        except ConfigError as error:
            self.refuse(error)
            return None
        self.refused = ""
        if config.digest == self._config.digest:
            return None
        self._config = config
        return config

    def refuse(self, error: ConfigError) -> None:
        """Notes that the newest config cannot be used."""
        log.error("the new config is refused; the previous one stays in force:\n%s", error)
        self.refused = one_line(error)

    def _stamps(self) -> dict[Path, tuple[int, int]]:
        """Returns the times of change of the file and of those that belong to it."""
        return {path: file_stamp(path) for path in (self._path, *self._config.secret_files)}


if TYPE_CHECKING:
    from gateway.consumer.otel_events import ScoreEvents

STOP_S = 25
"""The time that entries in progress have to be stored: less than the 30 s after which service managers kill."""
_AGAIN = Backoff(first_s=0.2, most_s=5.0)  # between tries to open the store


def begin_process(config_path: Path) -> Config:
    """Reads the config, and sets up the log and the protection of this process's memory. Raises ConfigError."""
    config = load_for_consumer(config_path)
    require_extras(config, (*OF_CONSUMER, *all_extras()))
    log_format.begin(config.log)
    if not debuggable():
        hide_memory()
    return config


def run(config_path: Path, metrics_port: int, data: Path, metrics_host: str = "127.0.0.1") -> None:
    """Scores until SIGINT or SIGTERM. Raises ConfigError for a config that cannot be used, CannotRun for a port."""
    config = begin_process(config_path)
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # records hold no cycles; looking for some costs about 5 %

    async def watched() -> None:
        watch = ConfigWatch(config_path, config)
        await evaluate(config, data, metrics_port, metrics_host, config_path.parent, watch)

    asyncio.run(watched())


async def evaluate(
    config: Config,
    data: Path,
    metrics_port: int,
    metrics_host: str = "127.0.0.1",
    directory: Path = Path(),
    watch: ConfigWatch | None = None,
) -> None:
    """Scores inside a running event loop. directory: relative paths in the config start here. watch: puts a changed
    config in force between two consumers; None means that it is not read again."""
    registry, history = CollectorRegistry(), LabelHistory()
    current: Config | None = config
    working: Config | None = None
    running: list[Consumer] = []
    with ExitStack() as served:
        async with keep(config, data) as url:
            while current is not None:
                resolved = _resolved(current, config, data)
                try:
                    store = resolved.store.url or default_url(data)
                    async with opened(
                        resolved, store, url, registry, directory, watch=watch, history=history
                    ) as consumer:
                        running[:] = [consumer]
                        if working is None:
                            health = partial(_health, running)
                            served.enter_context(_metrics(registry, metrics_host, metrics_port, health))
                        working, current = current, await _run(consumer, watch)
                except ConfigError as error:
                    if watch is None or working is None or working is current:
                        raise
                    watch.refuse(error)
                    current = working
                else:
                    if current is not None:
                        log.info("config reloaded (%s): %s", current.digest, changes(working, current))
    if running and running[0].paused:
        log.warning("scoring stopped while it was paused; entries stay in the stream: %s", running[0].paused)
    else:
        log.info("scoring stopped; every entry in progress is stored")


def _resolved(config: Config, begun: Config, data: Path) -> Config:
    """The config as a consumer takes it. begun: the one of the program's start, whose stream server is kept."""
    require_extras(config, (*OF_CONSUMER, *all_extras()))
    if config.stream != begun.stream:
        log.warning("changed settings that need a restart to take effect: stream")
    return config.model_copy(update={"evals": resolve_evals(config.evals, data), "stream": begun.stream})


def _health(running: Sequence[Consumer]) -> dict[str, Any]:
    """The answer of /health. running: the consumer that works with the newest config."""
    paused = running[0].paused
    reasons = on_page(running[0].reasons(), causes=True)
    return {"status": "paused" if paused else "ok", "version": __version__, "paused": paused, "reasons": reasons}


@contextmanager
def _metrics(registry: CollectorRegistry, host: str, port: int, health: Health) -> Iterator[None]:
    inherited = metrics_socket()
    server = (
        metrics_server(registry, host, port, health)
        if inherited is None
        else inherited_metrics_server(registry, inherited, health)
    )
    with server:
        if inherited is None:
            log.info("scoring started; metrics at http://%s:%d/metrics", host, port)
        yield


async def _run(consumer: Consumer, watch: ConfigWatch | None) -> Config | None:
    """Runs it until a signal, or until there is another config, which is returned."""
    found: list[Config] = []

    async def follow(watch: ConfigWatch) -> None:
        found.append(await watch.changed())
        consumer.stop()

    with _stopped_by_signals(consumer) as stopped:
        async with Tasks() as tasks:
            if watch is not None:
                tasks.start(follow(watch), "config")
            await consumer.run()
        return found[0] if found and not stopped else None


@asynccontextmanager
async def opened(
    config: Config,
    store: str,
    stream: str,
    registry: CollectorRegistry,
    directory: Path = Path(),
    timing: ConsumerTiming | None = None,
    watch: ConfigWatch | None = None,
    history: LabelHistory | None = None,
) -> AsyncIterator[Consumer]:
    """A consumer with everything it needs. Waits for a store that cannot be reached.

    store, stream: URLs. timing: None: the default, with the config's claim_idle_s. watch: of the config, for the
    heartbeat. history: the metrics' labels of earlier configs; None if there were none. Raises ConfigError.
    """
    timing = timing or ConsumerTiming(claim_idle_ms=round(config.stream.claim_idle_s * 1000))
    threads = ScoringThreads()
    corridor = Corridor.of(config.stream, stream)
    built = BuiltScorers({}, {})
    try:
        async with (
            outside_of(config, corridor.state, directory) as outside,
            _reached(store, config) as opened_store,
            AsyncExitStack() as stack,
        ):
            built = build_all(config.scorers, outside)
            _warn(config, built)
            name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
            metrics = EvalMetrics(registry)
            stack.callback(registry.unregister, metrics)
            tasks = await stack.enter_async_context(Tasks())
            isolated = IsolatedWork(tasks)
            work = TaskContext(
                config, opened_store, corridor, outside.connections, built, threads, name, isolated=isolated
            )
            work = replace(
                work,
                config_refused=lambda: watch.refused if watch else "",
                after_step=[load(entry) for feature in FEATURES for entry in feature.after_step],
                rescore=EntryScorer(built.single, threads, prices_of(config)).score_again,
            )
            hooks = hooks_of(FEATURES, work)
            started = time.time()
            context = replace(
                _context(work, hooks, metrics, history),
                events=stack.enter_context(_events(config)),
                report=lambda: ConsumerReport(
                    config=config.digest,
                    config_refused=work.config_refused(),
                    started=started,
                    store=opened_store.writes.why,
                ),
            )
            sources = [load(entry) for feature in FEATURES for entry in feature.notices]
            start_work(
                tasks,
                FEATURES,
                replace(work, figures=lambda: hooks.with_current(EvalFigures()).experiments, notice_sources=sources),
            )
            for task, make in hooks.tasks.items():
                tasks.start(keep_working(task, make, isolated), task)
            yield Consumer(context, name, timing)
    finally:
        await close_all(built)
        threads.close()
        await corridor.aclose()


def _context(work: TaskContext, hooks: Hooks, metrics: EvalMetrics, history: LabelHistory | None) -> ConsumerContext:
    built = work.scorers
    return ConsumerContext(
        work.corridor,
        work.store,
        built.single,
        EntryScorer(built.single, work.threads, prices_of(work.config), hooks),
        Gauges(work.config, built.single, {**built.pairs, **built.runs}, history),
        metrics,
        hooks=hooks,
        isolated=work.isolated,
    )


def hooks_of(features: Iterable[Manifest], context: TaskContext) -> Hooks:
    makers: list[HookMaker] = [load(feature.hooks) for feature in features if feature.hooks]
    return joined(make(context) for make in makers)


def start_work(tasks: Tasks, features: Iterable[Manifest], work: TaskContext) -> None:
    """Starts the features' work that runs alongside the consumer, each task with a store of its own budget."""
    for task in (task for feature in features for task in feature.tasks):
        progress = partial(work.isolated.progress, Work(task.name))
        own = replace(work, store=work.store.bounded(work.isolated.limits.queries, progress))
        tasks.start(keep_working(task.name, partial(_made, task.entry, own), work.isolated), task.name)


def _made(entry: str, work: TaskContext) -> MadeTask:
    make: TaskMaker = load(entry)
    return make(work)


@asynccontextmanager
async def _reached(url: str, config: Config) -> AsyncIterator[Store]:
    """The store, once it can be reached. Raises StoreUnavailable where waiting does not help."""
    tries = 0
    while True:
        store = Store(url, retention=RetentionLimits.of(config.store))
        try:
            await store.__aenter__()
            break
        except (StoreUnreachable, StoreDown) as error:
            tries += 1
            if tries == 1:
                log.error("the store cannot be opened, so nothing is scored: %s; retrying", error)
        await asyncio.sleep(_AGAIN.wait_s(tries))
    try:
        yield store
    finally:
        await store.__aexit__()


@contextmanager
def _events(config: Config) -> Iterator[ScoreEvents | None]:
    if config.otel is None:
        yield None
        return
    # Its SDK is imported only if events are configured.
    from gateway.consumer.otel_events import ScoreEvents

    events = ScoreEvents(config.otel)
    try:
        yield events
    finally:
        events.close()


@asynccontextmanager
async def outside_of(config: Config, ledger: BudgetLedger | None, directory: Path) -> AsyncIterator[ExternalServices]:
    """The clients that this config's scorers call with. ledger: of their budgets; None: one of this process alone."""
    evals = config.evals
    async with HttpConnections(egress=outside_egress(config)) as connections:
        client = GatewayClient(evals.base_url, evals.api_key, connections) if evals.base_url else None
        yield ExternalServices(connections, client, prices_of(config), ledger, directory)


def _warn(config: Config, built: BuiltScorers) -> None:
    """Raises ConfigError for judges without a gateway to call."""
    wrong = config_mistakes(config, built, gateway_known=config.evals.base_url is not None)
    if wrong:
        raise ConfigError(wrong)
    for caution in config_warnings(config, built):
        log.warning("%s", caution)


@contextmanager
def _stopped_by_signals(consumer: Consumer) -> Iterator[list[asyncio.TimerHandle]]:
    """Yields a list that is not empty once a signal has come.

    The first SIGINT or SIGTERM finishes the entries in progress; the second ends the process at once, and so does a
    store or a scorer that keeps the first waiting for `STOP_S`.
    """
    late: list[asyncio.TimerHandle] = []

    def stop() -> None:
        consumer.stop()
        late.append(asyncio.get_running_loop().call_later(STOP_S, _give_up))

    try:
        with on_first_signal(stop):
            yield late
    finally:
        for timer in late:
            timer.cancel()


def _give_up() -> None:
    """A thread that waits for the store cannot be cancelled, and the interpreter would wait for it."""
    log.error("entries in progress were not stored within %d s; another consumer takes them over", STOP_S)
    logging.shutdown()
    os._exit(1)
