"""Questions of a probe, and what each reading did with them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.core.decision import Answer, DecisionRequest, Question
from gateway.core.providers import DecisionReading

LEAST_CASES = 8
"""Cases below which nothing is recommended."""


@dataclass(frozen=True, slots=True)
class ProbeCase:
    """One question about one state."""

    name: str
    """The question's name, which its cases share."""
    request: DecisionRequest
    """The request that asks this question alone."""
    right: int | None = None
    """The position of the right option; None if it is unknown."""

    @property
    def question(self) -> Question:
        return self.request.questions[0]


@dataclass(frozen=True, slots=True)
class CaseAnswers:
    """The answers to a case, with the options as they are and in the reverse order; a text is why there is none."""

    case: ProbeCase
    given: Answer | str
    reverse: Answer | str


@dataclass(frozen=True, slots=True)
class ReadingFigures:
    """The behaviour of one reading."""

    reading: DecisionReading
    cases: int
    answered: int
    """Cases with an answer in both orders."""
    unread: Mapping[str, int]
    """Answers that are missing, by reason."""
    flips: float | None = None
    """Share of the answered cases whose likeliest option changes with the order of the options."""
    by_order: float | None = None
    """Root mean square by which the order moves a probability."""
    by_state: float | None = None
    """The same for the state, within the same question."""
    label_mass: float | None = None
    """The median; None where the engine shows none."""
    right: int | None = None
    """Cases with the right option as the likeliest; None where no right answer is known."""
    labelled: int = 0
    """Answered cases whose right answer is known."""
    constant: float | None = None
    """The share of these that the best constant answer to each question would have right."""
    agreement: Mapping[str, float] = field(default_factory=dict)
    """Share of the cases that both answered with the same likeliest option, by the other reading."""
    refused: str = ""
    """Reason for which it is noise, with the figure; "" if it is not."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    alias: str
    questions: int
    """Different questions."""
    figures: tuple[ReadingFigures, ...]
    unavailable: Mapping[str, str]
    """Readings that cannot be asked at all, with the reason."""
    recommended: DecisionReading | None = None
