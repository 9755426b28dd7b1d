"""`gateway up`: starts and watches everything, in one process tree with one log and one data directory.

Order: stream server, local engines, consumer, console, gateway; stopped in reverse. Messages for the user go to
callables that the command line passes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.config.config import Config
from gateway.config.environment import (
    child_environment,
    process_environment,
    write_admin_access,
    write_evals_access,
    write_login_link,
)
from gateway.config.extras import OF_ALL, require_extras
from gateway.config.loading import load
from gateway.core.errors import CannotRun
from gateway.features import all_extras
from gateway.runtime.child import Child, gateway_argv
from gateway.runtime.embedded_redis import keep
from gateway.runtime.file_lock import FileLock
from gateway.runtime.supervisor import Supervisor
from gateway.runtime.tasks import Tasks, cancel_on_signal
from gateway.up import engines
from gateway.up.child_logs import child_log, shared_log
from gateway.up.engines import http_probe
from gateway.up.ports import PortReservations

if TYPE_CHECKING:
    from gateway.up.discovery import DiscoveredUpstream

CONFIG = Path("gateway.yaml")
KEY, LOG = "key", "gateway.log"  # in the data directory
PORT, METRICS_PORT, CONSOLE_PORT = 8000, 9101, 9102
SEE_DEMO = "to see it without a model or a key: gateway demo"
SAY_S = 10.0
"""Seconds between two notes on a program that is not ready yet."""

Say = Callable[[str], None]
Look = Callable[[], Awaitable["list[DiscoveredUpstream]"]]


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of the command line."""

    data: Path
    config: Path | None = None
    """Path of the config; None: ./gateway.yaml, which is written if it does not exist."""
    host: str = "127.0.0.1"
    port: int = PORT
    """The gateway's port. Metrics and console listen as far from their usual ports as this is from 8000: a second
    `gateway up` with another port has three ports of its own."""
    verbose: bool = False
    template: str = ""
    """The template of the config that is written; "" is the usual one."""


LOGIN_S = 900.0  # for which the console's login link is valid


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """Addresses, keys and files of a running gateway, for its user."""

    base_url: str
    key: str | None
    """Key of the gateway; None if one of the user's own `keys` is needed, or no key at all."""
    keys: tuple[str, ...]
    models: tuple[str, ...]
    metrics_urls: tuple[str, str]
    admin_url: str
    login_url: str
    """Signs its first visitor in to the console, within login_s."""
    config: Path
    data: Path
    log: Path
    engines: tuple[StartedEngine, ...] = ()
    login_s: float = LOGIN_S


@dataclass(frozen=True, slots=True)
class StartedEngine:
    upstream: str
    base_url: str
    model: str
    """The model's name in requests."""
    log: Path


async def run(options: UpOptions, say: Say, ready: Callable[[RunningGateway], None]) -> None:
    """Runs until SIGINT or SIGTERM. say: called with notes; ready: called once, when every program answers.

    Raises CannotRun, ConfigError.
    """
    this = asyncio.current_task()
    assert this is not None  # noqa: S101 - a coroutine that runs has a task
    cancel_on_signal(this)
    with suppress(asyncio.CancelledError), _locked(options.data), shared_log(options.data / LOG, options.verbose):
        path = options.config or CONFIG
        if options.template and path.exists():
            raise CannotRun(f"{path} exists, and is never overwritten; --template {options.template} writes a new one")
        if options.template or (options.config is None and not path.exists()):
            await write_config(path, options.data, say, template=options.template)
        with PortReservations() as ports:
            await _run(prepare(path, options, say, ports), say, ready)
    say("stopped")


