"""The context of a feature's task in the consumer. Manifests name the functions that make the tasks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from gateway.config.config import Config
from gateway.scoring.http_client import HttpConnections
from gateway.scoring.registry import BuiltScorers
from gateway.scoring.threads import ScoringThreads
from gateway.store.store import Store
from gateway.stream import Corridor


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


TaskMaker = Callable[[TaskContext], Coroutine[Any, Any, None] | None]
"""Returns what runs until it is cancelled; None: the config needs no such task."""
