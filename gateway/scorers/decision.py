"""Judges by a decision model, called through the gateway (`use: decision`): each question is a scorer of its own, and
the questions of a section share one call for each answer. judging/panel.py asks, judging/decision_questions.py reads.

A question without a usable answer is an error with its reason, and never a score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.core.completion import Completion
from gateway.core.randomization import draw
from gateway.core.score import Bounds, Direction, Kind, Score, Skipped, Spent
from gateway.scorers.judging import material
from gateway.scorers.judging.decision_questions import (
    PROMPT_VERSION,
    DecidedAnswer,
    JudgedQuestion,
    label_of,
    sentences,
    value_of,
)
from gateway.scorers.judging.model import JudgeModel, JudgeQuestion, read_reason, response_format
from gateway.scorers.judging.panel import DecisionPanel, QuestionOutcome
from gateway.scorers.judging.templates import fence_rule, fence_texts
from gateway.scorers.judging.trajectory import trajectory_text
from gateway.scorers.preconditions import require_answer
from gateway.scoring.asker import Asker, total_spent
from gateway.scoring.options import InvalidOptions, ScorerOptions
from gateway.scoring.types import Golden, GoldenPair, GoldenRun, Pair, RunCall, RunSubject, Subject

_MISSING = {"reference": Skipped("a reference"), "context": Skipped("a context: system or tool messages")}
NO_SENTENCE = Skipped("an answer in text")
NO_STEPS = Skipped("a run whose content is recorded")
INCOMPLETE_RUN = Skipped("a run whose requests are recorded to their end")
_REASON = response_format("reason", {"reason": {"type": "string"}})


class ReasonOptions(BaseModel):
    """A text judge that explains a few of the scores. Its text is for people and never changes a score."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=1)]
    """The alias of a chat model."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.02


@dataclass(frozen=True, slots=True)
class DecisionOptions(ScorerOptions):
    """A question of a section in the config; `panel` is the section's name."""

    model: Annotated[str, Field(min_length=1)]
    """The alias to call."""
    question: JudgedQuestion
    panel: str = ""
    unit: Literal["call", "run"] = "call"
    """run: asks about the whole trajectory of a run."""
    most_tokens: Annotated[int, Field(ge=200, le=15_000)] = 12_000
    """Approximate maximum for a trajectory."""
    context: str | None = None
    """Path to the context in the request; None: its system and tool messages."""
    reasons: ReasonOptions | None = None


def decision(
    name: str, asker: Asker, panels: dict[str, DecisionPanel], options: DecisionOptions
) -> AnswerDecision | PairDecision | RunDecision:
    """The scorer of one question. panels: those of this config so far, by section. Raises InvalidOptions."""
    question = options.question
    if options.unit == "run" and (question.prefer or question.needs or question.by_sentence):
        raise InvalidOptions([".question: of a run, only a predicate, a score or a choice can be asked"])
    of_pairs = question.prefer is not None
    shared = f"{options.panel or name}\0{'pair' if of_pairs else options.unit}"
    panel = panels.setdefault(shared, DecisionPanel(asker, options.model))
    panel.add(name, question)
    reasons = options.reasons
    explainer = Explainer(JudgeModel(asker, reasons.model), reasons.share, question.text) if reasons else None
    settings = DecisionSettings(panel, question, options, explainer)
    kind = PairDecision if of_pairs else RunDecision if options.unit == "run" else AnswerDecision
    return kind(name, settings)


@dataclass(frozen=True, slots=True)
class Explainer:
    """Asks a chat model why an answer scored as it did, for a share of the subjects by their id."""

    model: JudgeModel
    share: float
    question: str

    async def explain(
        self, name: str, unit: str, texts: Mapping[str, str], label: str
    ) -> tuple[str | None, Spent | None]:
        """(the reason, the cost); (None, None) for subjects outside the share, and where the model gives no reason."""
        if draw(f"reason:{name}", unit) >= self.share:
            return None, None
        fenced, mark = fence_texts(texts)
        content = "\n\n".join(
            [
                fence_rule(mark),
                *fenced.values(),
                f'The verdict on "{self.question}" was: {label}. Say why, in one sentence.',
            ]
        )
        asked = JudgeQuestion([{"role": "user", "content": content}], "reason", _REASON, read_reason)
        try:
            verdict = await self.model.verdict(asked)
        except Exception as error:  # a score needs no reason
            spent = getattr(error, "spent", None)
            return None, spent if isinstance(spent, Spent) else None
        return verdict.value, verdict.spent


