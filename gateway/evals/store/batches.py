"""What one transaction writes, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from gateway.core.exchange import Exchange, Feedback, Tally
from gateway.core.score import ConfiguredScorer
from gateway.evals.store.buckets import bucket_of
from gateway.evals.store.rows import ScoredExchange


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """What was read from the stream and judged. tallies: with the stream id of their entry.

    scorers: those at work, by name; the population that a Tally reports counts for each of them.
    """

    scorers: Mapping[str, ConfiguredScorer]
    judged: Sequence[ScoredExchange] = ()
    tallies: Sequence[tuple[str, Tally]] = ()
    feedback: Sequence[Feedback] = ()


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A dead letter. entry: its id in the stream. exchange: None where the entry could not be read."""

    entry: str
    reason: str
    error: str
    at: float
    exchange: Exchange | None = None


@dataclass(frozen=True, slots=True)
class WriteResult:
    """new: exchanges stored now. duplicates: exchanges that were there before. met: what became of feedback."""

    new: int = 0
    duplicates: int = 0
    met: Sequence[JoinedFeedback] = ()


@dataclass(frozen=True, slots=True)
class JoinedFeedback:
    """What is known of one word of feedback. at: when it was said. exchange: ours, of the caller; None: none is here,
    or, where foreign, only somebody else's."""

    feedback_id: str
    at: float
    exchange: str | None = None
    foreign: bool = False

    def to_json(self) -> str:
        return orjson.dumps({"at": self.at, "exchange": self.exchange, "foreign": self.foreign}).decode()


@dataclass(frozen=True, slots=True)
class CellKey:
    """Whose scores are summed together. model: "upstream/model"; arm: "" for none."""

    scorer: str
    version: str
    config_hash: str
    alias: str
    model: str
    arm: str
    stratum: str


@dataclass(slots=True)
class CellDelta:
    """What newly stored scores add to one cell. unit_*: what its sums over units gain beyond scored, total and squares,
    since some scores belong to one unit."""

    scored: int = 0
    not_applicable: int = 0
    error: int = 0
    timeout: int = 0
    budget: int = 0
    total: float = 0.0
    squares: float = 0.0
    inverse_pi: float = 0.0
    unit_sizes: float = 0.0
    unit_products: float = 0.0
    unit_squares: float = 0.0
    buckets: dict[int, int] = field(default_factory=dict)

    def add(self, value: float, bounds: tuple[float, ...]) -> None:
        """One more that scored. bounds: of the histogram."""
        self.scored += 1
        self.total += value
        self.squares += value * value
        bucket = bucket_of(value, bounds)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
