"""Types that a scorer reads and implements, and the golden cases it must pass. Results are in gateway.core.score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from gateway.core.completion import Completion, ToolCall
from gateway.core.exchange import CLIENT_ENDED, Exchange, Outcome
from gateway.core.run_steps import RunStep as RunStep
from gateway.core.score import Bounds, Direction, Kind, Score, ScorerInfo, Skipped
from gateway.scoring.text_facts import BatchTexts, TextFacts, facts_of_words


@dataclass(frozen=True, slots=True)
class Subject:
    """An exchange, parsed for scorers."""

    exchange: Exchange
    request: Mapping[str, Any]
    """The request body as JSON; {} when it is not a JSON object."""
    completion: Completion
    reference: str | None = None
    """The right answer, when the request's metadata or a dataset provides one."""
    expected_calls: str | None = field(default=None, kw_only=True)
    """The tool calls that are expected, as a JSON list, when a recorded run or a dataset provides them."""
    cost_usd: float | None = None
    """The cost of the exchange; None if its model has no price, or the upstream reported no usage."""
    batch: tuple[BatchTexts, int] | None = field(default=None, repr=False, compare=False)
    """The texts of all answers that are scored together, and the index of this one; None means that it is scored
    alone.
    """
    _words: list[list[str]] = field(default_factory=list, init=False, repr=False, compare=False)

    def words(self) -> Sequence[str]:
        """The answer's text, split at white space; computed once and shared by all scorers."""
        if not self._words:
            self._words.append(self.completion.text.split())
        return self._words[0]

    def text_facts(self) -> TextFacts:
        """Facts of the answer's text; cheaper than words() in a batch."""
        if self.batch is None:
            return facts_of_words(self.words())
        texts, index = self.batch
        return texts.facts(index)


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair of answers to the same request."""

    a: Subject
    """The served answer of the control."""
    b: Subject
    """The candidate's answer, or a second one of the control."""
    first: Literal["a", "b"] = "a"
    """The answer to show first; derived from a hash, so that every process shows the same order."""


@dataclass(frozen=True, slots=True)
class RunCall:
    """A call of a run, and its answer."""

    outcome: Outcome = "ok"
    status: int = 200
    finish_reason: str | None = "stop"
    text: str = ""
    refusal: str = ""
    error: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: int | None = None
    """Input and output; None if unknown."""
    cost_usd: float | None = None
    truncated: bool = False
    """The byte cap cut the request or the answer."""

    @property
    def failed(self) -> bool:
        return (self.outcome != "ok" and self.outcome not in CLIENT_ENDED) or self.status >= 400


@dataclass(frozen=True, slots=True)
class RunSubject:
    """A run that has been quiet for a while: the calls of one task, in order."""

    run_id: str
    calls: tuple[RunCall, ...]
    steps: tuple[RunStep, ...] = ()
    """Steps of the run: messages, calls and results, each once."""
    complete: bool = True
    """Whether no steps are missing; they are where a request was not recorded, or not to its end."""
    reaction: tuple[str, ...] | None = None
    """Signs in the user's last message on the answer before it (`feedback.implicit`); None if no language is
    configured."""


class Denied(Exception):
    """A scorer was denied access: a wrong key, an unpaid bill. The scorer is then blocked for minutes."""


class OverBudget(Exception):
    """The scorer's budget of the day does not cover another call; none was made."""


@dataclass(frozen=True, slots=True)
class Golden:
    """A case that a scorer must get right before it is registered."""

    name: str
    request: Mapping[str, Any]
    completion: Completion
    expected: float | None
    """The value, to within 1e-6; None: Skipped."""
    exchange: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the Exchange that differ from gateway.scoring.golden.PLAIN_EXCHANGE."""
    reference: str | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class GoldenPair:
    """A case that a pair scorer must get right before it is registered."""

    name: str
    request: Mapping[str, Any]
    a: Completion
    b: Completion
    expected: float | None
    """The value, to within 1e-6; None: Skipped."""
    exchange: Mapping[str, Any] = field(default_factory=dict)
    """Fields of both Exchanges that differ from gateway.scoring.golden.PLAIN_EXCHANGE."""
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class GoldenRun:
    """A case that a scorer of runs must get right before it is registered."""

    name: str
    run: RunSubject
    expected: float | None
    """The value, to within 1e-6; None: Skipped."""


class ScorerProperties(ScorerInfo, Protocol):
    """Properties of every scorer. Plain attributes satisfy them."""

    @property
    def name(self) -> str:
        """The scorer's name in the config."""

    @property
    def heavy(self) -> bool:
        """Whether a call takes more than a millisecond of CPU time and must run off the event loop."""


class Scorer(ScorerProperties, Protocol):
    """Scores one answer. Reads a subject; changes nothing.

    score() of a heavy scorer, and of one from another package, is called on a thread that belongs to this scorer and
    runs its own event loop.
    """

    async def score(self, subject: Subject) -> Score | Skipped: ...
    def golden(self) -> tuple[Golden, ...]: ...


@runtime_checkable
class ImmediateScorer(Protocol):
    """A scorer that can answer some subjects without waiting and without much computing."""

    def score_immediately(self, subject: Subject) -> Score | Skipped | None:
        """A result that takes less than a millisecond. None means that call score(), for a heavy scorer on its
        thread.
        """


@runtime_checkable
class PairScorer(ScorerProperties, Protocol):
    """Compares two answers. Reads a pair; changes nothing. Its bounds are (0, 1).

    direction "minimise": a symmetric distance, 0 for equal answers. "maximise": the preference for b over a, ½ for a
    tie. A failed answer never reaches a pair scorer: it counts as distance 1, or as a preference for the other answer.
    """

    async def compare(self, pair: Pair) -> Score | Skipped: ...
    def golden(self) -> tuple[GoldenPair, ...]: ...


@runtime_checkable
class RunScorer(ScorerProperties, Protocol):
    """Scores a run. Reads it; changes nothing."""

    async def score_run(self, run: RunSubject) -> Score | Skipped: ...
    def golden(self) -> tuple[GoldenRun, ...]: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """Base of most scorers of kind "code". Further fields of a subclass are its options in the config."""

    version: ClassVar[str] = "1"
    kind: ClassVar[Kind] = "code"
    direction: ClassVar[Direction] = "maximise"
    bounds: ClassVar[Bounds] = (0.0, 1.0)
    heavy: ClassVar[bool] = False

    name: str


@dataclass(frozen=True, slots=True)
class ImmediateRule(Rule):
    """Base of rules that answer every subject immediately: a plain call costs less than a coroutine."""

    def score_immediately(self, subject: Subject) -> Score | Skipped:
        raise NotImplementedError

    async def score(self, subject: Subject) -> Score | Skipped:
        return self.score_immediately(subject)


@dataclass(frozen=True, slots=True)
class DistanceScorer(Rule):
    """Base of distances between two answers. Further fields of a subclass are its options in the config."""

    direction: ClassVar[Direction] = "minimise"
    heavy: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class RunRule(Rule):
    """Base of rules on runs."""

    unit: Literal["run"] = "run"
    """Unit that it scores, for a config that names it."""

    async def score_run(self, run: RunSubject) -> Score | Skipped:
        raise NotImplementedError
