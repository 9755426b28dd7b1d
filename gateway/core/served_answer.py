"""The answers that the arms of a split served, and what a store knows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.core.exchange import Target
from gateway.core.learned_route import ROUTE

Cell = tuple[str, str, str, str]
"""Arm, alias, target and stratum of answers."""
ScoredRow = tuple[str, float | None, str]
"""(status, value in [0, 1], identity of the scorer)."""
ScoresByScorer = Mapping[str, Mapping[str, ScoredRow]]
"""scorer → exchange → its score."""
GivenFeedback = Mapping[str, Sequence[tuple[float, float]]]
"""exchange → (Unix seconds when it was given, value) of each person's."""


@dataclass(frozen=True, slots=True)
class ServedAnswer:
    """One recorded answer of an arm."""

    id: str
    arm: str
    unit: str
    """Unit of assignment: all its calls get the same arm."""
    cell: Cell
    """Arm, alias, target and stratum: pi is constant within."""
    outcome: str
    status: int
    total_s: float
    first_token_s: float | None
    output_tokens: int | None
    cost_usd: float | None
    pi: float
    client_bytes: int | None
    """Length of the body as its client sent it; None if it is not known."""
    received: float = 0.0
    """Unix seconds."""
    empty: bool = False
    """The answer holds nothing, and the plan counts that as failed."""
    caller: str = ""
    """The name of the key, or the subject of the token."""
    truncated: bool = False
    """The record's cap cut it."""
    tokens: int | None = None
    """Input and output; None if not known."""
    route: str | None = None
    """The learned route that chose the target, and the leaf."""
    fell_back: bool | None = None
    """Whether a target other than the one that the route chose has answered."""

    def is_own(self, target: Target) -> bool:
        """Whether the arm of this target gave the answer, and not a fallback."""
        if target.upstream != ROUTE:
            return self.cell[2] == str(target)
        return (self.route or "").startswith(f"{target.model}/") and not self.fell_back


@dataclass(frozen=True, slots=True)
class AnswerScores:
    """The scores of some served answers."""

    answers: ScoresByScorer
    runs: ScoresByScorer
    """Scores of whole runs, by the exchange that stands for the run."""


@dataclass(frozen=True, slots=True)
class SplitEvidence:
    """The answers of the control and of one candidate, and what is known of them."""

    answers: Sequence[ServedAnswer]
    """Those that their clients waited for, in order of arrival."""
    left: Sequence[ServedAnswer]
    """Those that their clients did not wait for, in order of arrival; () by the first rules."""
    units: Mapping[str, int]
    """arm → units assigned."""
    population: Mapping[Cell, int]
    """Answers by cell, recorded or not; {} if the counts are not of this plan alone."""
    history: Mapping[str, tuple[float, float]]
    """unit → (mean duration, share of failures) before the plan."""
    scores: AnswerScores
    feedback: Mapping[str, GivenFeedback]
    """Name of a feedback → what was given."""
