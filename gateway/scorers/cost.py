"""Tests whether an exchange stayed within a price limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from gateway.core.completion import Completion
from gateway.core.score import Score, Skipped
from gateway.scoring.types import Golden, Rule, Subject

Usd = Annotated[float, Field(gt=0)]
UNKNOWN = Skipped("a cost: usage from the upstream, and a price for its model (`prices` in gateway.yaml)")


@dataclass(frozen=True, slots=True)
class Cost(Rule):
    """Scores 1 if the exchange cost at most max_usd, else 0. detail: cost_usd."""

    max_usd: Usd
    """USD for all attempts of the exchange together."""

    async def score(self, subject: Subject) -> Score | Skipped:
        cost_usd = subject.cost_usd
        if cost_usd is None:
            return UNKNOWN
        measured = {"cost_usd": cost_usd}
        if cost_usd <= self.max_usd:
            return Score(1.0, "within", detail=measured)
        return Score(0.0, "over", f"cost {cost_usd:.3g} USD, expected at most {self.max_usd:g}", measured)

    def golden(self) -> tuple[Golden, ...]:
        answer = Completion("yes", finish_reason="stop")
        return (
            Golden("free of charge", {}, answer, 1.0, cost_usd=0.0),
            Golden("just within", {}, answer, 1.0, cost_usd=self.max_usd),
            Golden("twice as much", {}, answer, 0.0, cost_usd=2 * self.max_usd),
            Golden("no price", {}, answer, None),
        )
