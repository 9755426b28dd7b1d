"""The gateway that a replay talks to: one that is running, or one of its own that runs as long as the replay.

The replay's own gateway serves the config's upstreams on a free port. It has one key, records nothing and runs no
experiments. It is a child process, so it ends with the replay, however the replay ends.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gateway.config.environment import resolve_evals
from gateway.config.models import Config
from gateway.config.scorers import EvalsConfig
from gateway.config.yaml_text import parse_yaml, read_config_text
from gateway.core.errors import CannotRun
from gateway.evals.http_client import HttpConnections, Unreachable
from gateway.evals.replay.design import ReplayTarget, TargetError, contenders
from gateway.evals.store.engine import default_url
from gateway.runtime.child import Child, runs
from gateway.runtime.supervisor import Supervisor

_HOST = "127.0.0.1"
_KEPT = ("upstreams", "models", "limits")
_LOOK_S = 5.0  # a busy machine answers late
_GRACE_S = 1.0  # it has no clients but us
_READY_S = 30.0
_ENGINE_READY_S = 120.0


@dataclass(frozen=True, slots=True)
class ReachedGateway:
    """A gateway that answers. base_url: as in "http://127.0.0.1:8000/v1". api_key: None: it asks for none."""

    base_url: str
    api_key: str | None


@asynccontextmanager
async def own_gateway(
    path: Path, config: Config, targets: Sequence[ReplayTarget], directory: Path
) -> AsyncIterator[ReachedGateway]:
    """path, config: of the gateway.yaml. targets: those that need a name of their own get one. directory: where its
    config lies meanwhile, for its owner only. Raises ChildFailed with what it said when it does not start.
    """
    key = f"sk-replay-{secrets.token_urlsafe(24)}"
    engines = {name: _free_port() for name in _engines(config, targets)}
    text = gateway_yaml(path, targets, hashlib.sha256(key.encode()).hexdigest(), engines)
    async with Supervisor() as supervisor, HttpConnections() as connections:
        with _kept(directory, text) as own:
            for name, port in engines.items():
                run = config.upstreams[name].run
                engine = ("engine", "--model", run.model if run else "", "--port", str(port))
                await supervisor.start(_child(f"engine-{name}", engine, port, connections, _ENGINE_READY_S))
            port = _free_port()
            serve = ("serve", "--config", str(own), "--host", _HOST, "--port", str(port), "--data", str(directory))
            await supervisor.start(_child("replay-gateway", serve, port, connections, _READY_S))
            yield ReachedGateway(f"http://{_HOST}:{port}/v1", key)


def gateway_yaml(path: Path, targets: Sequence[ReplayTarget], digest: str, engines: Mapping[str, int]) -> str:
    """The config of the replay's own gateway: the same upstreams and models, ${NAME} left as it stands."""
    raw, _ = parse_yaml(read_config_text(path), path.name, _Unread())
    kept: dict[str, Any] = {name: raw[name] for name in _KEPT if name in raw}
    for name, port in engines.items():
        upstream = {k: v for k, v in kept["upstreams"][name].items() if k != "run"}
        kept["upstreams"][name] = {**upstream, "base_url": f"http://{_HOST}:{port}/v1"}
    for target in targets:
        if target.extra:
            upstream_name, _, model = target.name.partition("/")
            kept["models"][target.alias] = {"targets": [{"upstream": upstream_name, "model": model}]}
    kept["keys"] = [{"name": "replay", "sha256": digest, "sample": "never", "allow": ["target"]}]
    kept["sampling"] = {"rate": 0.0}
    kept["stream"] = {"url": "unix:///dev/null"}  # nothing is recorded, so nothing is looked for there
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


