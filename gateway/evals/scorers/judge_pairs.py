"""A judge of two answers, shown to it in both orders: a preference that turns with the order is a tie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gateway.core.completion import Completion
from gateway.evals.scorers.answered import unanswered
from gateway.evals.scorers.judging import material, verdicts
from gateway.evals.scorers.judging.model import JudgeModel, JudgeQuestion, JudgeVerdict
from gateway.evals.scorers.judging.repeats import RepeatedVerdict, RepeatPolicy, score
from gateway.evals.scorers.judging.templates import Template
from gateway.evals.scoring.asker import total
from gateway.evals.scoring.pairs import GoldenPair, Pair
from gateway.evals.scoring.types import Bounds, Direction, Kind, Score, Skipped

Side = Literal["a", "b"]
_TOLD = 'Answer with one JSON object: {"reason": "…", "better": "1"}, where better is "1", "2" or "neither".'
_FORM = verdicts.schema(
    "verdict", {"reason": {"type": "string"}, "better": {"type": "string", "enum": ["1", "2", "neither"]}}
)


@dataclass(frozen=True, slots=True)
class PairwiseJudge:
    """The preference for b over a: 1, 0, or ½ for a tie. Answers that are the same are a tie, and nobody is asked.

    detail: flip: 1 where the order decided. first_slot: 1 where, in the order that the pair drew, the answer shown
    first won; ½ where neither did.
    """

    version: ClassVar[str] = "1"
    kind: ClassVar[Kind] = "llm"
    direction: ClassVar[Direction] = "maximise"
    bounds: ClassVar[Bounds] = (0.0, 1.0)
    heavy: ClassVar[bool] = False

    name: str
    asked: JudgeModel
    template: Template
    criterion: str
    repeats: RepeatPolicy

    @property
    def fingerprint(self) -> str:
        return self.template.digest

    @property
    def models(self) -> tuple[str, ...]:
        """The aliases it asks."""
        return (self.asked.model,)

    async def compare(self, pair: Pair) -> Score | Skipped:
        if skipped := unanswered(pair.a) or unanswered(pair.b):
            return skipped
        texts = {"a": material.answer(pair.a.completion), "b": material.answer(pair.b.completion)}
        if texts["a"].strip() == texts["b"].strip():
            return Score(0.5, "the same", "both answers say the same")
        return await score(lambda seed: self._both_orders(pair, texts, seed), self.repeats)

    async def _both_orders(self, pair: Pair, texts: Mapping[str, str], seed: int) -> RepeatedVerdict:
        second: Side = "b" if pair.first == "a" else "a"
        drawn = await self._winner(pair, texts, pair.first, seed)
        turned = await self._winner(pair, texts, second, seed)
        won = {1: pair.first, 2: second}.get(drawn.said), {1: second, 2: pair.first}.get(turned.said)
        flip = None not in won and won[0] != won[1]
        value = sum({"a": 0.0, "b": 1.0}.get(side or "", 0.5) for side in won) / 2
        return RepeatedVerdict(
            value=value,
            reason=_reason(drawn, turned, pair.first, flip),
            label="tie" if value == 0.5 else "b" if value > 0.5 else "a",
            spent=total([v.spent for v in (drawn, turned) if v.spent is not None]),
            detail={"flip": float(flip), "first_slot": {1: 1.0, 2: 0.0}.get(drawn.said, 0.5)},
        )

    async def _winner(self, pair: Pair, texts: Mapping[str, str], first: Side, seed: int) -> JudgeVerdict[int]:
        """1, 2, or 0 for neither; as they were shown."""
        shown = (texts["a"], texts["b"]) if first == "a" else (texts["b"], texts["a"])
        given = {
            "conversation": material.conversation(pair.a.request),
            "answer_1": shown[0],
            "answer_2": shown[1],
            "reference": pair.a.reference or "",
        }
        messages = self.template.messages({"criterion": self.criterion}, given, _TOLD)
        return await self.asked.verdict(JudgeQuestion(messages, "better", _FORM, _better, seed))

    def golden(self) -> tuple[GoldenPair, ...]:
        paris = Completion("Paris", finish_reason="stop")
        failed = Completion(error="overloaded")
        return (
            GoldenPair("the same answer twice is a tie", {}, paris, paris, 0.5),
            GoldenPair("no answer", {}, failed, failed, None, {"status": 503}),
        )


def _better(verdict: dict[str, Any]) -> int:
    said = str(verdict["better"]).strip().lower()
    places = {"1": 1, "answer 1": 1, "2": 2, "answer 2": 2, "neither": 0, "tie": 0, "both": 0, "equal": 0, "0": 0}
    if said not in places:
        raise verdicts.NoVerdict(f'"better" is {verdict["better"]!r}, expected "1", "2" or "neither"')
    return places[said]


def _reason(drawn: JudgeVerdict[int], turned: JudgeVerdict[int], first: Side, flip: bool) -> str:
    order = f"with {first} first: {verdicts.reason(drawn.raw) or 'no reason given'}"
    other = f"the other way round: {verdicts.reason(turned.raw) or 'no reason given'}"
    return f"{'The order decided, so it is a tie. ' if flip else ''}{order} — {other}"
