"""The context of a feature's task in the consumer. Manifests name the functions that make the tasks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from gateway.config.config import Config
from gateway.core.errors import StreamDown
from gateway.core.notice import Notice
from gateway.observability.eval_metrics import ExperimentFigures
from gateway.scoring.http_client import HttpConnections
from gateway.scoring.registry import BuiltScorers
from gateway.scoring.threads import ScoringThreads
from gateway.store.engine import Transaction
from gateway.store.plans import hold_lease, release_lease
from gateway.store.store import Store, StoreDown, WriteRejected
from gateway.stream import Corridor

log = logging.getLogger(__name__)
T = TypeVar("T")


class NoticeSource(Protocol):
    """Finds notices for people."""

    @property
    def everywhere(self) -> bool:
        """Whether every consumer looks, and not only the one that sends."""

    async def look(self, now: float) -> Sequence[Notice]:
        """Returns the current notices; a cause that was found before is found again, under the same id. now: Unix
        seconds."""


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
    notice_sources: Sequence[Callable[[TaskContext], NoticeSource]] = ()
    config_refused: Callable[[], str] = str
    """Reason why the newest gateway.yaml is not in force here; "" if it is."""

    @property
    def worker(self) -> TaskWorker:
        return TaskWorker(self.store, self.name)


@dataclass(frozen=True, slots=True)
class TaskWorker:
    """A consumer as the holder of leases: of work that one of the consumers does at a time."""

    store: Store
    name: str
    """Name of the consumer, unique among those that run."""
    clock: Callable[[], float] = time.time
    """Unix seconds."""

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


TaskMaker = Callable[[TaskContext], Coroutine[Any, Any, None] | None]
"""Returns a coroutine that runs until it is cancelled; None if the config needs no such task."""


async def repeat(step: Callable[[], Awaitable[object]], every_s: float, trouble: str, *, at_most: float = 1.0) -> None:
    """Takes a step every few seconds until it is cancelled. trouble: what the log says of a failed step, such as
    "routes are not watched now"; of failures in a row, it has the first. at_most: share of the time that steps may
    take; long ones are rarer."""
    failing = False
    while True:
        began = time.monotonic()
        try:
            await step()
            failing = False
        except (StoreDown, StreamDown, WriteRejected) as error:
            if not failing:
                log.warning("%s; tried again in %g s: %s", trouble, every_s, error)
            failing = True
        await asyncio.sleep(max(every_s, (time.monotonic() - began) / at_most))


class LoopStep:
    """A step of a loop that no error may end. Of failures in a row, the first is logged."""

    def __init__(self, what: str, every_s: float) -> None:
        """what: begins the log's line. every_s: when the loop takes the next step."""
        self._what, self._every_s = what, every_s
        self._failure_logged = False

    async def survive(self, step: Callable[[], Awaitable[T]]) -> T | None:
        """None: the step failed."""
        try:
            done = await step()
        except (StreamDown, StoreDown):
            return None  # the reader of the stream logs it
        except Exception:
            if not self._failure_logged:
                log.exception("%s: a step failed; retrying", self._what, extra={"retry_in_s": self._every_s})
            self._failure_logged = True
            return None
        self._failure_logged = False
        return done
