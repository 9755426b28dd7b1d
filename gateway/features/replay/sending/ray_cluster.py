"""`gateway replay --on ray://HOST[:PORT]`: connects to a Ray cluster through Ray Client and starts workers on it.

The only module that knows Ray (docs.ray.io, "Ray Client"). Each worker is an actor that takes one CPU of the cluster,
sends requests to the gateway and scores answers. It keeps nothing: the process of `gateway replay` has the dataset, the
order, the pace, the retries, the budget and the store. Each call goes to the worker with the fewest in flight, and a
worker that is lost is replaced; its requests in flight return to the caller.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import urlsplit

from gateway import __version__
from gateway.config.environment import replay_key
from gateway.config.scorers import ScorerConfig
from gateway.core.errors import CannotRun, ConfigError
from gateway.core.extras import install_command
from gateway.core.networks import is_loopback
from gateway.core.sanitize import plain
from gateway.core.score import ScoreResult
from gateway.features.gateway_choice import ReachedGateway, Say, answers
from gateway.features.replay.options import RayAddress
from gateway.features.replay.rows import ReplayAnswer
from gateway.features.replay.sending.asking import ReplayRequest, subject
from gateway.features.replay.sending.run import AnswerScoring, ReplayStopped
from gateway.scoring.http_client import DeadlinePassed, GatewayClient, HttpConnections, HttpReply, Unreachable
from gateway.scoring.registry import RegisteredScorer, build
from gateway.scoring.run import score_all
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.types import Subject

MOST_LOSSES = 100  # workers of one run: more is a cluster that kills them
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class WorkerLost(Exception):
    """The worker ended before it answered: its machine, its process or the connection to it is gone."""


class WorkerHandle(Protocol):
    """A worker, from here. A call raises WorkerLost."""

    async def call(self, method: str, *arguments: Any) -> Any: ...


Spawn = Callable[[], Awaitable[WorkerHandle]]


class WorkerPool:
    """Workers of a cluster. spawn: starts one; raises WorkerLost, or CannotRun if none could ever start."""

    def __init__(self, spawn: Spawn, workers: Sequence[WorkerHandle], most_losses: int = MOST_LOSSES) -> None:
        self._spawn, self._most_losses = spawn, most_losses
        self._in_flight: dict[WorkerHandle, int] = dict.fromkeys(workers, 0)
        self.size = len(workers)
        self._replacing = asyncio.Lock()
        self.losses = 0
        self._stopped = ""  # why no worker can be started any more

    async def call(self, method: str, *arguments: Any) -> Any:
        """Raises WorkerLost, once, for what was in flight at a worker that is lost; ReplayStopped if none is left."""
        if not self._in_flight:
            await self._replace()
        worker = min(self._in_flight, key=self._in_flight.__getitem__)
        self._in_flight[worker] += 1
        try:
            return await worker.call(method, *arguments)
        except WorkerLost:
            if self._in_flight.pop(worker, None) is not None:
                self.losses += 1
            await self._replace()
            raise
        finally:
            if worker in self._in_flight:
                self._in_flight[worker] -= 1

    async def _replace(self) -> None:
        """Starts the missing workers. The others continue, so only a pool without any worker waits for it."""
        async with self._replacing:
            if self._stopped:  # the requests that waited here stop for the reason of the first
                raise ReplayStopped(self._stopped)
            if self.losses > self._most_losses:
                raise ReplayStopped(f"{self.losses} workers of the cluster were lost; the cluster ends them")
            while len(self._in_flight) < self.size:
                try:
                    self._in_flight[await self._spawn()] = 0
                except WorkerLost as error:
                    self.losses += 1
                    if not self._in_flight and self.losses > self._most_losses:
                        self._stopped = f"no worker of the cluster is left, and none can be started: {error}"
                        raise ReplayStopped(self._stopped) from error
                    if self._in_flight:
                        return


class PooledClient:
    """Sends requests to the gateway from the workers. In the place of a GatewayClient."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    async def ask(
        self, path: str, body: Mapping[str, Any], *, deadline_s: float, headers: Mapping[str, str] = _NO_HEADERS
    ) -> HttpReply:
        """Raises Unreachable, also where the worker is lost: the request may be sent again."""
        try:
            reply = await self._pool.call("ask", path, dict(body), deadline_s, dict(headers))
        except WorkerLost as error:
            raise Unreachable(f"a worker was lost before it answered: {error}") from error
        if isinstance(reply, NoReply):
            raise reply.error()
        assert isinstance(reply, HttpReply)  # noqa: S101 - RemoteWorker returns one of the two
        return reply


