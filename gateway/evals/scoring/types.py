"""The seam between consumer and opinions: a scorer reads one subject and says a score, or why it has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from gateway.core.completion import Completion
from gateway.core.exchange import Exchange
from gateway.core.score import Bounds, Direction, Kind, Score, Skipped


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged: an exchange, its request as parsed JSON ({} when it is none), and what its answer says.

    reference: the right answer, when the request's metadata or a dataset gives one. cost_usd: of the exchange; None:
    there is no price for its model, or no usage.
    """

    exchange: Exchange
    request: Mapping[str, Any]
    completion: Completion
    reference: str | None = None
    cost_usd: float | None = None
    _words: list[list[str]] = field(default_factory=list, init=False, repr=False, compare=False)

    def words(self) -> Sequence[str]:
        """Of the answer's text, split at white space: once, for all who ask."""
        if not self._words:
            self._words.append(self.completion.text.split())
        return self._words[0]


class Denied(Exception):
    """What a scorer raises that may not ask what it must ask: a wrong key, an unpaid bill. It is not asked again for
    minutes, and that shows."""


class OverBudget(Exception):
    """The budget of today does not reach; nothing was asked."""


@dataclass(frozen=True, slots=True)
class Golden:
    """A case a scorer must get right before it may register. expected: a value (to 1e-6), or None for Skipped.

    reference: the right answer, for scorers that compare with one. cost_usd: for those that look at it.
    """

    name: str
    request: Mapping[str, Any]
    completion: Completion
    expected: float | None
    exchange: Mapping[str, Any] = field(default_factory=dict)  # fields of the Exchange that differ from a plain one
    reference: str | None = None
    cost_usd: float | None = None


class Scorer(Protocol):
    """An opinion about an answer. Reads a subject; changes nothing.

    name: its name in the config. version: changes whenever old and new scores must not mix. kind: code, model, llm.
    direction: whether more is better. bounds: of the value; None on a side: unbounded. heavy: takes longer than a
    millisecond of CPU and runs off the event loop. Plain attributes do for all of them.

    score() of a heavy scorer, and of one that is not part of this package, is called on a thread with an event loop of
    its own, one for each scorer.
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

    async def score(self, subject: Subject) -> Score | Skipped: ...
    def golden(self) -> tuple[Golden, ...]: ...


@runtime_checkable
class ImmediateScorer(Protocol):
    """What a heavy scorer may also have: an answer at once, on the event loop, where that takes no longer than a
    millisecond. None: score() must be asked, on its thread."""

    def at_once(self, subject: Subject) -> Score | Skipped | None: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """What most scorers of kind "code" have in common. A rule's further fields are its options in the config."""

    version: ClassVar[str] = "1"
    kind: ClassVar[Kind] = "code"
    direction: ClassVar[Direction] = "maximise"
    bounds: ClassVar[Bounds] = (0.0, 1.0)
    heavy: ClassVar[bool] = False

    name: str
