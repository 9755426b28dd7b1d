"""The gateway that a replay or `gateway score` talks to: one that is running, or one of its own that runs as long.

The replay's own gateway serves the config's upstreams on a free port. It has one key, records nothing and runs no
experiments. It is a child process, so it ends with the replay, however the replay ends.
"""

from __future__ import annotations

import copy
import hashlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gateway.config.config import Config
from gateway.config.derive import refs_of_model
from gateway.config.environment import resolve_evals
from gateway.config.routes import RouteFiles, read_routes, route_path
from gateway.config.scorers import EvalsConfig
from gateway.config.yaml_text import parse_yaml, read_config_text
from gateway.core.errors import CannotRun
from gateway.features.targets import NO_SETTINGS, ReplayTarget, RequestSettings, TargetError, resolve_targets
from gateway.runtime.child import Child, gateway_argv, runs
from gateway.runtime.supervisor import Supervisor
from gateway.scoring.http_client import HttpConnections, Unreachable
from gateway.store.location import default_url

_HOST = "127.0.0.1"
_KEPT_SECTIONS = ("upstreams", "models", "cascades", "limits")
_HEALTH_DEADLINE_S = 5.0
_GRACE_S = 1.0  # the replay is its only client
_READY_S = 30.0
_ENGINE_READY_S = 120.0


@dataclass(frozen=True, slots=True)
class ReachedGateway:
    """A gateway that answers."""

    base_url: str
    """The base URL, such as "http://127.0.0.1:8000/v1"."""
    api_key: str | None
    """The key; None if it needs none."""


@asynccontextmanager
async def own_gateway(
    path: Path, config: Config, targets: Sequence[ReplayTarget], directory: Path
) -> AsyncIterator[ReachedGateway]:
    """Starts a gateway for these targets. path, config: the gateway.yaml. directory: for its own configuration file.

    Raises ChildFailed with its output if it does not start.
    """
    key = f"sk-replay-{secrets.token_urlsafe(24)}"
    engines = {name: _free_port() for name in _engines(config, targets)}
    text = gateway_yaml(path, targets, hashlib.sha256(key.encode()).hexdigest(), engines)
    async with Supervisor() as supervisor, HttpConnections() as connections:
        with _config_file(directory, text, read_routes(path)) as own:
            for name, port in engines.items():
                run = config.upstreams[name].run
                engine = ("engine", "--model", run.model if run else "", "--port", str(port))
                await supervisor.start(_child(f"engine-{name}", engine, port, connections, _ENGINE_READY_S))
            port = _free_port()
            serve = ("serve", "--config", str(own), "--host", _HOST, "--port", str(port), "--data", str(directory))
            await supervisor.start(_child("replay-gateway", serve, port, connections, _READY_S))
            yield ReachedGateway(f"http://{_HOST}:{port}/v1", key)


def gateway_yaml(path: Path, targets: Sequence[ReplayTarget], digest: str, engines: Mapping[str, int]) -> str:
    """The config of the replay's own gateway: the same upstreams and models, with every ${NAME} unresolved."""
    raw, _ = parse_yaml(read_config_text(path), path.name, _Placeholders())
    kept: dict[str, Any] = {name: raw[name] for name in _KEPT_SECTIONS if name in raw}
    for name, port in engines.items():
        upstream = {k: v for k, v in kept["upstreams"][name].items() if k != "run"}
        kept["upstreams"][name] = {**upstream, "base_url": f"http://{_HOST}:{port}/v1"}
    for target in targets:
        if target.extra:
            kept["models"][target.alias] = _model_of(target, kept["models"])
    for model in kept["models"].values():
        model["targets"] = [{**ref, "watch": 0} if "route" in ref else ref for ref in model["targets"]]
    kept["keys"] = [{"name": "replay", "sha256": digest, "sample": "never", "allow": ["target"]}]
    kept["sampling"] = {"rate": 0.0}
    kept["stream"] = {"url": "unix:///dev/null"}  # nothing is recorded, so it is never opened
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def _model_of(target: ReplayTarget, models: Mapping[str, Any]) -> dict[str, Any]:
    """The model of an alias that only the replay's own gateway has: a model of the config without what the target
    replaces, or one model of an upstream."""
    if target.base not in models:
        upstream, _, model = target.base.partition("/")
        return {"targets": [{"upstream": upstream, "model": model}]}
    made: dict[str, Any] = copy.deepcopy(models[target.base])
    for ref in (*made["targets"], *made.get("fallback", ())):
        ref["set"] = {name: value for name, value in ref.get("set", {}).items() if name not in target.replaces}
        if "system" in target.replaces:
            ref.pop("system", None)
    return made


