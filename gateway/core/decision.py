"""The canonical form of a decision: typed questions, and a probability for each option. Pure.

The dialects read and write the formats of OpenAI, System One and SGLang as these types; what two formats cannot both
express is named as a loss there. `confidence` has another definition at every service: compare probabilities instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

QuestionKind = Literal["predicate", "choice", "score"]
OptionValue = str | bool
ConfidenceForm = Literal["upstream", "jev"]
"""Origin of a confidence: the upstream, by its own definition, or `jev_confidence`."""
UnreadReason = Literal[
    "no_logprobs", "label_mass", "truncated", "shared_start", "reasoning", "renormalised", "no_option"
]
"""Reason for which a read of a chat engine gives no answer: no log-probabilities; too little probability on the
options; options below the end of the list that may matter; a token with which several options begin; a model that
reasons first; log-probabilities of which a grammar hides all other tokens; a text that is none of the options."""
UNREAD_REASONS: frozenset[str] = frozenset(get_args(UnreadReason))

MOST_QUESTIONS = 400
MOST_OPTIONS = 255
MOST_LEVELS = 10
FEWEST_OPTIONS = 2
SUM_TOLERANCE = 0.02
"""Largest distance from 1 of a sum of probabilities; services round them to two decimals."""


class InvalidAnswer(ValueError):
    """An upstream's answers cannot be used. The message names the question and the reason, and never holds content."""


class Option(NamedTuple):
    """An option of a choice, a level of a score, or one of the two outcomes of a predicate."""

    value: OptionValue
    """A choice's values are typed: `true` and `"true"` are two options."""
    description: str | None = None


OUTCOMES = (Option(True), Option(False))
"""The options of a predicate without criteria."""


@dataclass(frozen=True, slots=True)
class Question:
    """A typed question about the input of a decision."""

    kind: QuestionKind
    key: str
    """Identifies it within the request: its position in OpenAI's format, `q0`, `q1`, …; its id in System One's."""
    name: str | None
    """The client's name of it. Names may repeat."""
    instructions: str
    options: tuple[Option, ...] = OUTCOMES
    """A predicate has true and then false, a score the lowest level first."""


@dataclass(slots=True)  # one for each question of a call: freezing it costs more than 1 µs
class Answer:
    """The answer to one question."""

    kind: QuestionKind
    probabilities: tuple[float, ...] = ()
    """One for each option of the question, in their order; empty for a refusal."""
    value: OptionValue | None = None
    """The chosen option of a choice."""
    score: float | None = None
    """The mean level of a score, between 0 and the number of levels - 1."""
    confidence: float | None = None
    confidence_form: ConfidenceForm | None = None
    label_mass: float | None = None
    """Probability, over the whole vocabulary, of the labels of all options together."""
    refused: bool = False
    """Whether it has no answer: the model refused, or could not be read."""
    unread: UnreadReason | None = None
    """Reason for which a read gave no answer; None: it gave one, or was none."""
    one_hot: bool = False
    """Whether the model wrote only its choice, which counts as certain."""


@dataclass(slots=True)  # one for each call, as Answer
class DecisionRequest:
    """The questions of one request, and what they are about."""

    state: Any
    """A text, or any JSON value."""
    questions: tuple[Question, ...]
    instructions: str | None = None
    """Instructions for all questions: a leading developer message, or System One's `instructions`."""
    images: tuple[str, ...] = ()
    """URLs, data URLs included, in their order. Their places within the state are not kept."""
    losses: frozenset[str] = frozenset()
    """Names of parts of the client's request that this form does not keep."""


@dataclass(frozen=True, slots=True)
class DecisionLimits:
    """Limits of a server for one request; None: not known, so that the server decides."""

    questions: int | None = None
    options: int | None = None
    levels: int | None = None
    images: Literal["images", "assets"] | None = None
    """The member of System One's format in which it takes images; None if it takes none."""
    instructions: bool = False
    """Whether System One's `instructions` exist."""


@dataclass(slots=True)  # one for each call, as Answer
class DecisionReply:
    """The answers of one request, one for each question and in their order."""

    model: str
    answers: tuple[Answer, ...]
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """A part of the input."""
    usd: float | None = None
    """The bill that the server states; None if it states none."""


def merged(replies: Sequence[DecisionReply]) -> DecisionReply:
    """The reply to a request whose questions were split: all answers in order, and the sums of tokens and dollars."""
    billed = [reply.usd for reply in replies]
    return DecisionReply(
        replies[0].model,
        tuple([answer for reply in replies for answer in reply.answers]),
        sum(reply.input_tokens for reply in replies),
        sum(reply.output_tokens for reply in replies),
        sum(reply.cached_tokens for reply in replies),
        None if None in billed else sum(usd for usd in billed if usd is not None),
    )


def refusal(question: Question) -> Answer:
    return Answer(question.kind, refused=True)


def unread(question: Question, reason: UnreadReason) -> Answer:
    return Answer(question.kind, refused=True, unread=reason)


def answer_of(question: Question, probabilities: Sequence[float], label_mass: float | None = None) -> Answer:
    """The answer with these probabilities: its choice, score and confidence follow from them.

    Raises InvalidAnswer where they are not a distribution over the options.
    """
    return _derived(question, distribution(question, probabilities), label_mass)


