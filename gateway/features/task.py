"""The context of a feature's task in the consumer, and its loop. Manifests name the functions that make the tasks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.config.config import Config
from gateway.core.errors import StreamDown
from gateway.core.exchange import Exchange
from gateway.core.notice import Notice
from gateway.core.plan import StoredPlan
from gateway.core.score import ScoreResult
from gateway.features.isolation import IsolatedWork, Work
from gateway.observability.eval_metrics import ExperimentFigures
from gateway.scoring.http_client import HttpConnections
from gateway.scoring.registry import BuiltScorers
from gateway.scoring.threads import ScoringThreads
from gateway.store.engine import Transaction
from gateway.store.plans import hold_lease, release_lease
from gateway.store.store import Store, StoreDown, WriteRejected
from gateway.stream import Corridor

log = logging.getLogger(__name__)


class NoticeSource(Protocol):
    """Finds notices for people."""

    @property
    def everywhere(self) -> bool:
        """Whether every consumer looks, and not only the one that sends."""

    async def look(self, now: float) -> Sequence[Notice]:
        """Returns the current notices; a cause that was found before is found again, under the same id. now: Unix
        seconds."""


Rescore = Callable[[Exchange, Collection[str]], Awaitable[Sequence[ScoreResult]]]
"""Scores an exchange by the deterministic ones of the named scorers, as the consumer does; nothing is stored."""
AfterStep = Callable[[Sequence[StoredPlan]], Awaitable[None]]
"""Called after each step of the experiments with all stored plans; a step of isolated work."""


@dataclass(frozen=True, slots=True)
class TaskContext:
    """One consumer, as its tasks see it."""

    config: Config
    store: Store
    corridor: Corridor
    connections: HttpConnections
    scorers: BuiltScorers
    threads: ScoringThreads
    name: str
    """Name of this consumer, unique among those that run: it holds leases."""
    figures: Callable[[], Sequence[ExperimentFigures]] = tuple
    """The newest figures of experiments; none, if another consumer computes them."""
    isolated: IsolatedWork = field(default_factory=IsolatedWork)
    """The isolation of this consumer's work."""
    notice_sources: Sequence[Callable[[TaskContext], NoticeSource]] = ()
    after_step: Sequence[Callable[[TaskContext], AfterStep]] = ()
    rescore: Rescore | None = None
    config_refused: Callable[[], str] = str
    """Reason why the newest gateway.yaml is not in force here; "" if it is."""

    @property
    def worker(self) -> TaskWorker:
        return TaskWorker(self.store, self.name, isolated=self.isolated)


@dataclass(frozen=True, slots=True)
class TaskWorker:
    """A consumer as the holder of leases: of work that one of the consumers does at a time."""

    store: Store
    name: str
    """Name of the consumer, unique among those that run."""
    clock: Callable[[], float] = time.time
    """Unix seconds."""
    isolated: IsolatedWork = field(default_factory=IsolatedWork)
    """The isolation of work of which a task has several: guards, routes."""

    async def leads(self, lease: str, keep_s: float) -> bool:
        """Takes or renews a lease. False if another consumer has it."""
        return await self.store.run(lambda connection: self.holds(connection, lease, keep_s))

    def holds(self, connection: Transaction, lease: str, keep_s: float) -> bool:
        return hold_lease(connection, lease, self.name, self.clock(), keep_s)

    async def release(self, lease: str) -> None:
        """Gives a lease back; where the store does not answer, it expires."""
        try:
            await self.store.run(lambda connection: release_lease(connection, lease, self.name))
        except (StoreDown, WriteRejected) as error:
            log.debug("the lease of %s ends by itself: %s", lease, error)


@dataclass(frozen=True, slots=True)
class PeriodicWork:
    """Work that takes a step every few seconds."""

    step: Callable[[], Awaitable[object]]
    every_s: float
    trouble: str = ""
    """Beginning of the log's line of a step that an outage ends, such as "routes are not watched now"; "": none."""
    at_most: float = 1.0
    """Share of the time that steps may take; long ones are rarer."""
    pause_s: Callable[[Any, float], float] | None = None
    """Seconds until the next step, from what the step returned and the seconds that it took; None: every_s, or more
    where at_most asks for it."""
    close: Callable[[], Awaitable[object]] | None = None
    """Called at the end."""

    def wait_s(self, done: object, took_s: float) -> float:
        if self.pause_s is not None:
            return self.pause_s(done, took_s)
        return max(self.every_s, took_s / self.at_most)


MadeTask = PeriodicWork | Coroutine[Any, Any, None] | None
TaskMaker = Callable[[TaskContext], MadeTask]
"""Returns periodic work, or a coroutine that runs until it is cancelled; None if the config needs no such task."""


async def keep_working(name: str, make: Callable[[], MadeTask], isolated: IsolatedWork) -> None:
    """Does the work of a task until it is cancelled, needs nothing, or is stopped. make: a TaskMaker with its
    context."""
    work = Work(name)
    while not isolated.is_stopped(work):
        try:
            of = make()
        except Exception as error:
            isolated.failed(work, error)
        else:
            if of is None:
                return
            await (_steps(work, of, isolated) if isinstance(of, PeriodicWork) else _serve(work, of, isolated))
        await asyncio.sleep(isolated.limits.retry_s)


async def _serve(work: Work, serving: Coroutine[Any, Any, None], isolated: IsolatedWork) -> None:
    """Runs a coroutine to its end. Raises nothing: an outage begins it again."""
    try:
        await isolated.attempt(work, lambda: serving, endless=True)
    except (StreamDown, StoreDown) as error:
        log.warning("%s: begun again in %g s: %s", work.name, isolated.limits.retry_s, error)


async def _steps(work: Work, of: PeriodicWork, isolated: IsolatedWork) -> None:
    """Takes steps until the work is stopped. Of outages in a row, the first is logged."""
    out = False
    try:
        while True:
            began, done = time.monotonic(), None
            try:
                done = await isolated.attempt(work, of.step)
                out = False
            except (StoreDown, StreamDown) as error:
                if of.trouble and not out:
                    log.warning("%s; tried again in %g s: %s", of.trouble, of.every_s, error)
                out = True
            if isolated.is_stopped(work):
                return
            failing = isolated.is_failing(work)
            await asyncio.sleep(isolated.limits.retry_s if failing else of.wait_s(done, time.monotonic() - began))
    finally:
        if of.close is not None:
            await of.close()
