"""A score and the result of scoring, as scorers return them and the store keeps them.

The `Scorer` protocol, and the code that runs scorers, live in `gateway.scoring`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

Kind = Literal["code", "model", "llm"]
Direction = Literal["maximise", "minimise", "neutral"]
Bounds = tuple[float | None, float | None]
"""The lowest and the highest value of a scorer; None: unbounded on that side."""
Status = Literal["scored", "not_applicable", "error", "timeout", "budget"]


@dataclass(frozen=True, slots=True)
class Spent:
    cost_usd: float | None = None
    """USD; None if a part of it has no known price."""
    judge_model: str | None = None
    """The model that was called, as "upstream/model"."""
    tokens: int | None = None
    """Input plus output."""


@dataclass(frozen=True, slots=True)
class Score:
    """A scorer's value for one subject."""

    value: float
    """A value in [0, 1], 1 is best, unless the scorer's `bounds` and `direction` say otherwise."""
    label: str | None = None
    """The value as a word for people."""
    explanation: str | None = None
    """The reason, for the reader of this one exchange."""
    detail: Mapping[str, float] = field(default_factory=dict)
    spent: Spent | None = None
    """Cost of the evaluation; None if it cost nothing."""
    standard_error: float | None = None
    """Standard error of the value, where it is a mean of several samples."""
    distribution: Mapping[str, float] | None = None
    """Verdict → probability, where the model returned them."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """The scorer does not apply to this subject."""

    need: str
    """The missing requirement, for example "a response_format of type json_schema"."""
    spent: Spent | None = None


class ScoreResult(NamedTuple):
    """The outcome of running one scorer on one subject."""

    scorer: str
    """The scorer's name in the config."""
    version: str
    config_hash: str
    status: Status
    score: Score | None
    """The score; None unless status is "scored"."""
    explanation: str | None
    """The score's own; what was missing, when not applicable; otherwise the error."""
    seconds: float
    pi: float
    """The probability that the scorer saw this subject, given that it was recorded."""
    spent: Spent | None = None
    """Cost, also if there is no score; None if nothing was spent, or the amount is unknown."""


class ScorerInfo(Protocol):
    """The facts about a scorer that decide how its scores are stored and summed."""

    @property
    def version(self) -> str:
        """Changes whenever old and new scores must not be averaged together."""

    @property
    def kind(self) -> Kind: ...
    @property
    def direction(self) -> Direction: ...
    @property
    def bounds(self) -> Bounds: ...


class ConfiguredScorer(Protocol):
    """A scorer with its options. Scores with different config hashes are never averaged together."""

    @property
    def scorer(self) -> ScorerInfo: ...
    @property
    def config_hash(self) -> str: ...


def unit_value(value: float, scorer: ScorerInfo) -> float | None:
    """A value rescaled to [0, 1] by the scorer's bounds and turned so that 1 is best; None if a bound is missing."""
    low, high = scorer.bounds
    if low is None or high is None or low == high:
        return None
    share = (value - low) / (high - low)
    return 1.0 - share if scorer.direction == "minimise" else share
