"""The context of a feature's task in the consumer. Manifests name the functions that make the tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.config.config import Config
from gateway.core.errors import StreamDown
from gateway.core.notice import Notice
from gateway.observability.eval_metrics import ExperimentFigures
from gateway.scoring.http_client import HttpConnections
from gateway.scoring.registry import BuiltScorers
from gateway.scoring.threads import ScoringThreads
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


TaskMaker = Callable[[TaskContext], Coroutine[Any, Any, None] | None]
"""Returns a coroutine that runs until it is cancelled; None: the config needs no such task."""


async def repeat(step: Callable[[], Awaitable[object]], every_s: float, trouble: str) -> None:
    """Takes a step every few seconds until it is cancelled. trouble: what the log says of a failed step, such as
    "routes are not watched now"."""
    while True:
        try:
            await step()
        except (StoreDown, StreamDown, WriteRejected) as error:
            log.warning("%s; tried again in %g s: %s", trouble, every_s, error)
        await asyncio.sleep(every_s)
