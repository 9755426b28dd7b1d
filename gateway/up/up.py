"""`gateway up`: what is found, what is started, what is watched. One process tree, one log, one data directory.

Order: stream server, local engines, consumer, gateway; stopped in reverse. What it has to say goes to the callables
that cli.py gives.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway.config.environment import child_environment, process_environment, write_evals_access
from gateway.config.loading import load
from gateway.config.models import Config
from gateway.core.errors import CannotRun, NotInstalled
from gateway.runtime.child import Child
from gateway.runtime.embedded_redis import FileLock, keep
from gateway.runtime.supervisor import Supervisor
from gateway.runtime.tasks import cancel_on_signal
from gateway.up import engines, managed
from gateway.up.child_logs import one_log, own_log
from gateway.up.managed import answering, ours

CONFIG = Path("gateway.yaml")
KEY, LOG = "key", "gateway.log"  # in the data directory
METRICS_PORT = 9101

Say = Callable[[str], None]


class AlreadyUp(CannotRun):
    """Another `gateway up` has the data directory."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the command line says. config: None: ./gateway.yaml, which is written when it is not there."""

    data: Path
    config: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """What runs, for its user. key: None: only the user knows it (one of `keys`), or none is needed."""

    base_url: str
    key: str | None
    keys: tuple[str, ...]
    models: tuple[str, ...]
    metrics_urls: tuple[str, str]
    config: Path
    data: Path
    log: Path
    engines: tuple[StartedEngine, ...] = ()


@dataclass(frozen=True, slots=True)
class StartedEngine:
    """A model server that was started for an upstream. model: what requests call it. log: all that it says."""

    upstream: str
    base_url: str
    model: str
    log: Path


async def run(asked: UpOptions, say: Say, ready: Callable[[RunningGateway], None]) -> None:
    """Runs until SIGINT or SIGTERM. say: notes on the way; ready: called once, when all answer.

    Raises CannotRun (AlreadyUp, NotInstalled, ChildFailed) and ConfigError.
    """
    this = asyncio.current_task()
    assert this is not None  # noqa: S101 - a coroutine that runs has a task
    cancel_on_signal(this)
    with suppress(asyncio.CancelledError), _alone(asked.data), one_log(asked.data / LOG, asked.verbose):
        path = asked.config or CONFIG
        if asked.config is None and not path.exists():
            await _write(path, asked.data, say)
        await _run(_setup(path, asked, say), say, ready)
    say("stopped")


async def _write(path: Path, data: Path, say: Say) -> None:
    """Looks for upstreams and writes the gateway.yaml of what was found."""
    from gateway.up import discovery, starter_config

    found = await discovery.look()
    for name, each in zip(starter_config.names(found), found, strict=True):
        what = each.trouble or f"{len(each.models)} models"
        say(f"found {name} ({each.vendor.title}, {each.where}): {what}")
    if starter_config.needs_local(found):
        if lacks := engines.missing():
            raise NotInstalled("no upstream that offers a model was found, and " + "; ".join(lacks))
        say("no upstream that offers a model was found: a real local model is started, SmolLM2-135M-Instruct")
    key_file = data / KEY
    digest = hashlib.sha256(_own_key(data).encode()).hexdigest()
    with path.open("x", encoding="utf-8") as file:  # x: never overwritten
        file.write(starter_config.gateway_yaml(found, digest, str(key_file), path.name))
    say(f"wrote {path}")


