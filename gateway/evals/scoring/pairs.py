"""Opinions about two answers to one question: how far apart they are, or which is better. Distances are symmetric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from gateway.core.completion import Completion
from gateway.core.score import Bounds, Direction, Kind, Score, Skipped
from gateway.evals.scoring.types import Subject


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to the same request. a: the served answer of the control. b: the same question's other answer, by a
    candidate or by the control asked again. first: which one a scorer that asks in one order shows first; drawn by
    hash, so that it is the same in every process."""

    a: Subject
    b: Subject
    first: Literal["a", "b"] = "a"


@dataclass(frozen=True, slots=True)
class GoldenPair:
    """A case a pair scorer must get right before it may register. expected: a value (to 1e-6), or None for Skipped."""

    name: str
    request: Mapping[str, Any]
    a: Completion
    b: Completion
    expected: float | None
    exchange: Mapping[str, Any] = field(default_factory=dict)  # fields of both Exchanges that differ from plain ones
    reference: str | None = None


@runtime_checkable
class PairScorer(Protocol):
    """An opinion about two answers. Reads a pair; changes nothing.

    Attributes as a Scorer's. direction "minimise": a distance in [0, 1], 0 for the same; "maximise": the preference
    for b over a in [0, 1], ½ for a tie. bounds are (0, 1). Arms that failed are never shown to a pair scorer: they
    count as a distance of 1, or as a preference for the other.

    compare() of a heavy scorer, and of one that is not part of this package, is called on a thread of its own.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def direction(self) -> Direction: ...
    @property
    def bounds(self) -> Bounds: ...
    @property
    def heavy(self) -> bool: ...

    async def compare(self, pair: Pair) -> Score | Skipped: ...
    def golden(self) -> tuple[GoldenPair, ...]: ...


@dataclass(frozen=True, slots=True)
class DistanceScorer:
    """What distances of kind "code" have in common. A distance's further fields are its options in the config."""

    version: ClassVar[str] = "1"
    kind: ClassVar[Kind] = "code"
    direction: ClassVar[Direction] = "minimise"
    bounds: ClassVar[Bounds] = (0.0, 1.0)
    heavy: ClassVar[bool] = True

    name: str
