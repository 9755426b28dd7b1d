"""Questions for a decision model about an answer, in the format of OpenAI's Decisions API, and how its answers become
scores. Pure.

No text of an exchange is part of a question: the material is the input, fenced, and nothing of the reply is parsed as
text, so a text can persuade the model but not write its verdict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.core.decision import InvalidAnswer, Question
from gateway.core.openai_decisions import read_answer, read_questions
from gateway.scorers.judging.templates import fence_rule, fence_texts, random_mark

PROMPT_VERSION = "1"
"""Changes whenever the wording around the questions does, and scores must not be averaged."""
MAX_SENTENCES = 30
Text = Annotated[str, Field(min_length=1)]
Need = Literal["reference", "context"]
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+")
PREFERENCES = ("first", "second", "equal")


class JudgedQuestion(BaseModel):
    """A question of a section with `use: decision`: exactly one of predicate, score, choice and prefer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    predicate: Text | None = None
    """A statement; the score is the probability that it is true."""
    score: Text | None = None
    """A question with an order of answers, its levels; the score is the expected level, scaled to [0, 1]."""
    levels: tuple[Text, ...] = ()
    """Ordered from the worst to the best."""
    choice: Text | None = None
    """A question with one of several answers; the score is the probability of those in `good`."""
    options: tuple[Text, ...] = ()
    good: tuple[Text, ...] = ()
    prefer: Text | None = None
    """A question about two answers, asked in both orders; the score is the preference for the candidate's."""
    needs: Need | None = None
    """Requirement of an answer to be asked about."""
    canary: bool = False
    """Reports an attempt to sway the evaluator; a lower score is better."""
    by_sentence: bool = False
    """A predicate asked of each sentence of the answer, at most 30; the score is their mean."""

    @model_validator(mode="after")
    def _check(self) -> JudgedQuestion:
        kinds = [kind for kind in ("predicate", "score", "choice", "prefer") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError("a question has exactly one of predicate, score, choice and prefer")
        for kind, of in (("score", "levels"), ("choice", "options"), ("choice", "good")):
            if bool(getattr(self, of)) != (kind == kinds[0]):
                raise ValueError(f"`{of}` belongs to a question with `{kind}`, which needs it")
        if kinds[0] == "score" and not 2 <= len(self.levels) <= 10:
            raise ValueError(f"a scale has 2 to 10 levels, and this one has {len(self.levels)}")
        if kinds[0] == "choice" and not 2 <= len(set(self.options)) == len(self.options) <= 255:
            raise ValueError("a choice has 2 to 255 options, no two of them equal")
        if not set(self.good) <= set(self.options):
            raise ValueError("`good` names an option that is not in `options`")
        if (self.canary or self.by_sentence) and kinds[0] != "predicate":
            raise ValueError("`canary` and `by_sentence` belong to a question with `predicate`")
        return self

    @property
    def text(self) -> str:
        return self.predicate or self.score or self.choice or self.prefer or ""


def sentences(answer: str) -> list[str]:
    """The sentences of an answer, cut at the ends of sentences and lines; the first MAX_SENTENCES."""
    return [part.strip() for part in _SENTENCE.split(answer) if part.strip()][:MAX_SENTENCES]


def decision_input(texts: Mapping[str, str], draw: Callable[[], str] = random_mark) -> list[dict[str, str]]:
    """The `input` of a decision: how to read the fences, and the texts, by name, as one JSON object."""
    fenced, mark = fence_texts(texts, draw)
    return [
        {"role": "developer", "content": fence_rule(mark)},
        {"role": "user", "content": json.dumps(fenced, ensure_ascii=False)},
    ]


def wire_questions(name: str, question: JudgedQuestion, sentence_count: int) -> list[dict[str, Any]]:
    """The question in the API's format; several of a question by sentences, none where there is no sentence."""
    if question.by_sentence:
        count = range(1, sentence_count + 1)
        asked = [f'About the text "sentence_{n}", a sentence of the answer: {question.text}' for n in count]
        return [{"type": "predicate", "name": name, "instructions": text} for text in asked]
    entry: dict[str, Any] = {"type": "predicate", "name": name, "instructions": question.text}
    if question.score is not None:
        entry |= {"type": "score", "levels": [{"label": level} for level in question.levels]}
    elif question.choice is not None:
        entry |= {"type": "choice", "choices": [{"value": option} for option in question.options]}
    elif question.prefer is not None:
        labels = ("answer_1 is better", "answer_2 is better", "neither is better")
        choices = [{"value": v, "description": d} for v, d in zip(PREFERENCES, labels, strict=True)]
        entry |= {"type": "choice", "choices": choices}
    return [entry]


class MissingAnswer(ValueError):
    """A question has no usable answer: "refused: …" or "unreadable: …". It is never a score."""


@dataclass(frozen=True, slots=True)
class DecidedAnswer:
    """Probabilities of the options, and what the service says about them."""

    probabilities: Mapping[str, float]
    """Probability of each option: "true" and "false", the options of a choice, or the index of a level."""
    detail: Mapping[str, float] = field(default_factory=dict)
    """Confidence and label_mass, where the reply has them."""


def read_answers(reply: Mapping[str, Any], asked: Sequence[Mapping[str, Any]]) -> list[DecidedAnswer | MissingAnswer]:
    """The answers in the order of the questions. Raises ValueError for a reply that has not one for each."""
    answers = reply.get("answers")
    if not isinstance(answers, list) or len(answers) != len(asked):
        got = f"{len(answers)} answers" if isinstance(answers, list) else "no list of answers"
        raise ValueError(f"the decision model returned {got} for {len(asked)} questions")
    questions = read_questions(list(asked), set())
    return [_read(answer, question) for answer, question in zip(answers, questions, strict=True)]


def _read(entry: Any, question: Question) -> DecidedAnswer | MissingAnswer:
    try:
        answer = read_answer(entry, question)
    except InvalidAnswer as error:
        return MissingAnswer(f"unreadable: {error}")
    if answer.unread is not None:
        return MissingAnswer(f"unreadable: {answer.unread}")
    if answer.refused:
        return MissingAnswer("refused: the model declined to answer this question")
    names = {"predicate": ("true", "false"), "score": tuple(map(str, range(len(question.options))))}
    options = names.get(question.kind) or tuple([str(option.value) for option in question.options])
    total = sum(answer.probabilities)
    shares = {option: p / total for option, p in zip(options, answer.probabilities, strict=True)}
    return DecidedAnswer(shares, _diagnostics(entry))


def _diagnostics(answer: Mapping[str, Any]) -> dict[str, float]:
    named = {"confidence": answer.get("confidence"), "label_mass": answer.get("label_mass", answer.get("x_label_mass"))}
    return {n: float(v) for n, v in named.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def value_of(question: JudgedQuestion, answer: DecidedAnswer) -> float:
    """The score in [0, 1]: see the kinds of JudgedQuestion. Of a preference: for the answer shown second."""
    p = answer.probabilities
    if question.score is not None:
        return min(1.0, sum(int(level) * share for level, share in p.items()) / (len(question.levels) - 1))
    if question.choice is not None:
        return min(1.0, sum(p[option] for option in question.good))
    if question.prefer is not None:
        return min(1.0, p["second"] + 0.5 * p["equal"])
    return p["true"]


def label_of(question: JudgedQuestion, answer: DecidedAnswer) -> str:
    """The most probable option, in words."""
    likeliest = max(answer.probabilities, key=lambda option: answer.probabilities[option])
    return question.levels[int(likeliest)] if question.score is not None else likeliest