class PooledScoring:
    """Scores answers on the workers, if they have the scorer; scores the rest, and that of a lost worker, in this
    process."""

    def __init__(self, pool: WorkerPool, remote: frozenset[str], here: AnswerScoring) -> None:
        self._pool, self._remote, self._here = pool, remote, here

    async def score(
        self, request: ReplayRequest, answer: ReplayAnswer, judged: Subject, scorers: Mapping[str, RegisteredScorer]
    ) -> list[ScoreResult]:
        """Scores in the order of `scorers`, wherever each was computed."""
        away = {name: r for name, r in scorers.items() if name in self._remote}
        near = {name: r for name, r in scorers.items() if name not in self._remote}
        found = await asyncio.gather(
            self._away(request, answer, judged, away), self._here.score(request, answer, judged, near)
        )
        by_name = {result.scorer: result for results in found for result in results}
        return [by_name[name] for name in scorers if name in by_name]

    async def _away(
        self, request: ReplayRequest, answer: ReplayAnswer, judged: Subject, scorers: Mapping[str, RegisteredScorer]
    ) -> list[ScoreResult]:
        if not scorers:
            return []
        try:
            results: list[ScoreResult] = await self._pool.call("score", request, answer, tuple(scorers))
        except WorkerLost:
            return await self._here.score(request, answer, judged, scorers)
        return results


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """The settings that a worker is started with. They hold no secret: scorers that call a model are not among
    these."""

    base_url: str
    sections: Mapping[str, ScorerConfig]
    """The scorers that compute a score from an answer."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """The state that a worker reports once it has started."""

    version: str
    """The version of this package there."""
    reachable: bool
    """True if the gateway answers its health check there."""
    has_key: bool
    """True if its environment has the key of the gateway."""
    scorers: Mapping[str, tuple[str, str]]
    """(version, config_hash) of the scorers that could be built there."""


@dataclass(frozen=True, slots=True)
class NoReply:
    """Reason why a call failed. It is not an exception, because some clusters cannot pass on exceptions of this
    package.
    """

    message: str
    late: bool
    """The deadline has passed."""

    def error(self) -> Unreachable:
        return DeadlinePassed(self.message) if self.late else Unreachable(self.message)


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A key on its way to a worker, which no message and no log shows."""

    value: str | None = field(repr=False)


class RemoteWorker:
    """One worker. Its methods are called from elsewhere, several at a time."""

    def __init__(self) -> None:
        self._connections = HttpConnections()
        self._threads = ScoringThreads()
        self._scorers: dict[str, RegisteredScorer] = {}
        self._client: GatewayClient | None = None
        self._base_url = ""

    async def start(self, setup: WorkerSetup) -> WorkerState:
        await self._connections.__aenter__()
        self._base_url, key = setup.base_url, replay_key()
        self._client = GatewayClient(setup.base_url, key, self._connections)
        for name, section in setup.sections.items():
            self._scorers |= _built(name, section)
        known = {name: (r.scorer.version, r.config_hash) for name, r in self._scorers.items()}
        reachable = await answers(setup.base_url.removesuffix("/v1"), self._connections)
        return WorkerState(__version__, reachable, key is not None, known)

    async def aclose(self) -> None:
        """Closes the connections of a worker whose process continues. A cluster ends the process instead."""
        self._threads.close()
        await self._connections.__aexit__()

    async def use_key(self, key: GatewayKey) -> None:
        self._client = GatewayClient(self._base_url, key.value, self._connections)

    async def ask(
        self, path: str, body: Mapping[str, Any], deadline_s: float, headers: Mapping[str, str]
    ) -> HttpReply | NoReply:
        assert self._client is not None  # noqa: S101 - it has been started
        try:
            return await self._client.ask(path, body, deadline_s=deadline_s, headers=headers)
        except Unreachable as error:
            return NoReply(str(error), isinstance(error, DeadlinePassed))

    async def score(self, request: ReplayRequest, answer: ReplayAnswer, names: Sequence[str]) -> list[ScoreResult]:
        """The results of these scorers, in this order."""
        wanted = {name: self._scorers[name] for name in names}
        return await score_all(wanted, subject(request, answer), lambda _: 0.0, self._threads, patient=True)


def sent_away(sections: Mapping[str, ScorerConfig], scorers: Mapping[str, RegisteredScorer]) -> dict[str, ScorerConfig]:
    """The scorers that a worker may compute: from the answer alone, without a model, a service or a budget."""
    return {name: sections[name] for name, r in scorers.items() if r.scorer.kind == "code" and not r.waits}


def _built(name: str, section: ScorerConfig) -> dict[str, RegisteredScorer]:
    """Empty where this machine lacks what the scorer needs: a package, a file, a plug-in."""
    try:
        return build({name: section})
    except ConfigError:
        return {}


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
    if is_loopback(host) and not is_loopback(address.host):
        raise CannotRun(
            f"the workers of {address} cannot reach {base_url}, which is on this machine only; "
            "start a gateway on an address that they reach, and give it with --gateway"
        )


async def _connected(address: RayAddress) -> Any:
    """The module ray, connected. Raises CannotRun."""
    try:
        ray = import_module("ray")
        import_module("ray.util.client")
    except ImportError as error:
        raise CannotRun(f"--on ray://… needs Ray: {install_command('ray')}") from error
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
    """Connects to the cluster. This takes half a minute where nothing answers, and then warns; the error has the same
    text."""
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
    """One line of Ray's long message: the first, with the last where that is the cause."""
    text = plain(str(error))
    missing = _MISSING.search(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if missing or not lines:
        return missing[0] if missing else type(error).__name__
    return f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]