class _Placeholders(Mapping[str, str]):
    """An environment in which every variable is its own placeholder: secrets do not get into another file."""

    def __getitem__(self, name: str) -> str:
        return f"${{{name}}}"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _engines(config: Config, targets: Sequence[ReplayTarget]) -> list[str]:
    """The managed upstreams that these targets may use."""
    wanted: set[str] = set()
    for target in targets:
        model = config.models.get(target.base or target.alias)
        if model is None:
            wanted.add(target.base.partition("/")[0])
        else:
            wanted |= {t.upstream for t in refs_of_model(config, model)}
    return [name for name, upstream in config.upstreams.items() if upstream.run and name in wanted]


@contextmanager
def _config_file(directory: Path, text: str, routes: RouteFiles) -> Iterator[Path]:
    """The text in a file, with the learned routes next to it, while the context is open.

    Files that killed replays have left, with keys, are removed.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"gateway-{os.getpid()}.yaml"
    for leftover in directory.glob("gateway-*"):
        pid = leftover.name.removeprefix("gateway-").partition(".")[0]
        if pid == str(os.getpid()) or not (pid.isdecimal() and runs(int(pid))):
            leftover.unlink(missing_ok=True)
    copies = {route_path(path, name): content for name, content in routes.texts.items()}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        for copied, content in copies.items():
            copied.write_bytes(content)
        yield path
    finally:
        for written in (path, *copies):
            written.unlink(missing_ok=True)


def _child(name: str, argv: tuple[str, ...], port: int, connections: HttpConnections, ready_s: float) -> Child:
    async def ready() -> bool:
        return await answers(f"http://{_HOST}:{port}", connections)

    return Child(name, gateway_argv(*argv), ready, ready_s, _GRACE_S)


async def answers(origin: str, connections: HttpConnections) -> bool:
    """Whether a gateway, or an engine, answers its health check."""
    try:
        reply = await connections.send("GET", f"{origin}/health", deadline_s=_HEALTH_DEADLINE_S)
    except Unreachable:
        return False
    return reply.status == 200


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


Say = Callable[[str], None]
OWN = "replay"  # the directory of the replay's own gateway, in the data directory


@dataclass(frozen=True, slots=True)
class GatewayLocation:
    """The location of a gateway, as the command line and the config give it."""

    path: Path
    config: Config
    data: Path
    url: str | None = None
    """The URL of a running gateway. None if not given."""


def store_of(location: GatewayLocation) -> str:
    """The URL of the store of answers and of recorded traffic."""
    return location.config.store.url or default_url(location.data)


@asynccontextmanager
async def reached(
    location: GatewayLocation, names: Sequence[str], say: Say, settings: RequestSettings = NO_SETTINGS
) -> AsyncIterator[tuple[ReachedGateway, tuple[ReplayTarget, ...]]]:
    """The gateway, while the context is open, and the targets as it names them.

    settings: of all requests. Raises CannotRun if the gateway does not answer, TargetError if it lacks the target.
    """
    running, targets = await _running(location, names, settings)
    if running is not None:
        say(f"using the gateway at {running.base_url}")
        yield running, targets
        return
    targets = resolve_targets(names, location.config, own=True, settings=settings)
    say("starting a gateway for this replay")
    async with own_gateway(location.path, location.config, targets, location.data / OWN) as own:
        yield own, targets


async def _running(
    location: GatewayLocation, names: Sequence[str], settings: RequestSettings
) -> tuple[ReachedGateway | None, tuple[ReplayTarget, ...]]:
    """A running gateway that has these targets. None if there is none."""
    evals = resolve_evals(location.config.evals, location.data)
    url = location.url or evals.base_url
    if url is None:
        return None, ()
    gateway = ReachedGateway(_v1(url), _key(evals, location, url))
    if not await _answers(gateway):
        if location.url or location.config.evals.base_url:
            raise CannotRun(f"no gateway answers at {gateway.base_url}; start it, or leave out --gateway")
        return None, ()  # the address is from a `gateway up` that has ended
    try:
        return gateway, resolve_targets(names, location.config, own=False, settings=settings)
    except TargetError:
        if location.url or location.config.evals.base_url:
            raise
        return None, ()


def _key(evals: EvalsConfig, location: GatewayLocation, url: str) -> str | None:
    """The key, only for the gateway that it belongs to."""
    known = evals.base_url or ""
    return evals.api_key if location.url is None or _v1(known) == _v1(url) or location.config.evals.api_key else None


def _v1(url: str) -> str:
    url = url.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"


async def _answers(gateway: ReachedGateway) -> bool:
    async with HttpConnections() as connections:
        return await answers(gateway.base_url.removesuffix("/v1"), connections)