@dataclass(frozen=True, slots=True)
class DecisionSettings:
    panel: DecisionPanel
    question: JudgedQuestion
    options: DecisionOptions
    explainer: Explainer | None


@dataclass(frozen=True, slots=True)
class DecisionScorer:
    """Base of the three kinds: what is asked about an answer, a pair, a run."""

    version: ClassVar[str] = "1"
    kind: ClassVar[Kind] = "llm"
    bounds: ClassVar[Bounds] = (0.0, 1.0)
    heavy: ClassVar[bool] = False
    unhashed: ClassVar[tuple[str, ...]] = ("panel", "reasons", "unit")

    name: str
    settings: DecisionSettings

    @property
    def direction(self) -> Direction:
        return "minimise" if self.settings.question.canary else "maximise"

    @property
    def fingerprint(self) -> str:
        return f"prompt {PROMPT_VERSION}"

    @property
    def models(self) -> tuple[str, ...]:
        """The aliases that it calls."""
        reasons = self.settings.options.reasons
        return (self.settings.panel.model, *((reasons.model,) if reasons else ()))

    async def aclose(self) -> None:
        await self.settings.panel.aclose()

    async def explained(self, unit: str, texts: Mapping[str, str], score: Score) -> Score:
        """The score, with a reason where this subject is one of those that get one."""
        explainer = self.settings.explainer
        if explainer is None:
            return score
        reason, spent = await explainer.explain(self.name, unit, texts, score.label or "")
        parts = [part for part in (score.spent, spent) if part is not None]
        return Score(
            score.value, score.label, reason, score.detail, total_spent(parts), distribution=score.distribution
        )


class AnswerDecision(DecisionScorer):
    """A question about one answer."""

    __slots__ = ()

    async def score(self, subject: Subject) -> Score | Skipped:
        question = self.settings.question
        if skipped := require_answer(subject):
            return skipped
        texts = self._texts(subject)
        if question.needs and not texts.get(question.needs):
            return _MISSING[question.needs]
        if question.by_sentence and not sentences(texts["answer"]):
            return NO_SENTENCE
        outcome = await self.settings.panel.ask(self.name, subject, lambda: texts)
        return await self.explained(subject.exchange.unit, texts, scored(question, outcome))

    def _texts(self, subject: Subject) -> dict[str, str]:
        texts = {
            "conversation": material.conversation(subject.request),
            "answer": material.answer(subject.completion),
            "reference": subject.reference or "",
            "context": material.context(subject.request, self.settings.options.context).strip(),
        }
        return {name: text for name, text in texts.items() if text}

    def golden(self) -> tuple[Golden, ...]:
        """Cases that need no call."""
        return (
            Golden("a rejected request has no answer", {}, Completion(error="overloaded"), None, {"status": 503}),
            Golden("embeddings have no answer", {}, Completion(), None, {"api": "embeddings"}),
        )


