"""Tests whether an answer met its latency objectives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from gateway.core.completion import Completion
from gateway.core.exchange import CLIENT_ENDED, Usage
from gateway.core.score import Score, Skipped
from gateway.scorers.preconditions import require_answer
from gateway.scoring.types import Golden, ImmediateRule, Subject

Seconds = Annotated[float, Field(gt=0)]
CLIENT_GONE = Skipped("a client that stayed to the end")
NO_TIME = Skipped("a time for one of the objectives (first_token_s: a streamed answer; per_token_s: counted tokens)")


@dataclass(frozen=True, slots=True)
class Latency(ImmediateRule):
    """Scores 1 if every objective that can be measured is met, 0 if one is missed or the upstream timed out.

    An objective of None is not checked. detail: the measured times, by the names of the objectives.
    """

    first_token_s: Seconds | None = None
    """Seconds until the first content of a stream."""
    total_s: Seconds | None = 10.0
    """Seconds until the end; 10 is about as long as people wait for an answer that they watch."""
    per_token_s: Seconds | None = None
    """Seconds between output tokens, after the first."""

    def __post_init__(self) -> None:
        if self.first_token_s is None and self.total_s is None and self.per_token_s is None:
            raise ValueError("no objective: set first_token_s, total_s or per_token_s")

    def score_immediately(self, subject: Subject) -> Score | Skipped:
        if subject.exchange.outcome in CLIENT_ENDED:
            return CLIENT_GONE
        if subject.exchange.outcome == "timeout":
            return Score(0.0, "timed out", "the upstream did not answer in time", times(subject))
        skipped = require_answer(subject)
        return skipped if skipped is not None else self._compare(times(subject))

    def _compare(self, measured: dict[str, float]) -> Score | Skipped:
        wanted = (
            ("first_token_s", self.first_token_s),
            ("total_s", self.total_s),
            ("per_token_s", self.per_token_s),
        )
        compared, missed = False, []
        for name, limit in wanted:
            if limit is not None and name in measured:
                compared = True
                if measured[name] > limit:
                    missed.append(f"{name} {measured[name]:.3g}, expected at most {limit:g}")
        if not compared:
            return NO_TIME
        if missed:
            return Score(0.0, "late", "; ".join(missed), measured)
        return Score(1.0, "in time", detail=measured)

    def golden(self) -> tuple[Golden, ...]:
        usage = Usage(10, 101)
        fast = {"total_s": 1e-6, "first_token_s": 1e-6, "stream": True}
        slow = {"total_s": 1e300, "first_token_s": 5e299, "stream": True}
        answer = Completion("yes", finish_reason="stop", usage=usage)
        return (
            Golden("in time", {}, answer, 1.0, fast),
            Golden("late", {}, answer, 0.0, slow),
            Golden("the upstream timed out", {}, Completion(), 0.0, {"outcome": "timeout", "status": 504}),
            Golden("the client left", {}, answer, None, {"outcome": "client_gone"}),
            Golden("the request was refused", {}, Completion(error="no"), None, {"status": 400}),
        )


def times(subject: Subject) -> dict[str, float]:
    """The known times of an exchange; per_token_s is the time after the first token, divided by the other tokens."""
    exchange, usage = subject.exchange, subject.completion.usage or subject.exchange.usage
    measured = {"total_s": exchange.total_s}
    first_token_s, tokens = 0.0, usage.output_tokens if usage is not None else 0
    if exchange.stream and exchange.first_token_s is not None:
        measured["first_token_s"] = first_token_s = exchange.first_token_s
        tokens -= 1
    if tokens > 0:
        measured["per_token_s"] = max(exchange.total_s - first_token_s, 0.0) / tokens
    return measured
