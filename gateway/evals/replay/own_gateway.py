"""A gateway of the replay's own: the config's upstreams behind a free port, for as long as the replay lasts.

It has one key, records nothing, and runs no experiments. It is a child program, so it ends with us, however we end.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gateway.config.models import Config
from gateway.config.yaml_text import parse_yaml, read_config_text
from gateway.evals.http_client import HttpConnections, Unreachable
from gateway.evals.replay.design import ReplayTarget
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
