"""The program of room 2: `gateway evaluate`."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server

from gateway.config import Config, load
from gateway.embedded import keep
from gateway.evals.consumer import Consumer, Desk
from gateway.evals.entries import Judge
from gateway.evals.gauges import Gauges
from gateway.evals.scorers.registry import build
from gateway.evals.scorers.threads import Threads
from gateway.evals.store.engine import default_url
from gateway.evals.store.store import Store
from gateway.metrics import EvalMetrics
from gateway.programs import CannotRun
from gateway.stream import Corridor

log = logging.getLogger("gateway")


def run(config_path: Path, metrics_port: int, data: Path, metrics_host: str = "127.0.0.1") -> None:
    """Scores until SIGINT or SIGTERM. Raises ConfigError for a config that cannot be used, CannotRun for a port."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # records hold no cycles; looking for some costs about 5 %
    asyncio.run(evaluate(load(config_path), data, metrics_port, metrics_host))


async def evaluate(config: Config, data: Path, metrics_port: int, metrics_host: str = "127.0.0.1") -> None:
    """The same, inside a loop that runs."""
    registry = CollectorRegistry()
    async with (
        keep(config, data) as url,
        opened(config, config.store.url or default_url(data), url, registry) as consumer,
    ):
        with _metrics(registry, metrics_host, metrics_port), _stopped_by_signals(consumer):
            log.info("scoring what comes; metrics at http://%s:%d/metrics", metrics_host, metrics_port)
            await consumer.run()
    log.info("stopped; what was in hand is stored")


@asynccontextmanager
async def opened(config: Config, store: str, stream: str, registry: CollectorRegistry) -> AsyncIterator[Consumer]:
    """A consumer with all it works with. store, stream: URLs."""
    scorers = build(config.scorers)
    threads = Threads()
    corridor = Corridor(stream, config.stream.name, config.stream.max_mb)
    try:
        async with Store(store) as opened_store:
            desk = Desk(
                corridor, opened_store, scorers, Judge(scorers, threads), Gauges(config, scorers), EvalMetrics(registry)
            )
            name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
            yield Consumer(desk, name)
    finally:
        threads.close()
        await corridor.aclose()


@contextmanager
def _metrics(registry: CollectorRegistry, host: str, port: int) -> Iterator[None]:
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise CannotRun(
            f"metrics: {host}:{port} cannot be bound: {error.strerror}; give another --metrics-port"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def _stopped_by_signals(consumer: Consumer) -> Iterator[None]:
    """The first SIGINT or SIGTERM lets what is in hand be finished; the second ends us at once."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def told() -> None:
        for each in signals:
            loop.remove_signal_handler(each)
        consumer.stop()

    for each in signals:
        loop.add_signal_handler(each, told)
    try:
        yield
    finally:
        for each in signals:
            loop.remove_signal_handler(each)
