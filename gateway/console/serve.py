"""The program `gateway console`: one process, of which several may share a store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from pathlib import Path

from starlette.applications import Starlette

from gateway.config.config import Config
from gateway.config.environment import debuggable, login_link, resolve_evals
from gateway.config.extras import OF_CONSOLE, require_extras
from gateway.config.loading import file_stamp, load_for_console
from gateway.console.admin import Admin
from gateway.console.app import ConsoleApp
from gateway.console.errors import AdminError
from gateway.console.frame import PagesSetup
from gateway.console.publisher import Publisher
from gateway.console.store import ConsoleStore
from gateway.core.errors import ConfigError
from gateway.core.networks import is_loopback, within
from gateway.core.reasons import one_line
from gateway.observability import logging as log_format
from gateway.proxy.http.server.tls import CertificateFiles
from gateway.proxy.http.server.uvicorn_server import BoundedApp, GatewayServer, page_settings
from gateway.runtime.confinement import hide_memory
from gateway.runtime.embedded_redis import keep
from gateway.runtime.tasks import Tasks
from gateway.store.events import add_events, config_event
from gateway.store.location import default_url
from gateway.stream import Corridor

log = logging.getLogger("gateway")

_CHECK_S = 1.0  # between two looks at the config file
_OPEN_S = 5.0  # for which a start waits for the store; it goes on without it


@dataclass(frozen=True, slots=True)
class ConsoleOptions:
    """The options of the command line."""

    config: Path
    data: Path
    host: str = "127.0.0.1"
    port: int = 9102
    take_over: bool = False
    """Replace keys that another store has published."""
    tls: tuple[Path | None, Path | None] = (None, None)
    """PEM files of a certificate and its key."""


class LiveConfig:
    """The gateway.yaml in force, read again when it changes. A refused file leaves the previous one in force."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError."""
        self._path = path
        self._config = load_served(path)
        self._seen = self._stamps()
        self.refused = ""
        """The reason why the newest file is not in force; "" if it is."""
        self.changed: Callable[[str], Awaitable[None]] | None = None
        """Called with the digest of a config that has another content than the previous one."""

    def __call__(self) -> Config:
        return self._config

    async def watch(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_S)
            stamps = await asyncio.to_thread(self._stamps)
            if stamps != self._seen:
                self._seen = stamps
                await self.read()

    def _stamps(self) -> dict[Path, tuple[int, int]]:
        """Modification times and sizes of the file and of those that belong to it."""
        return {path: file_stamp(path) for path in (self._path, *self._config.secret_files)}

    async def read(self) -> None:
        """Reads the file now, so that pages show at once what the console has written."""
        try:
            before, self._config = self._config.digest, await asyncio.to_thread(load_served, self._path)
            self.refused = ""
            if self.changed is not None and before != self._config.digest:
                await self.changed(self._config.digest)
            log.info("config read again: %s", self._path.name)
        except ConfigError as error:
            log.error("the new config is refused; the previous one stays in force:\n%s", error)
            self.refused = one_line(error)


def load_served(path: Path) -> Config:
    """The config of a console. Raises ConfigError, also if it has no `admin`: nobody could use the console."""
    config = load_for_console(path)
    require_extras(config, OF_CONSOLE)
    if config.admin is None:
        raise ConfigError(
            [f"{path.name}: admin: missing. Add `admin: {{tokens: [{{name, sha256, role}}]}}`; docs/teams.md shows how"]
        )
    return config


def run(options: ConsoleOptions) -> None:
    """Serves until SIGINT or SIGTERM. Raises ConfigError."""
    live = LiveConfig(options.config)
    files = CertificateFiles.of_options(*options.tls)
    log_format.begin(live().log)
    if not debuggable():
        hide_memory()
    if files is None and not is_loopback(options.host):
        log.warning(
            "the console listens on %s without TLS: admin tokens and new keys travel in clear; give --tls-cert and "
            "--tls-key, or put a proxy with TLS in front and listen on 127.0.0.1",
            options.host,
        )
    asyncio.run(_serve(options, live, files))


async def _serve(options: ConsoleOptions, live: LiveConfig, files: CertificateFiles | None) -> None:
    async with opened(options, live) as app:
        server = console_server(app, options, live, files)
        log.info("console on http%s://%s:%d/console", "" if files is None else "s", options.host, options.port)
        await server.serve()


async def _note_config(store: ConsoleStore, digest: str) -> None:
    """Notes that another config is in force, for the lines on charts. The line is missing where the store is
    unreachable."""
    try:
        await store.run(lambda connection: add_events(connection, [config_event(digest, time.time())]))
    except AdminError as error:
        log.warning("the change of the config is not noted in the store: %s", error)


def console_server(
    app: Starlette, options: ConsoleOptions, live: Callable[[], Config], files: CertificateFiles | None
) -> GatewayServer:
    """The server of the console, whose connections have the gateway's bounds."""

    def limits() -> tuple[int | None, int | None]:
        given = live().limits
        return given.connections, given.connections_per_address

    def proxied(address: str) -> bool:
        return within(address, tuple(map(ip_network, live().trusted_proxies)))

    bounded = BoundedApp(app, limits, proxied)
    return GatewayServer(page_settings(bounded, options.host, options.port, files), announced=False)


@contextlib.asynccontextmanager
async def opened(options: ConsoleOptions, live: LiveConfig, open_s: float = _OPEN_S) -> AsyncIterator[Starlette]:
    """The application with everything it needs, closed with the context. open_s: how long it waits for the store."""
    config = live()
    async with keep(config, options.data) as url, Tasks() as tasks:
        corridor = Corridor.of(config.stream, url)
        store = ConsoleStore(config.store.url or default_url(options.data))
        publisher = Publisher(corridor.directory, store, take_over=options.take_over)
        try:
            opening = tasks.start(store.open(), "store")
            await asyncio.wait({opening}, timeout=open_s)
            live.changed = partial(_note_config, store)
            await publisher.look()
            tasks.start(publisher.run(), "publication")
            tasks.start(live.watch(), "config")
            pages = PagesSetup(
                tasks,
                corridor,
                evals=lambda: resolve_evals(live().evals, options.data),
                data=options.data,
                config_path=options.config,
                link=login_link(),
                read_config=live.read,
            )
            admin = Admin(store, publisher, live, corridor, refused=lambda: live.refused)
            yield ConsoleApp(admin, pages=pages).app()
        finally:
            await tasks.aclose()
            await store.close()
            await corridor.aclose()
