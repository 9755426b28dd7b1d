"""Hooks of features into the turns of a consumer, which reads, scores, stores and acknowledges, and shows figures each
second. Manifests name the functions that make them, once for each consumer. Work at its own pace is a task (task.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.features.task import TaskContext
    from gateway.observability.eval_metrics import EvalFigures
    from gateway.store.snapshot import StoreSnapshot
    from gateway.store.store import Store


class ShownFigures(Protocol):
    """Adds figures that were read to those of a moment. Called each second, and does no I/O."""

    def __call__(self, figures: EvalFigures, snapshot: StoreSnapshot, /) -> EvalFigures: ...


class ReadFigures(Protocol):
    """Reads figures. None: it only works on the store, and shows nothing."""

    async def __call__(self, store: Store, /) -> ShownFigures | None: ...


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures for Prometheus, read between two batches. A step of isolated work: others do not wait for one that is
    slow, and after one that raises, the figures that were read before it stay."""

    name: str
    """Name of the work in the log and in the consumer's report."""
    every_s: float
    """Seconds between two readings."""
    read: ReadFigures
    """Gets the store, whose queries have a budget."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of one feature, or of all."""

    figures: tuple[Figures, ...] = ()


class HookMaker(Protocol):
    """Makes the hooks of a feature for one consumer, which does not start if it raises."""

    def __call__(self, context: TaskContext, /) -> Hooks: ...


def joined(parts: Iterable[Hooks]) -> Hooks:
    """The hooks of several features, in their order."""
    return Hooks(figures=tuple(figures for part in parts for figures in part.figures))
