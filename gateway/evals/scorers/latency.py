"""Whether an answer came in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from gateway.core.completion import Completion
from gateway.core.exchange import Usage
from gateway.core.score import Score, Skipped
from gateway.evals.scorers.preconditions import require_answer
from gateway.evals.scoring.types import Golden, Rule, Subject

Seconds = Annotated[float, Field(gt=0)]
GONE = Skipped("a client that stayed to the end")
NOTHING = Skipped("a time for one of the objectives (first_token_s: a streamed answer; per_token_s: counted tokens)")


@dataclass(frozen=True, slots=True)
class Latency(Rule):
    """1: every objective that can be measured on this exchange is met; 0: one is missed, or the upstream timed out.

    first_token_s: until the first content of a stream. total_s: until the end; 10 by default, about what people wait
    for an answer they watch. per_token_s: between output tokens, after the first. None: no such objective.
    detail: the measured times, by the names of the objectives.
    """

    first_token_s: Seconds | None = None
    total_s: Seconds | None = 10.0
    per_token_s: Seconds | None = None

    def __post_init__(self) -> None:
        if self.first_token_s is None and self.total_s is None and self.per_token_s is None:
            raise ValueError("no objective: give first_token_s, total_s or per_token_s")

    async def score(self, subject: Subject) -> Score | Skipped:
        if subject.exchange.outcome == "client_gone":
            return GONE
        if subject.exchange.outcome == "timeout":
            return Score(0.0, "timed out", "the upstream did not answer in time", times(subject))
        skipped = require_answer(subject)
        return skipped if skipped is not None else self._judge(times(subject))

    def _judge(self, measured: dict[str, float]) -> Score | Skipped:
        wanted = (
            ("first_token_s", self.first_token_s),
            ("total_s", self.total_s),
            ("per_token_s", self.per_token_s),
        )
        known = [(n, limit) for n, limit in wanted if limit is not None and n in measured]
        if not known:
            return NOTHING
        missed = [f"{n} {measured[n]:.3g}, wanted {limit:g}" for n, limit in known if measured[n] > limit]
        if missed:
            return Score(0.0, "late", "; ".join(missed), measured)
        return Score(1.0, "in time", detail=measured)

    def golden(self) -> tuple[Golden, ...]:
        usage = Usage(10, 101)
        fast = {"total_s": 1e-6, "first_token_s": 1e-6, "stream": True}
        slow = {"total_s": 1e300, "first_token_s": 5e299, "stream": True}
        said = Completion("yes", finish_reason="stop", usage=usage)
        return (
            Golden("in time", {}, said, 1.0, fast),
            Golden("late", {}, said, 0.0, slow),
            Golden("the upstream timed out", {}, Completion(), 0.0, {"outcome": "timeout", "status": 504}),
            Golden("the client left", {}, said, None, {"outcome": "client_gone"}),
            Golden("the request was refused", {}, Completion(error="no"), None, {"status": 400}),
        )


def times(subject: Subject) -> dict[str, float]:
    """The times that are known of an exchange; per_token_s spreads what follows the first token over the others."""
    exchange, usage = subject.exchange, subject.completion.usage or subject.exchange.usage
    measured = {"total_s": exchange.total_s}
    begun, tokens = 0.0, usage.output_tokens if usage is not None else 0
    if exchange.stream and exchange.first_token_s is not None:
        measured["first_token_s"] = begun = exchange.first_token_s
        tokens -= 1
    if tokens > 0:
        measured["per_token_s"] = max(exchange.total_s - begun, 0.0) / tokens
    return measured
