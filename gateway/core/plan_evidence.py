"""The evidence on one plan that a store hands to a verdict: counts of pairs, checks of requests, rows of a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MIN_PAIRS = 20  # fewest pairs from which a pace, a share or a variance is estimated
_DAY_S = 86_400.0
AFTER_VERDICT = "after_verdict"
"""Reason of a pair that was drawn once every candidate had its verdict."""


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Pairs of a plan by state. not_asked: by reason. first, last: Unix seconds of those that are joined or lost."""

    joined: int = 0
    lost: int = 0
    open: int = 0
    not_asked: Mapping[str, int] | None = None
    first: float | None = None
    last: float | None = None

    @property
    def offered_share(self) -> float:
        """The share of the drawn requests that became pairs; 1.0 before anything is known."""
        drawn = self.joined + self.lost + sum((self.not_asked or {}).values())
        return self.joined / drawn if self.joined >= MIN_PAIRS else 1.0

    @property
    def a_day(self) -> float | None:
        """Pairs settled per day; None if there are too few pairs to tell."""
        if self.first is None or self.last is None or self.joined < MIN_PAIRS:
            return None
        return _DAY_S * self.joined / max(self.last - self.first, 1.0)


@dataclass(frozen=True, slots=True)
class RequestChecks:
    """Compares the request of each record of an experiment's shadow arms with the request of the served answer."""

    same: int = 0
    different: int = 0
    translated: int = 0
    """Sent in the format of another API, so that the bytes cannot be compared."""
    example: str | None = None
    """Id of the served exchange of a pair whose requests differ."""


@dataclass(frozen=True, slots=True)
class ScorerFacts:
    """Facts about one version of a scorer, from stored scores."""

    kind: str
    """Kind of scorer: code, model, llm or human."""
    turned: bool
    """Whether less is better; the value in [0, 1], 1 being best, is then 1 minus the value that the scorer returned."""
    binary: bool
    """Every score that was looked at is 0 or 1."""


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """A pair's difference, and the properties of its request."""

    difference: float
    caller: str
    alias: str
    api: str
    stream: bool
    request_bytes: int
    request: bytes | None
    """The request's body; None if it is large."""
    language: str | None
    """Language that the scorer `language` expected of the served answer; None if it is not known."""
    tags: str = ""
    """Tags as in Exchange.tags; "": none."""
    place: int = 0
    """Index of the pair in its plan."""
    cluster: str | None = None
    segments: Mapping[str, str] = field(default_factory=dict)
    """Declared property → the value that the gateway read when the call arrived."""
