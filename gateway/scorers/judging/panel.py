"""Asks the questions of one config section in one call, whichever scorer asks first, and gives each its answer."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.core.score import Spent
from gateway.runtime.tasks import Tasks
from gateway.scorers.judging.decision_questions import (
    DecidedAnswer,
    JudgedQuestion,
    MissingAnswer,
    decision_input,
    read_answers,
    sentences,
    wire_questions,
)
from gateway.scoring.asker import Asker

PATH = "/decisions"
MAX_SUBJECTS = 512
"""Subjects whose answers are held for questions that have not asked yet; the oldest is dropped first."""
Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class QuestionOutcome:
    """Result of one question in a call. error: why there are no answers, else None."""

    answers: tuple[DecidedAnswer, ...] = ()
    """One, or one for each sentence."""
    error: Exception | None = None
    spent: Spent | None = None
    """The call's cost, at the first question that reads it; the others have cost nothing more."""


@dataclass(slots=True)
class _Round:
    """One call. It is held until every question has read it once."""

    outcomes: asyncio.Task[tuple[dict[str, QuestionOutcome], Spent | None]]
    unread: set[str]
    spent_read: bool = False


@dataclass(slots=True)
class _Asked:
    subject: object
    """Held, since its id() is the key."""
    rounds: list[_Round] = field(default_factory=list)


class DecisionPanel:
    """The questions of a section about one kind of subject: an answer, a pair in one order, or a run."""

    def __init__(self, asker: Asker, model: str) -> None:
        self.model = model
        self._asker = asker
        self._questions: dict[str, JudgedQuestion] = {}
        self._asked: OrderedDict[tuple[int, str], _Asked] = OrderedDict()
        self._tasks = Tasks()

    def add(self, name: str, question: JudgedQuestion) -> None:
        self._questions[name] = question

    async def ask(self, name: str, subject: object, texts: Callable[[], Texts], order: str = "") -> QuestionOutcome:
        """The outcome of a question about a subject. The first one to ask calls the model, for all that apply.

        texts: the material by name; a question applies where its `needs` is among them. order: of the answers of a
        pair. A question that asks about a subject again is asked again, with the others that have no answer.
        """
        asked = self._asked_about(subject, order)
        found = next((each for each in asked.rounds if name in each.unread), None)
        if found is None:
            again = _without_answer(asked.rounds[-1]) if asked.rounds else self._questions.keys()
            found = self._start({name, *again}, texts())
            asked.rounds.append(found)
        found.unread.discard(name)
        outcomes, spent = await asyncio.shield(found.outcomes)
        if found.spent_read:
            return outcomes[name]
        found.spent_read = True
        return replace(outcomes[name], spent=spent)

    async def aclose(self) -> None:
        await self._tasks.aclose()

    def _asked_about(self, subject: object, order: str) -> _Asked:
        key = id(subject), order
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = _Asked(subject)
            while len(self._asked) > MAX_SUBJECTS:
                self._asked.popitem(last=False)
        return asked

    def _start(self, names: Collection[str], texts: Texts) -> _Round:
        asked = {n: q for n, q in self._questions.items() if n in names and (q.needs is None or texts.get(q.needs))}
        parts = sentences(texts.get("answer", "")) if any(q.by_sentence for q in asked.values()) else []
        shown = {**texts, **{f"sentence_{n}": part for n, part in enumerate(parts, 1)}}
        wire = {name: wire_questions(name, question, len(parts)) for name, question in asked.items()}
        return _Round(self._tasks.start(self._call(shown, wire), f"decision of {self.model}"), set(asked))

    async def _call(
        self, texts: Texts, wire: Mapping[str, list[dict[str, Any]]]
    ) -> tuple[dict[str, QuestionOutcome], Spent | None]:
        """QuestionOutcome of each question, and the cost of the call. Its failure is that of every question."""
        asked = [entry for entries in wire.values() for entry in entries]
        if not asked:
            return dict.fromkeys(wire, QuestionOutcome()), None
        spent: Spent | None = None
        try:
            body = {"model": self.model, "input": decision_input(texts), "questions": asked}
            reply, spent = await self._asker.ask(PATH, body)
            answers = iter(read_answers(reply, asked))
        except Exception as error:  # each question reports it as its own
            return dict.fromkeys(wire, QuestionOutcome(error=error)), spent
        return {name: _outcome([next(answers) for _ in entries]) for name, entries in wire.items()}, spent


def _without_answer(last: _Round) -> list[str]:
    """The questions that a finished call left without an answer."""
    if not last.outcomes.done():
        return []
    return [name for name, outcome in last.outcomes.result()[0].items() if outcome.error is not None]


def _outcome(answers: list[DecidedAnswer | MissingAnswer]) -> QuestionOutcome:
    missing = next((answer for answer in answers if isinstance(answer, MissingAnswer)), None)
    if missing is not None:
        return QuestionOutcome(error=missing)
    return QuestionOutcome(tuple(answer for answer in answers if isinstance(answer, DecidedAnswer)))
