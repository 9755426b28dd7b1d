"""`gateway evaluate --workers N`: consumers in processes of their own, under a parent that scores nothing.

The workers share nothing but the stream and the store, as consumers on several machines do. The parent runs the
embedded stream server if there is one, replaces workers that die, and serves one page of metrics for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from gateway import __version__
from gateway.config.config import Config
from gateway.config.environment import metrics_socket_environment
from gateway.consumer.serve import STOP_S, begin_process
from gateway.observability.eval_metrics import BLOCKED, FAILING_PARTS, WORKER_RESTARTS, WORKERS
from gateway.observability.metrics_server import metrics_server
from gateway.runtime.child import Child, gateway_argv
from gateway.runtime.embedded_redis import keep
from gateway.runtime.supervisor import Supervisor
from gateway.runtime.tasks import Tasks, on_first_signal

log = logging.getLogger("gateway")
_LOOPBACK = "127.0.0.1"
_ANSWER_S = 2.0  # for a worker's metrics
_HEALTH_S = 0.5  # for a worker's /health: probes wait a second for the parent's
_HUNG_S = 60.0  # without an answer, after which a worker is killed and replaced
_READY_S = 120.0  # it may migrate the store first


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """The command line of `gateway evaluate`."""

    config: Path
    data: Path
    metrics_port: int
    metrics_host: str = _LOOPBACK
    workers: int = 1


def run_workers(options: EvaluateOptions) -> None:
    """Scores until SIGINT or SIGTERM. Raises ConfigError for a config that cannot be used, and CannotRun for a port, or
    for workers that do not start."""
    asyncio.run(_run(begin_process(options.config), options))


async def _run(config: Config, options: EvaluateOptions) -> None:
    async with keep(config, options.data), contextlib.AsyncExitStack() as stack:
        listeners = [stack.enter_context(_bound()) for _ in range(options.workers)]
        supervisor, registry = Supervisor(), CollectorRegistry()
        registry.register(WorkersCollector([each.getsockname()[1] for each in listeners], lambda: supervisor.restarts))
        health = WorkersHealth([each.getsockname()[1] for each in listeners])
        stack.enter_context(metrics_server(registry, options.metrics_host, options.metrics_port, health))
        stopped = asyncio.Event()
        stack.enter_context(on_first_signal(stopped.set))
        try:
            children = [_child(n, listener, options) for n, listener in enumerate(listeners, 1)]
            await _started(supervisor, children, stopped)
            if not stopped.is_set():
                where = options.metrics_host, options.metrics_port
                log.info("scoring started by %d workers; metrics at http://%s:%d/metrics", len(children), *where)
                await stopped.wait()
        finally:
            await supervisor.aclose(together=True)
    log.info("scoring stopped; every entry in progress is stored")


async def _started(supervisor: Supervisor, children: Sequence[Child], stopped: asyncio.Event) -> None:
    """Returns when all are ready, or when it is time to stop. Raises ChildFailed."""

    async def start() -> None:
        await supervisor.start(children[0])  # alone: it migrates the store
        await asyncio.gather(*(supervisor.start(child) for child in children[1:]))

    async with Tasks() as tasks:
        starting, stopping = tasks.start(start(), "start of workers"), tasks.start(stopped.wait(), "stop of workers")
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()


def _child(n: int, listener: socket.socket, options: EvaluateOptions) -> Child:
    words = ("evaluate", "--config", str(options.config), "--data", str(options.data))
    port = listener.getsockname()[1]

    async def ready() -> bool:
        return await asyncio.to_thread(_scraped, port) is not None

    return Child(
        f"worker-{n}",
        gateway_argv(*words),
        ready,
        ready_s=_READY_S,
        hung_s=_HUNG_S,
        grace_s=STOP_S + 5,
        environ=metrics_socket_environment(listener.fileno()),
        pass_fds=(listener.fileno(),),
        replaced_when_killed=True,
        own_output=True,
    )


@contextlib.contextmanager
def _bound() -> Iterator[socket.socket]:
    """A socket on which a worker is to serve its metrics. Ours, so that the port stays the same after a restart."""
    with socket.socket() as listener:
        listener.bind((_LOOPBACK, 0))
        yield listener


class WorkersCollector(Collector):
    """The metrics of all workers. Their figures are those of the one store: they are taken from the first worker that
    answers, so that a counter does not go back between two scrapes. What is of each worker alone is merged.

    ports: of the workers on this machine.
    """

    def __init__(self, ports: Sequence[int], restarts: Callable[[], int]) -> None:
        self._ports = ports
        self._restarts = restarts

    def describe(self) -> Iterator[Metric]:
        """Describes itself without asking the workers, which have not started when this is registered."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        with ThreadPoolExecutor(len(self._ports)) as threads:
            texts = [text for text in threads.map(_scraped, self._ports) if text is not None]
        found = [list(text_string_to_metric_families(text)) for text in texts]
        highest = {
            name: _highest(family for families in found for family in families if family.name == name)
            for name in (BLOCKED, FAILING_PARTS)
        }
        own = {WORKERS: len(found), WORKER_RESTARTS: self._restarts()}
        for family in found[0] if found else [Metric(name, name, "gauge") for name in own]:
            if family.name in own:
                family.samples = [Sample(family.name, {}, float(own[family.name]))]
            yield highest.get(family.name) or family


class WorkersHealth:
    """The parent's answer at /health: the reasons of all workers, each with the number of workers that give it.

    ports: of the workers on this machine.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports

    def __call__(self) -> dict[str, Any]:
        with ThreadPoolExecutor(len(self._ports)) as threads:
            texts = threads.map(lambda port: _page(port, "/health", _HEALTH_S), self._ports)
            found = [_health_of(text) for text in texts]
        counts = Counter(reason for page in found for reason in page["reasons"])
        paused = next((page["paused"] for page in found if page["paused"]), "")
        of = len(self._ports)
        reasons = [f"{reason} (at {n} of {of} workers)" for reason, n in counts.items()]
        return {"status": "paused" if paused else "ok", "version": __version__, "paused": paused, "reasons": reasons}


def _health_of(text: str | None) -> dict[str, Any]:
    """The worker's page, or a page that says that it does not answer."""
    if text is None:
        return {"paused": "", "reasons": ["a worker does not answer: it is starting, or is busy"]}
    found: dict[str, Any] = orjson.loads(text)
    return found


def _highest(families: Iterator[Metric]) -> Metric | None:
    """A gauge of several workers: of each series the highest value."""
    first, highest = None, dict[tuple[tuple[str, str], ...], Sample]()
    for family in families:
        first = first or family
        for sample in family.samples:
            key = tuple(sorted(sample.labels.items()))
            highest[key] = max(highest.get(key, sample), sample, key=lambda each: each.value)
    if first is not None:
        first.samples = list(highest.values())
    return first


def _scraped(port: int) -> str | None:
    """A worker's metrics; None if it does not answer."""
    return _page(port, "/metrics", _ANSWER_S)


def _page(port: int, path: str, timeout_s: float) -> str | None:
    asking = http.client.HTTPConnection(_LOOPBACK, port, timeout=timeout_s)
    try:
        asking.request("GET", path)
        answer = asking.getresponse()
        return answer.read().decode() if answer.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        asking.close()