def _derived(
    question: Question, checked: tuple[float, ...], label_mass: float | None = None, *, measured: bool = True
) -> Answer:
    """The answer with a distribution that was checked. measured: False leaves its confidence out."""
    kind = question.kind
    if kind == "predicate":
        return Answer(kind, checked, None, None, None, None, label_mass)
    value = question.options[checked.index(max(checked))].value if kind == "choice" else None
    mean = sum([level * p for level, p in enumerate(checked)]) if kind == "score" else None
    confidence = jev_confidence(kind, checked) if measured else None
    return Answer(kind, checked, value, mean, confidence, "jev" if measured else None, label_mass)


def upstream_answer(
    question: Question, probabilities: Sequence[object], reported: Mapping[str, Any], choice: OptionValue | None = None
) -> Answer:
    """The answer with an upstream's own score and confidence, where it reports them.

    reported: its `score`, `confidence`, `x_confidence`, and `label_mass` or `x_label_mass`. choice: the option that it
    chose; None: the likeliest.
    Raises InvalidAnswer for values that cannot be used.
    """
    stated = question.kind != "predicate" and reported.get("confidence") is not None
    answer = _derived(question, distribution(question, probabilities), measured=not stated)
    changes: dict[str, Any] = {}
    if choice is not None:
        changes["value"] = choice
    if stated:
        form = "jev" if reported.get("x_confidence") == "jev" else "upstream"
        changes |= {"confidence": probability(question, reported["confidence"]), "confidence_form": form}
    mass = reported.get("label_mass", reported.get("x_label_mass"))
    if isinstance(mass, float | int) and 0.0 <= mass < 1.001:  # a diagnostic, a sum in floating point
        changes["label_mass"] = min(1.0, float(mass))
    if question.kind == "score" and reported.get("score") is not None:
        changes["score"] = _score(question, reported["score"])
    return replace(answer, **changes) if changes else answer


def _score(question: Question, value: object) -> float:
    most = len(question.options) - 1
    if (type(value) is not float and type(value) is not int) or not 0.0 <= value <= most:
        raise InvalidAnswer(f"question {question.key}: the score is not a number from 0 to {most}")
    return float(value)


def probability(question: Question, value: object) -> float:
    """A probability of an upstream. Raises InvalidAnswer for any other value, as a text or 1.2."""
    if type(value) is not float and type(value) is not int:
        kind = "missing" if value is None else f"a JSON {'boolean' if value is True or value is False else 'text'}"
        raise InvalidAnswer(f"question {question.key}: a probability is {kind}, expected a number from 0 to 1")
    if not 0.0 <= value <= 1.0:
        raise InvalidAnswer(f"question {question.key}: a probability is {value:.6g}, expected a number from 0 to 1")
    return float(value)


def distribution(question: Question, values: Sequence[object]) -> tuple[float, ...]:
    """The probabilities of a question's options. Raises InvalidAnswer where one is none, or their sum is not 1."""
    if len(values) != len(question.options):
        raise InvalidAnswer(f"question {question.key}: {len(values)} probabilities for {len(question.options)} options")
    checked = tuple([
        value if type(value) is float and 0.0 <= value <= 1.0 else probability(question, value) for value in values
    ])  # fmt: skip
    if abs((total := sum(checked)) - 1.0) > SUM_TOLERANCE + 1e-9:
        raise InvalidAnswer(f"question {question.key}: the probabilities sum to {total:.4g}, expected 1")
    return checked


def jev_confidence(kind: QuestionKind, probabilities: Sequence[float]) -> float | None:
    """The confidence as Jev's servers compute it; None for a predicate, which has none.

    Of a choice (p - 1/k) / (1 - 1/k), with p the largest probability. Of a score 1 - d/u: d is the mean distance from
    the mode, u that of a uniform distribution from its centre; 0 where that is negative. It is not a calibrated
    probability of being right.
    """
    count = len(probabilities)
    if kind == "predicate":
        return None
    if count == 1:
        return 1.0
    mode = max(range(count), key=probabilities.__getitem__)
    if kind == "choice":
        return min(1.0, max(0.0, (probabilities[mode] - 1 / count) / (1 - 1 / count)))
    distance = sum(p * abs(level - mode) for level, p in enumerate(probabilities))
    centre = (count - 1) / 2
    uniform = sum(abs(level - centre) for level in range(count)) / count
    return max(0.0, 1 - distance / uniform)


def option_texts(question: Question) -> tuple[str, ...]:
    """The options as different texts, for formats without typed values; positions, not texts, map them back.

    A boolean whose word is also a text, and the second of two equal levels, say so in brackets.
    """
    if question.kind == "score":
        return _levels(question.options)
    taken = {option.value for option in question.options if isinstance(option.value, str)}
    texts = []
    for option in question.options:
        text = option.value
        if not isinstance(text, str):
            text = "true" if text else "false"
            while text in taken:
                text += " (boolean)"
        texts.append(text)
    return tuple(texts)


def _levels(levels: Sequence[Option]) -> tuple[str, ...]:
    texts: list[str] = []
    for position, (label, description) in enumerate(levels):
        text = f"{label}: {description}" if description else str(label)
        while text in texts:
            text += f" (level {position})"
        texts.append(text)
    return tuple(texts)


def split(questions: Sequence[Question], limit: int | None) -> list[Sequence[Question]]:
    """The questions of each request to a server that takes at most this many."""
    if limit is None or len(questions) <= limit:
        return [questions]
    return [questions[start : start + limit] for start in range(0, len(questions), limit)]