async def write_config(path: Path, data: Path, say: Say, look: Look | None = None, template: str = "") -> None:
    """Looks for upstreams, and writes a gateway.yaml with those found. Raises FileExistsError if there is a file.

    look: None: discovery.look.
    """
    from gateway.up import discovery, starter_config

    found = await (look or discovery.look)()
    for name, each in zip(starter_config.names(found), found, strict=True):
        result = each.trouble or f"{len(each.models)} models"
        say(f"found {name} ({each.provider.title}, {each.where}): {result}")
    if starter_config.needs_local(found):
        if missing := engines.missing_packages():
            raise CannotRun(f"no upstream that offers a model was found, and {'; '.join(missing)}; {SEE_DEMO}")
        say("no upstream that offers a model was found: starting a real local model, SmolLM2-135M-Instruct")
    key_file = data / KEY
    digest = hashlib.sha256(own_key(data).encode()).hexdigest()
    with path.open("x", encoding="utf-8") as file:  # x: never overwritten
        file.write(
            starter_config.gateway_yaml(found, digest, str(key_file), starter_config.StarterFile(path.name, template))
        )
    say(f"wrote {path}")


@dataclass(frozen=True, slots=True)
class UpSetup:
    """Decisions made before the first program starts."""

    options: UpOptions
    path: Path
    config: Config
    port: int
    metrics_port: int
    console_port: int
    engines: Mapping[str, tuple[StartedEngine, Child]]
    """Started engines by upstream."""
    key: str | None
    digest: str
    login: str
    """The secret of the console's login link."""
    login_expires: float
    """Unix seconds."""

    @property
    def loopback(self) -> str:
        """The address of the gateway for clients on this machine."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.options.host, self.options.host)  # noqa: S104 - compared

    @property
    def console_origin(self) -> str:
        return f"http://127.0.0.1:{self.console_port}"

    @property
    def origin(self) -> str:
        host = f"[{self.loopback}]" if ":" in self.loopback else self.loopback
        return f"http://{host}:{self.port}"


def prepare(path: Path, options: UpOptions, say: Say, ports: PortReservations) -> UpSetup:
    """Reads the config, chooses ports and keys, and checks that every engine can be started."""
    config = load(path)
    require_extras(config, (*OF_ALL, *all_extras()))
    port = ports.reserve(options.host, options.port)
    if port != options.port:
        say(f"port {options.port} is in use; the gateway listens on {port}")
    engine_ports = _engine_ports(config, ports)
    found = {name: _engine(name, config, each, options.data) for name, each in engine_ports.items()}
    metrics_port = ports.reserve("127.0.0.1", _moved(METRICS_PORT, options.port))
    console_port = ports.reserve("127.0.0.1", _moved(CONSOLE_PORT, options.port))
    key = _read_key(options.data) if config.keys or config.open else own_key(options.data)
    digest = hashlib.sha256(key.encode()).hexdigest() if key else ""
    if config.open or (config.keys and digest not in {each.sha256 for each in config.keys}):
        key = None
    login = write_login_link(options.data, LOGIN_S)
    return UpSetup(options, path, config, port, metrics_port, console_port, found, key, digest, *login)


def _moved(usual: int, port: int) -> int:
    """The usual port, moved as far as the gateway's is from its own; unmoved where there is no such port."""
    moved = usual + (port or PORT) - PORT
    return moved if 1024 <= moved < 65_000 else usual


def _engine_ports(config: Config, ports: PortReservations) -> dict[str, int]:
    """A port for each upstream with a `run`: the one in its base_url if that is free."""
    return {
        name: ports.reserve(engines.HOST, urlsplit(upstream.base_url or "").port or 0)
        for name, upstream in config.upstreams.items()
        if upstream.run
    }


def _engine(name: str, config: Config, port: int, data: Path) -> tuple[StartedEngine, Child]:
    run = config.upstreams[name].run
    assert run is not None  # noqa: S101 - _engine_ports names only upstreams with one
    child = engines.engine_child(name, run, port, process_environment())
    base_url = f"http://{engines.HOST}:{port}/v1"
    return StartedEngine(name, base_url, engines.served_model(run), data / engines.engine_log_name(name)), child