class PairDecision(DecisionScorer):
    """The preference for b over a, the mean over both orders; equal answers are a tie without a call.

    Exchanging a and b gives 1 minus the value, so a model that prefers a position adds variance and no bias. detail:
    order_effect, the distance of the two orders' values; flip, 1 when the preference changed with the order;
    first_slot, 1 when the answer shown first in pair.first's order won, ½ when neither did.
    """

    __slots__ = ()

    async def compare(self, pair: Pair) -> Score | Skipped:
        if skipped := require_answer(pair.a) or require_answer(pair.b):
            return skipped
        a, b = (material.answer(side.completion) for side in (pair.a, pair.b))
        if a.strip() == b.strip():
            return Score(0.5, "the same", "both answers are equal")
        if self.settings.question.needs == "reference" and not pair.a.reference:
            return _MISSING["reference"]
        orders = ("ab", "ba") if pair.first == "a" else ("ba", "ab")
        outcomes = [await self._in_order(pair, a, b, order) for order in orders]
        values = [_for_b(self.settings.question, *each) for each in zip(orders, outcomes, strict=True)]
        value = sum(values) / 2
        first = values[0] if pair.first == "b" else 1.0 - values[0]
        return Score(
            value,
            "tie" if value == 0.5 else "b" if value > 0.5 else "a",
            detail={
                "order_effect": abs(values[0] - values[1]),
                "flip": float((values[0] - 0.5) * (values[1] - 0.5) < 0),
                "first_slot": 0.5 if first == 0.5 else float(first > 0.5),
            },
            spent=total_spent([each.spent for each in outcomes if each.spent is not None]),
        )

    async def _in_order(self, pair: Pair, a: str, b: str, order: str) -> QuestionOutcome:
        shown = (a, b) if order == "ab" else (b, a)
        texts = {
            "conversation": material.conversation(pair.a.request),
            "answer_1": shown[0],
            "answer_2": shown[1],
            **({"reference": pair.a.reference} if pair.a.reference else {}),
        }
        return await self.settings.panel.ask(self.name, pair, lambda: texts, order)

    def golden(self) -> tuple[GoldenPair, ...]:
        paris = Completion("Paris", finish_reason="stop")
        failed = Completion(error="overloaded")
        return (
            GoldenPair("the same answer twice is a tie", {}, paris, paris, 0.5),
            GoldenPair("no answer", {}, failed, failed, None, {"status": 503}),
        )


class RunDecision(DecisionScorer):
    """A question about a run: its task, and the agent's messages, calls and results."""

    __slots__ = ()

    async def score_run(self, run: RunSubject) -> Score | Skipped:
        if not run.complete:
            return INCOMPLETE_RUN
        if not run.steps:
            return NO_STEPS
        texts = {"trajectory": trajectory_text(run, self.settings.options.most_tokens)}
        outcome = await self.settings.panel.ask(self.name, run, lambda: texts)
        return await self.explained(run.run_id, texts, scored(self.settings.question, outcome))

    def golden(self) -> tuple[GoldenRun, ...]:
        calls = (RunCall(text="Done."),)
        return (
            GoldenRun("nothing recorded", RunSubject("r", calls), None),
            GoldenRun("cut off", RunSubject("r", calls, complete=False), None),
        )


def scored(question: JudgedQuestion, outcome: QuestionOutcome) -> Score:
    """The score of a question. Raises the outcome's error, with what the call cost."""
    answers = _answers(outcome)
    value = sum(value_of(question, answer) for answer in answers) / len(answers)
    if len(answers) > 1:
        supported = sum(value_of(question, answer) >= 0.5 for answer in answers)
        detail = {"sentences": float(len(answers)), "supported": float(supported)}
        return Score(value, f"{supported} of {len(answers)} sentences", detail=detail, spent=outcome.spent)
    only = answers[0]
    return Score(
        value, label_of(question, only), detail=only.detail, spent=outcome.spent, distribution=only.probabilities
    )


def _for_b(question: JudgedQuestion, order: str, outcome: QuestionOutcome) -> float:
    second = value_of(question, _answers(outcome)[0])
    return second if order == "ab" else 1.0 - second


def _answers(outcome: QuestionOutcome) -> tuple[DecidedAnswer, ...]:
    if outcome.error is None:
        return outcome.answers
    if outcome.spent is None:
        raise outcome.error
    paid = type(outcome.error)(
        str(outcome.error)
    )  # a copy: other questions raise the same error, and cost nothing more
    paid.spent = outcome.spent  # type: ignore[attr-defined]  # the result reports the cost of failed calls, too
    raise paid
