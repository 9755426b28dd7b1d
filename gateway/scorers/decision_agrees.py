"""The share of decisions in which two answers differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gateway.core.completion import Completion
from gateway.core.decision_schema import chosen
from gateway.core.score import Score, Skipped
from gateway.scorers.decision_right import NO_DECISION, REQUEST, decision_of
from gateway.scoring.types import DistanceScorer, GoldenPair, Pair


@dataclass(frozen=True, slots=True)
class DecisionAgrees(DistanceScorer):
    """The share of the schema's members for which two answers decide otherwise: 0 if they agree.

    A member that cannot be read in one of the answers counts as a difference.
    """

    heavy: ClassVar[bool] = False

    async def compare(self, pair: Pair) -> Score | Skipped:
        a, b = decision_of(pair.a), decision_of(pair.b)
        if a is None or b is None or a.schema != b.schema:
            return NO_DECISION
        pairs = list(zip(a.answers, b.answers, strict=True))
        differ = [one is None or other is None or chosen(one) != chosen(other) for one, other in pairs]
        return Score(sum(differ) / len(differ), detail={"decisions": float(len(differ))})

    def golden(self) -> tuple[GoldenPair, ...]:
        def case(name: str, a: str, b: str, expected: float | None) -> GoldenPair:
            return GoldenPair(name, REQUEST, Completion(a), Completion(b), expected)

        both = '{"team": "billing", "refund": true}'
        return (
            case("the same in another order", both, '{"refund": true, "team": "billing"}', 0.0),
            case("one of two", both, '{"team": "other", "refund": true}', 0.5),
            case("one is not JSON", both, "billing", 1.0),
            GoldenPair("no schema", {}, Completion(both), Completion(both), None),
        )