async def _run(setup: UpSetup, say: Say, ready: Callable[[RunningGateway], None]) -> None:
    async with AsyncExitStack() as stack:
        for engine, child in setup.engines.values():
            stack.enter_context(child_log(child.name, engine.log))
        url = await stack.enter_async_context(keep(setup.config, setup.options.data, patience_s=None))
        say(f"stream server: {url.split('@')[-1]}")
        supervisor = await stack.enter_async_context(Supervisor())
        for engine, child in setup.engines.values():
            say(f"starting {child.name}; its log is {engine.log}")
        for child in children_of(setup):
            await _start(supervisor, child, say)
        ready(running_gateway(setup))
        await asyncio.Event().wait()


async def _start(supervisor: Supervisor, child: Child, say: Say) -> None:
    """Starts a child, and says every SAY_S that it is not ready yet. Raises ChildFailed, with its last lines."""
    started = time.monotonic()

    async def wait() -> None:
        await asyncio.sleep(SAY_S)
        say(f"{child.name} is still starting after {time.monotonic() - started:.0f} s")

    async with Tasks() as tasks:
        tasks.repeat(wait, 0.0, f"notes on {child.name}")
        await supervisor.start(child)
    say(f"{child.name} is ready after {time.monotonic() - started:.1f} s")


_HUNG_S = 60.0  # without an answer, after which a gateway or a consumer is killed and started again


def children_of(setup: UpSetup) -> Iterator[Child]:
    config, data = setup.config, str(setup.options.data.resolve())
    urls = {name: engine.base_url for name, (engine, _) in setup.engines.items()}
    yield from (child for _, child in setup.engines.values())
    shared = ("--config", str(setup.path.resolve()), "--data", data)
    evals = write_evals_access(setup.options.data, f"{setup.origin}/v1")
    admin = write_admin_access(setup.options.data, setup.console_origin)
    login = f"{setup.login} {setup.login_expires:.0f}"
    environ = child_environment(urls, setup.digest, evals, admin, login)
    argv = gateway_argv("evaluate", *shared, "--metrics-port", str(setup.metrics_port))
    health = http_probe("127.0.0.1", setup.metrics_port, "/metrics")
    yield Child("evaluate", argv, health, hung_s=_HUNG_S, environ=environ)
    argv = gateway_argv("console", *shared, "--port", str(setup.console_port))
    health = http_probe("127.0.0.1", setup.console_port, "/health")
    yield Child("console", argv, health, hung_s=_HUNG_S, environ=environ)
    argv = gateway_argv("serve", *shared, "--host", setup.options.host, "--port", str(setup.port))
    health = http_probe(setup.loopback, setup.port, "/health")
    yield Child("serve", argv, health, hung_s=_HUNG_S, grace_s=config.limits.drain_s + 10, environ=environ)


def running_gateway(setup: UpSetup) -> RunningGateway:
    return RunningGateway(
        base_url=f"{setup.origin}/v1",
        key=setup.key,
        keys=tuple(key.name for key in setup.config.keys),
        models=tuple(setup.config.models),
        metrics_urls=(f"{setup.origin}/metrics", f"http://127.0.0.1:{setup.metrics_port}/metrics"),
        admin_url=f"{setup.console_origin}/admin",
        login_url=f"{setup.console_origin}/console/login?link={setup.login}",
        config=setup.path,
        data=setup.options.data,
        log=setup.options.data / LOG,
        engines=tuple(engine for engine, _ in setup.engines.values()),
        login_s=setup.login_expires - time.time(),
    )


def _read_key(data: Path) -> str | None:
    path = data / KEY
    return path.read_text(encoding="ascii").strip() if path.exists() else None


def own_key(data: Path) -> str:
    """The key of this data directory, readable by its owner only; the first call makes it."""
    if key := _read_key(data):
        return key
    key = f"sk-assay-{secrets.token_urlsafe(24)}"
    descriptor = os.open(data / KEY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{key}\n")
    return key


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Keeps a second `gateway up` out of the data directory. Raises CannotRun if one runs."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(data / "up.lock")
    try:
        if not lock.acquire():
            raise CannotRun(
                f"`gateway up` already runs on {data} (process {lock.holder()}). Stop it, or give another --data"
            )
        yield
    finally:
        lock.release()
