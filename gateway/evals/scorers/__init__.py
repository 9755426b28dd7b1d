"""The seam between consumer and opinions: a scorer reads one subject and says a score, or why it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from gateway.assembly import Completion
from gateway.exchange import Exchange


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged: an exchange, its request as parsed JSON ({} when it is none), and what its answer says.

    reference: the right answer, when the request's metadata or a dataset gives one.
    """

    exchange: Exchange
    request: Mapping[str, Any]
    completion: Completion
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """An opinion. value: in [0, 1], 1 is best, unless the scorer's `bounds` say otherwise. label: a word for people.
    explanation: why, for whoever looks at this one exchange."""

    value: float
    label: str | None = None
    explanation: str | None = None
    detail: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Not applicable to this subject. need: what would have made it so ("a response_format of type json_schema")."""

    need: str


@dataclass(frozen=True, slots=True)
class Golden:
    """A case a scorer must get right before it may register. expected: a value (to 1e-6), or None for Skipped."""

    name: str
    request: Mapping[str, Any]
    completion: Completion
    expected: float | None
    exchange: Mapping[str, Any] = field(default_factory=dict)  # fields of the Exchange that differ from a plain one


class Scorer(Protocol):
    """An opinion about an answer. Reads a subject; changes nothing.

    name: its name in the config. version: changes whenever old and new scores must not mix. kind: code, model, llm.
    direction: whether more is better. bounds: of the value; None on a side: unbounded. heavy: takes longer than a
    millisecond of CPU and runs off the event loop. score() may be called from another thread when heavy.
    """

    name: str
    version: str
    kind: Literal["code", "model", "llm"]
    direction: Literal["maximise", "minimise", "neutral"]
    bounds: tuple[float | None, float | None]
    heavy: bool

    async def score(self, subject: Subject) -> Score | Skipped: ...
    def golden(self) -> tuple[Golden, ...]: ...
