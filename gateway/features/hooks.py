"""Hooks of features into the turns of a consumer, which reads, scores, stores and acknowledges, and shows figures each
second. Manifests name the functions that make them, once for each consumer. Work at its own pace is a task (task.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio

    from gateway.features.task import MadeTask, TaskContext
    from gateway.observability.eval_metrics import EvalFigures
    from gateway.scoring.registry import RegisteredScorer
    from gateway.scoring.types import Subject
    from gateway.store.predictions import Prediction
    from gateway.store.rows import Turn
    from gateway.store.snapshot import StoreSnapshot
    from gateway.store.store import Store

HookT = TypeVar("HookT")


class Before(Protocol):
    """Decides about a batch before it is scored: which of its exchanges some scorers see. One feature has it."""

    async def predictions(self, subjects: Sequence[Subject]) -> Sequence[Prediction]:
        """One for each subject, in order. What it raises is logged, and the batch gets those without a model."""

    def without_model(self, subjects: Sequence[Subject]) -> Sequence[Prediction]: ...

    def drawn(self, prediction: Prediction | None, /) -> Mapping[str, RegisteredScorer]:
        """The scorers that see an exchange by its prediction."""

    @property
    def unguided(self) -> Mapping[str, RegisteredScorer]:
        """The scorers whose draws are not decided here, by name."""


class Scored(Protocol):
    """Reads each exchange that is scored: what it returns is stored with the scores. An exchange at which it raises
    becomes a dead letter. One feature has it."""

    def __call__(self, subject: Subject, /) -> Turn | None: ...


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


class CurrentFigures(Protocol):
    """Adds figures that the feature has in memory to those of a moment."""

    def __call__(self, figures: EvalFigures, /) -> EvalFigures: ...


class RunAlongside(Protocol):
    """Runs until stopping is set, and takes a last step after that. Isolates its own steps."""

    async def __call__(self, stopping: asyncio.Event, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Alongside:
    """Work next to the reading, which does not wait for it. The consumer leaves once it has ended."""

    name: str
    run: RunAlongside


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of one feature, or of all."""

    before: Before | None = None
    scored: Scored | None = None
    figures: tuple[Figures, ...] = ()
    current: tuple[CurrentFigures, ...] = ()
    alongside: tuple[Alongside, ...] = ()
    tasks: Mapping[str, Callable[[], MadeTask]] = field(default_factory=dict)
    """Tasks that share the state of these hooks, by name; others are in the manifest."""

    def with_current(self, figures: EvalFigures) -> EvalFigures:
        """The figures of a moment with those that features have in memory."""
        for add in self.current:
            figures = add(figures)
        return figures


class HookMaker(Protocol):
    """Makes the hooks of a feature for one consumer, which does not start if it raises."""

    def __call__(self, context: TaskContext, /) -> Hooks: ...


def joined(parts: Iterable[Hooks]) -> Hooks:
    """The hooks of several features, in their order. Raises ValueError if two have a hook that one may have."""
    parts = tuple(parts)
    return Hooks(
        before=_of_one_feature([part.before for part in parts if part.before is not None]),
        scored=_of_one_feature([part.scored for part in parts if part.scored is not None]),
        figures=tuple(figures for part in parts for figures in part.figures),
        current=tuple(add for part in parts for add in part.current),
        alongside=tuple(work for part in parts for work in part.alongside),
        tasks={name: make for part in parts for name, make in part.tasks.items()},
    )


def _of_one_feature(hooks: Sequence[HookT]) -> HookT | None:
    if len(hooks) > 1:
        raise ValueError(f"{len(hooks)} features have this hook, which one feature may have: {hooks}")
    return hooks[0] if hooks else None
