"""Work for remote workers: each call goes to the one with the fewest in flight, and a worker that is lost is replaced.

What a lost worker had in flight is the caller's again; nothing else of it is lost, since workers keep nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from gateway.core.score import ScoreResult
from gateway.features.replay.asking import ReplayRequest
from gateway.features.replay.remote_worker import NoReply
from gateway.features.replay.rows import ReplayAnswer
from gateway.features.replay.run import AnswerScoring, ReplayStopped
from gateway.scoring.http_client import HttpReply, Unreachable
from gateway.scoring.registry import RegisteredScorer
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
    """spawn: starts a worker; raises WorkerLost, or CannotRun if no worker could ever start."""

    def __init__(self, spawn: Spawn, workers: Sequence[WorkerHandle], most_losses: int = MOST_LOSSES) -> None:
        self._spawn, self._most_losses = spawn, most_losses
        self._in_flight: dict[WorkerHandle, int] = dict.fromkeys(workers, 0)
        self.size = len(workers)
        self._replacing = asyncio.Lock()
        self.losses = 0

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
            if self.losses > self._most_losses:
                raise ReplayStopped(f"{self.losses} workers of the cluster were lost; the cluster ends them")
            while len(self._in_flight) < self.size:
                try:
                    self._in_flight[await self._spawn()] = 0
                except WorkerLost as error:
                    self.losses += 1
                    if not self._in_flight and self.losses > self._most_losses:
                        raise ReplayStopped(
                            f"no worker of the cluster is left, and none can be started: {error}"
                        ) from error
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
        assert isinstance(reply, HttpReply)  # noqa: S101 - remote_worker.py returns one of the two
        return reply


class PooledScoring:
    """Scores answers on the workers, as far as they have the scorer; the rest, and what a lost worker had, here."""

    def __init__(self, pool: WorkerPool, remote: frozenset[str], here: AnswerScoring) -> None:
        self._pool, self._remote, self._here = pool, remote, here

    async def score(
        self, request: ReplayRequest, answer: ReplayAnswer, judged: Subject, scorers: Mapping[str, RegisteredScorer]
    ) -> list[ScoreResult]:
        """In the order of `scorers`, wherever each was computed."""
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