class _Unread(Mapping[str, str]):
    """An environment in which every variable stands for itself: secrets do not enter another file."""

    def __getitem__(self, name: str) -> str:
        return f"${{{name}}}"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _engines(config: Config, targets: Sequence[ReplayTarget]) -> list[str]:
    """The upstreams that are run here and that these targets may ask."""
    wanted: set[str] = set()
    for target in targets:
        model = config.models.get(target.alias)
        if model is None:
            wanted.add(target.name.partition("/")[0])
        else:
            wanted |= {t.upstream for t in (*model.targets, *model.fallback)}
    return [name for name, upstream in config.upstreams.items() if upstream.run and name in wanted]


@contextmanager
def _kept(directory: Path, text: str) -> Iterator[Path]:
    """A replay that was killed leaves its file, in which keys may stand: the next one removes it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"gateway-{os.getpid()}.yaml"
    for left in directory.glob("gateway-*.yaml"):
        pid = left.stem.rpartition("-")[2]
        if left == path or not (pid.isdecimal() and runs(int(pid))):
            left.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _child(name: str, argv: tuple[str, ...], port: int, connections: HttpConnections, ready_s: float) -> Child:
    """-P: modules in the working directory do not shadow those that are installed."""

    async def ready() -> bool:
        return await answers(f"http://{_HOST}:{port}", connections)

    return Child(name, (sys.executable, "-P", "-m", "gateway", *argv), ready, ready_s, _GRACE_S)


async def answers(origin: str, connections: HttpConnections) -> bool:
    """Whether a gateway, or an engine, is there and well."""
    try:
        reply = await connections.send("GET", f"{origin}/health", deadline_s=_LOOK_S)
    except Unreachable:
        return False
    return reply.status == 200


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


Say = Callable[[str], None]
OWN = "replay"  # in the data directory: what the replay's own gateway keeps


class GatewayUnreachable(CannotRun):
    """The gateway that was named does not answer."""


@dataclass(frozen=True, slots=True)
class GatewayLocation:
    """What the command line says of the gateway. config: the gateway.yaml, read from path. url: of a gateway; None:
    not said."""

    path: Path
    config: Config
    data: Path
    url: str | None = None


def store_of(place: GatewayLocation) -> str:
    """Where answers are kept, and where the log is: a URL."""
    return place.config.store.url or default_url(place.data)


@asynccontextmanager
async def reached(
    place: GatewayLocation, names: Sequence[str], say: Say
) -> AsyncIterator[tuple[ReachedGateway, tuple[ReplayTarget, ...]]]:
    """The gateway, while the context is open, and the targets as it knows them. Raises NoGateway, WrongTarget."""
    running, targets = await _running(place, names)
    if running is not None:
        say(f"asking the gateway at {running.base_url}")
        yield running, targets
        return
    targets = contenders(names, place.config, own=True)
    say("starting a gateway for this replay")
    async with own_gateway(place.path, place.config, targets, place.data / OWN) as own:
        yield own, targets


async def _running(
    place: GatewayLocation, names: Sequence[str]
) -> tuple[ReachedGateway | None, tuple[ReplayTarget, ...]]:
    """A gateway that runs and knows these targets; None: there is none."""
    evals = resolve_evals(place.config.evals, place.data)
    url = place.url or evals.base_url
    if url is None:
        return None, ()
    gateway = ReachedGateway(_v1(url), _key(evals, place, url))
    if not await _answers(gateway):
        if place.url or place.config.evals.base_url:
            raise GatewayUnreachable(f"no gateway answers at {gateway.base_url}; start it, or leave it out")
        return None, ()  # that of a `gateway up` that has ended
    try:
        return gateway, contenders(names, place.config, own=False)
    except TargetError:
        if place.url or place.config.evals.base_url:
            raise
        return None, ()


def _key(evals: EvalsConfig, place: GatewayLocation, url: str) -> str | None:
    """A key goes only to the gateway that it is for."""
    known = evals.base_url or ""
    return evals.api_key if place.url is None or _v1(known) == _v1(url) or place.config.evals.api_key else None


def _v1(url: str) -> str:
    url = url.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"


async def _answers(gateway: ReachedGateway) -> bool:
    async with HttpConnections() as connections:
        return await answers(gateway.base_url.removesuffix("/v1"), connections)
