"""The program of room 1: `gateway serve`. One process, or several workers behind one socket."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from uvicorn.supervisors import Multiprocess

from gateway.config import Config, Served, load, pass_on, passed_on, shared_metrics
from gateway.embedded import keep
from gateway.errors import ConfigError
from gateway.metrics import ProxyMetrics
from gateway.proxy.app import App, Gateway
from gateway.proxy.build import Parts, build, close
from gateway.proxy.health import scrape, watch
from gateway.proxy.limit import Ticker
from gateway.proxy.pages import Pages, for_browsers
from gateway.proxy.protocol import Protocol
from gateway.proxy.recorder import Recorder
from gateway.proxy.sticky import Sticky
from gateway.stream import Corridor
from gateway.supervise import Tasks

log = logging.getLogger("gateway")

_LOOK_S = 1.0  # how often the config file is looked at
_FLUSH_S = 5.0  # how long a stopping process tries to hand over what it has recorded


def run(config_path: Path, host: str, port: int, workers: int, data: Path) -> None:
    """Serves until SIGINT or SIGTERM. Raises ConfigError for a config that may not be served."""
    config = load(config_path)
    if not config.keys and not config.open:
        raise ConfigError(
            [f"{config_path.name}: keys: none. Add one (name and sha256), or say `open: true` to let everyone in"]
        )
    served = Served(config_path, data, is_loopback(host))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if workers == 1:
        uvicorn.Server(_settings(create(served), config, host, port, 1)).run()
        return
    shared = tempfile.mkdtemp(prefix="gateway-metrics-")
    try:
        pass_on(served, Path(shared))
        settings = _settings("gateway.proxy.serve:create", config, host, port, workers)
        sock = settings.bind_socket()
        Multiprocess(settings, [sock]).run()
    finally:
        shutil.rmtree(shared, ignore_errors=True)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _settings(app: Any, config: Config, host: str, port: int, workers: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        workers=workers,
        factory=isinstance(app, str),
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        headers=[("server", "assay-gateway")],
        backlog=4096,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(config.limits.drain_s)),
    )


def create(served: Served | None = None) -> Process:
    """The ASGI application of this process. served: None in a worker, where the parent has passed it on."""
    return Process(served or passed_on())


class Process:
    """ASGI: opens everything at `lifespan.startup`, closes it at `lifespan.shutdown`, and answers between."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.config = load(served.config)
        self.app: App | None = None
        self._front: Any = None  # the app, as browsers of other origins need it

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if self._front is not None and scope["type"] == "http":
            await self._front(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        async with self._opened() as app:
            self.app = app
            self._front = for_browsers(app, self.config.cors)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[App]:
        registry = CollectorRegistry()
        metrics = ProxyMetrics(registry)
        stream = self.config.stream
        async with keep(self.config, self._served.data) as url, Tasks() as tasks:
            corridor = Corridor(url, stream.name, stream.max_mb)
            recorder = Recorder(corridor, metrics, buffer_bytes=int(stream.buffer_mb * 1e6))
            parts = Parts(recorder, metrics, tasks, Sticky(corridor, tasks), Ticker())
            app = App(build(self.config, parts))
            pages = Pages(lambda: app.gateway, app.show, registry, loopback=self._served.loopback)
            app.pages = pages.app()
            metrics.config_ok.set(1)
            reload = Reload(self._served.config, app, parts)
            tasks.start(reload.watch(), "config")
            if shared_metrics() is not None:
                tasks.start(_show(app), "shared metrics")
            writing = tasks.start(recorder.run(), "recorder")
            async with self._metrics_listener(pages):
                gc.freeze()  # what is here now stays: the collector need not look at it again and again
                gc.set_threshold(20_000, 20, 50)
                yield app
            await reload.stop()
            await _flush(recorder, writing)
            await close(app.gateway)
            await corridor.aclose()

    @contextlib.asynccontextmanager
    async def _metrics_listener(self, pages: Pages) -> AsyncIterator[None]:
        """A listener of its own for /metrics and /ready, where the config gives one; open to whoever reaches it.

        With several workers each tries to bind it and the first has it: one scrape gives the total of all.
        """
        bind = self.config.metrics.bind
        if bind is None:
            yield
            return
        host, _, port = bind.rpartition(":")
        settings = uvicorn.Config(
            pages.private(), host=host.strip("[]"), port=int(port), log_config=None, access_log=False, lifespan="off"
        )
        server = uvicorn.Server(settings)
        async with Tasks() as tasks:
            try:
                sock = settings.bind_socket() if shared_metrics() is None else _bind_or_none(settings)
            except SystemExit as error:
                raise OSError(f"metrics.bind: {bind} cannot be bound") from error
            if sock is not None:
                serving = tasks.start(server._serve([sock]), "metrics listener")
            yield
            server.should_exit = True
            if sock is not None:
                await serving


async def _show(app: App) -> None:
    """Other workers answer scrapes too, and count what we have shown, also after our death."""
    while True:
        app.show()
        await asyncio.sleep(0.5)


def _bind_or_none(settings: uvicorn.Config) -> Any:
    try:
        return settings.bind_socket()
    except SystemExit:
        return None


async def _flush(recorder: Recorder, writing: asyncio.Task[None]) -> None:
    recorder.close()
    _, late = await asyncio.wait({writing}, timeout=_FLUSH_S)
    if late:
        writing.cancel()
        recorder.give_up()


class Reload:
    """Puts a changed gateway.yaml in force: validated, built, then swapped whole. A refused one leaves the old."""

    def __init__(self, path: Path, app: App, parts: Parts) -> None:
        self._path = path
        self._app = app
        self._parts = parts
        self._asked = asyncio.Event()
        self._looking = self._look_at(app.gateway)

    async def watch(self) -> None:
        """Looks at the file each second, and at once on SIGHUP."""
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._asked.set)
        seen = _stamp(self._path)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._asked.wait()
            stamp = _stamp(self._path)
            if stamp != seen or self._asked.is_set():
                self._asked.clear()
                seen = stamp
                self.now()

    def now(self) -> None:
        try:
            gateway = build(load(self._path), self._parts)
        except (ConfigError, OSError, ImportError) as error:
            log.error("the new config is refused, the old stays in force:\n%s", error)
            self._parts.metrics.config_ok.set(0)
            return
        old, self._app.gateway = self._app.gateway, gateway
        self._stop_looking()
        self._looking = self._look_at(gateway)
        self._parts.metrics.config_ok.set(1)
        self._parts.tasks.start(_close_when_unused(old), "old config")
        log.info("config reloaded: %s", gateway.config.summary())

    def _look_at(self, gateway: Gateway) -> list[asyncio.Task[None]]:
        upstreams, start = gateway.upstreams.values(), self._parts.tasks.start
        return [start(watch(upstreams), "health"), start(scrape(upstreams, gateway.router.places), "load")]

    def _stop_looking(self) -> None:
        for task in self._looking:
            task.cancel()

    async def stop(self) -> None:
        self._stop_looking()


async def _close_when_unused(gateway: Gateway) -> None:
    """Calls in flight finish on the config they began with; then its connections close."""
    while gateway.in_use:  # noqa: ASYNC110 - rare, and nobody waits for it
        await asyncio.sleep(1)
    await close(gateway)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
