"""`gateway replay --on ray://HOST[:PORT]`: connects to a Ray cluster through Ray Client and starts workers on it.

The only module that knows Ray (docs.ray.io, "Ray Client"). Each worker is an actor that takes one CPU of the cluster.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from gateway import __version__
from gateway.core.errors import CannotRun
from gateway.core.sanitize import plain
from gateway.features.replay.gateway_choice import ReachedGateway, Say
from gateway.features.replay.ray_address import RayAddress
from gateway.features.replay.remote_worker import GatewayKey, RemoteWorker, WorkerSetup, WorkerState
from gateway.features.replay.worker_pool import WorkerLost, WorkerPool
from gateway.scoring.registry import RegisteredScorer

_MISSING = re.compile(r"No module named '[\w.]+'")
_CPU_S = 90.0
_START_S = 120.0  # a node may import this package for the first time


@dataclass(frozen=True, slots=True)
class RayWorkers:
    """The workers of one replay, while they are connected. scorers: names of those that they compute."""

    pool: WorkerPool
    scorers: frozenset[str]


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """The workers that a replay would like to have."""

    address: RayAddress
    gateway: ReachedGateway
    setup: WorkerSetup
    most: int
    """Workers, and calls at once that each takes."""


@asynccontextmanager
async def ray_workers(
    wanted: WorkerRequest, scorers: Mapping[str, RegisteredScorer], say: Say
) -> AsyncIterator[RayWorkers]:
    """Workers that have started and reach the gateway: at most `most`, one for each CPU that is free.

    scorers: by name, as they are built here: a worker computes those that it has in the same version and configuration.
    Raises CannotRun.
    """
    check_reach(wanted.address, wanted.gateway.base_url)
    cluster = _Cluster(wanted, await _connected(wanted.address))
    try:
        size = min(await cluster.free_cpus(say), wanted.most)
        try:
            workers = await asyncio.gather(*(cluster.spawn() for _ in range(size)))
        except WorkerLost as error:
            raise CannotRun(f"a worker on {wanted.address} ended while it started: {error}") from error
        known = {name: (r.scorer.version, r.config_hash) for name, r in scorers.items()}
        same = {n for n, version in known.items() if all(each.state.scorers.get(n) == version for each in workers)}
        yield RayWorkers(WorkerPool(cluster.spawn, workers), frozenset(same))
    finally:
        await asyncio.to_thread(cluster.ray.shutdown)


def check_reach(address: RayAddress, base_url: str) -> None:
    """Raises CannotRun for a gateway on this machine's loopback and workers on other machines."""
    host = urlsplit(base_url).hostname or ""
    if _is_loopback(host) and not _is_loopback(address.host):
        raise CannotRun(
            f"the workers of {address} cannot reach {base_url}, which is on this machine only; "
            "start a gateway on an address that they reach, and give it with --gateway"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _connected(address: RayAddress) -> Any:
    """The module ray, connected. Raises CannotRun."""
    try:
        ray = import_module("ray")
        import_module("ray.util.client")
    except ImportError as error:
        raise CannotRun("--on ray://… needs Ray: pip install 'assay-gateway[ray]'") from error
    try:
        await asyncio.to_thread(_init, ray, address)
    except ConnectionError as error:
        raise CannotRun(
            f"no Ray cluster answers at {address}: {_cause(error)}. `ray start --head` starts one; "
            "10001 is the port of its Ray Client server"
        ) from error
    except (RuntimeError, ImportError, ValueError) as error:  # versions of Python or Ray that differ
        raise CannotRun(f"{address} refuses this Ray client: {_cause(error)}") from error
    return ray


def _init(ray: Any, address: RayAddress) -> None:
    """Takes half a minute where nothing answers, and warns then; the error says the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ray.init(str(address), namespace="gateway-replay", log_to_driver=False, logging_level=logging.ERROR)


class _RayWorker:
    """An actor on the cluster."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._lost = (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, ConnectionError)
        self._failed = ray.exceptions.RayError
        self._actor = actor
        self.state = WorkerState("", False, False, {})

    async def call(self, method: str, *arguments: Any) -> Any:
        try:
            reference = getattr(self._actor, method).remote(*arguments)
            return await asyncio.wrap_future(reference.future())
        except self._lost as error:
            raise WorkerLost(_cause(error)) from error
        except self._failed as error:
            raise CannotRun(f"a worker of the Ray cluster failed: {_cause(error)}") from error


@dataclass(slots=True)
class _Cluster:
    wanted: WorkerRequest
    ray: Any

    async def free_cpus(self, say: Say) -> int:
        """Waits for one: Ray frees those of a program that was killed after half a minute. Raises CannotRun."""
        until = time.monotonic() + _CPU_S
        noted = False
        while True:
            free = int((await asyncio.to_thread(self.ray.available_resources)).get("CPU", 0))
            if free >= 1:
                return free
            if time.monotonic() >= until:
                of = int((await asyncio.to_thread(self.ray.cluster_resources)).get("CPU", 0))
                raise CannotRun(f"{self.wanted.address} has no free CPU (of {of}); each worker takes one")
            if not noted:
                say(f"{self.wanted.address} has no free CPU; waiting up to {_CPU_S:g} s for one")
                noted = True
            await asyncio.sleep(1.0)

    async def spawn(self) -> _RayWorker:
        """A worker that has the key and reaches the gateway. Raises WorkerLost and CannotRun."""
        actor = self.ray.remote(num_cpus=1, max_restarts=0, max_concurrency=self.wanted.most)(RemoteWorker)
        try:
            worker = _RayWorker(self.ray, await asyncio.to_thread(actor.remote))
            async with asyncio.timeout(_START_S):
                worker.state = await worker.call("start", self.wanted.setup)
        except TimeoutError:
            raise CannotRun(
                f"{self.wanted.address} started no worker within {_START_S:g} s; is one of its CPUs free?"
            ) from None
        except ConnectionError as error:
            raise WorkerLost(_cause(error)) from error
        except (ImportError, WorkerLost) as error:
            if isinstance(error, WorkerLost) and not _MISSING.search(str(error)):
                raise
            raise CannotRun(
                f"the workers of {self.wanted.address} cannot import this package ({_cause(error)}); "
                f"install assay-gateway=={__version__} on its nodes"
            ) from error
        self._check(worker.state)
        if not worker.state.has_key:
            # An argument of a call, and not of the actor: Ray keeps the latter in its control store.
            await worker.call("use_key", GatewayKey(self.wanted.gateway.api_key))
        return worker

    def _check(self, state: WorkerState) -> None:
        if state.version != __version__:
            raise CannotRun(
                f"the workers of {self.wanted.address} have assay-gateway {state.version}, this is {__version__}; "
                f"install assay-gateway=={__version__} on its nodes"
            )
        if not state.reachable:
            raise CannotRun(
                f"the gateway at {self.wanted.gateway.base_url} does not answer the workers of {self.wanted.address}; "
                "give an address that they reach with --gateway"
            )


def _cause(error: BaseException) -> str:
    """One line of what Ray says in many: the first, with the last where that is the cause."""
    text = plain(str(error))
    missing = _MISSING.search(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if missing or not lines:
        return missing[0] if missing else type(error).__name__
    return f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]