@dataclass(frozen=True, slots=True)
class UpSetup:
    """All that is decided before anything is started. engines: each upstream that is run here, with its child."""

    asked: UpOptions
    path: Path
    config: Config
    port: int
    metrics_port: int
    engines: Mapping[str, tuple[StartedEngine, Child]]
    key: str | None
    digest: str

    @property
    def loopback(self) -> str:
        """Where the gateway is reached from this machine."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.asked.host, self.asked.host)  # noqa: S104 - compared

    @property
    def origin(self) -> str:
        host = f"[{self.loopback}]" if ":" in self.loopback else self.loopback
        return f"http://{host}:{self.port}"


def _setup(path: Path, asked: UpOptions, say: Say) -> UpSetup:
    config = load(path)
    port = free_port(asked.host, asked.port)
    if port != asked.port:
        say(f"port {asked.port} is taken; the gateway takes {port}")
    ports = _engine_ports(config, port)
    found = {name: _engine(name, config, each, asked.data) for name, each in ports.items()}
    metrics_port = free_port("127.0.0.1", METRICS_PORT, {port, *ports.values()})
    key = _kept_key(asked.data) if config.keys or config.open else _own_key(asked.data)
    digest = hashlib.sha256(key.encode()).hexdigest() if key else ""
    if config.open or (config.keys and digest not in {each.sha256 for each in config.keys}):
        key = None
    return UpSetup(asked, path, config, port, metrics_port, found, key, digest)


def _engine_ports(config: Config, gateway_port: int) -> dict[str, int]:
    """A port for each upstream that is run here: the one its base_url names, where that is free."""
    ports: dict[str, int] = {}
    for name, upstream in config.upstreams.items():
        if upstream.run:
            wanted = urlsplit(upstream.base_url or "").port or 0
            ports[name] = free_port(managed.HOST, wanted, {gateway_port, *ports.values()})
    return ports


def _engine(name: str, config: Config, port: int, data: Path) -> tuple[StartedEngine, Child]:
    run = config.upstreams[name].run
    assert run is not None  # noqa: S101 - _engine_ports names only upstreams with one
    child = managed.child_of(name, run, port, process_environment())
    place = f"http://{managed.HOST}:{port}/v1"
    return StartedEngine(name, place, managed.name_of(run), data / managed.log_of(name)), child


async def _run(setup: UpSetup, say: Say, ready: Callable[[RunningGateway], None]) -> None:
    async with AsyncExitStack() as stack:
        for engine, child in setup.engines.values():
            stack.enter_context(own_log(child.name, engine.log))
        url = await stack.enter_async_context(keep(setup.config, setup.asked.data, patience_s=None))
        say(f"stream server: {url.split('@')[-1]}")
        supervisor = await stack.enter_async_context(Supervisor())
        for engine, child in setup.engines.values():
            say(f"{child.name} starts; it says in {engine.log} how far it is")
        for child in _children(setup):
            started = time.monotonic()
            await supervisor.start(child)
            say(f"{child.name} is ready after {time.monotonic() - started:.1f} s")
        ready(_running(setup))
        await asyncio.Event().wait()


def _children(setup: UpSetup) -> Iterator[Child]:
    config, data = setup.config, str(setup.asked.data.resolve())
    places = {name: engine.base_url for name, (engine, _) in setup.engines.items()}
    yield from (child for _, child in setup.engines.values())
    both = ("--config", str(setup.path.resolve()), "--data", data)
    told = child_environment(places, setup.digest, write_evals_access(setup.asked.data, f"{setup.origin}/v1"))
    argv = ours("evaluate", *both, "--metrics-port", str(setup.metrics_port))
    yield Child("evaluate", argv, answering("127.0.0.1", setup.metrics_port, "/metrics"), environ=told)
    argv = ours("serve", *both, "--host", setup.asked.host, "--port", str(setup.port))
    health = answering(setup.loopback, setup.port, "/health")
    yield Child("serve", argv, health, grace_s=config.limits.drain_s + 10, environ=told)


def _running(setup: UpSetup) -> RunningGateway:
    return RunningGateway(
        base_url=f"{setup.origin}/v1",
        key=setup.key,
        keys=tuple(key.name for key in setup.config.keys),
        models=tuple(setup.config.models),
        metrics_urls=(f"{setup.origin}/metrics", f"http://127.0.0.1:{setup.metrics_port}/metrics"),
        config=setup.path,
        data=setup.asked.data,
        log=setup.asked.data / LOG,
        engines=tuple(engine for engine, _ in setup.engines.values()),
    )


def free_port(host: str, wanted: int, taken: Collection[int] = ()) -> int:
    """The first free port from the wanted one on, of those not taken. wanted: 0 for any."""
    for port in range(wanted, min(wanted + 100, 65536)) if wanted else (0,):
        if port in taken:
            continue
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise CannotRun(f"no port from {wanted} to {wanted + 99} of {host} is free")


def _kept_key(data: Path) -> str | None:
    path = data / KEY
    return path.read_text(encoding="ascii").strip() if path.exists() else None


def _own_key(data: Path) -> str:
    """The key that `gateway up` made for this data directory; made at the first call, mode 0600."""
    if kept := _kept_key(data):
        return kept
    key = f"sk-assay-{secrets.token_urlsafe(24)}"
    descriptor = os.open(data / KEY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{key}\n")
    return key


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Holds the data directory against a second `gateway up`."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(data / "up.lock")
    try:
        if not lock.take():
            raise AlreadyUp(
                f"`gateway up` already runs on {data} (process {lock.holder()}). Stop it, or give another --data"
            )
        yield
    finally:
        lock.release()
