"""The probability that a decision states for its own answer to one question."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from gateway.config.decided_questions import DecidedQuestion
from gateway.core.completion import Completion
from gateway.core.decided import NATIVE, AnsweredQuestion, answered_chat, answered_questions, reading_of
from gateway.core.exchange import Target
from gateway.core.json_values import as_object, parse_object
from gateway.core.score import Score, Skipped
from gateway.scoring.types import Golden, Rule, Subject

NOT_ASKED = Skipped("a decision with this question, word for word")
NO_ANSWER = Skipped("an answer to this question, with probabilities from 0 to 1 that sum to 1")


@dataclass(frozen=True, slots=True)
class Decided(Rule):
    """The probability of the answer that a decision gives to one question: of the likelier outcome of a predicate, of
    the chosen option, of the likeliest level. The label is that answer; people say whether it is right.
    """

    question: DecidedQuestion
    target: str = ""
    """The target, as "upstream/model", whose answers count; "" for all. Each has probabilities of its own."""
    reading: str = NATIVE
    """The way in which the probabilities are read, as `models.NAME.decisions.reading`; answers of another do not
    count."""

    async def score(self, subject: Subject) -> Score | Skipped:
        exchange = subject.exchange
        if self.target and str(exchange.target) != self.target:
            return Skipped(f"an answer of {self.target}")
        reading, answered = _answered(subject)
        asked = [answer for answer in answered if answer.question == self.question.asked]
        if not asked or exchange.status >= 400:
            return NOT_ASKED
        if reading != self.reading:
            return Skipped(f"an answer of the reading {self.reading}")
        _, answer, p = asked[0]
        return NO_ANSWER if p is None else Score(p, answer, f"{answer}: {p:.3f}")

    def golden(self) -> tuple[Golden, ...]:
        upstream, _, model = (self.target or "golden/golden").partition("/")
        cases = (("sure", 0.9, 0.9), ("as a text", "0.9", None), ("too large", 1.2, None))
        answered_by = Target(upstream, model)
        return tuple(_golden(name, self, p, expected, answered_by) for name, p, expected in cases)


def _answered(subject: Subject) -> tuple[str, list[AnsweredQuestion]]:
    """The reading and the answers of a decision, or of a chat that a decision model answered."""
    exchange = subject.exchange
    if exchange.decision is not None:
        return answered_chat(subject.request, exchange.decision)
    response = as_object(parse_object(exchange.response))
    return reading_of(response), answered_questions(exchange.api, subject.request, response)


def _golden(name: str, scorer: Decided, p: object, expected: float | None, target: Target) -> Golden:
    """A decision that gives its first option p, and what is left to the second one."""
    asked = scorer.question.asked
    question: dict[str, object] = {"type": asked.kind, "instructions": asked.text}
    answer: dict[str, object] = {"type": asked.kind, "probability": p}
    if asked.options:
        member, value = ("choices", "value") if asked.kind == "choice" else ("levels", "label")
        question[member] = [{value: o.value, "description": o.description} for o in asked.options]
        keys = [o.value if asked.kind == "choice" else at for at, o in enumerate(asked.options)]
        shares = [p, 1.0 - p if isinstance(p, float) else 0.0, *[0.0] * (len(keys) - 2)]
        rows = [{"value": key, "probability": share} for key, share in zip(keys, shares, strict=True)]
        answer = {"type": asked.kind, "choice": asked.options[0].value, "probabilities": rows}
    exchange = {
        "api": "decisions",
        "target": target,
        "response": orjson.dumps({"answers": [answer], "x_reading": scorer.reading}),
    }
    return Golden(name, {"input": "", "questions": [question]}, Completion(), expected, exchange)
