"""Answers of a recorded decision: the questions of a request, and the probability of each answer. Pure.

Reads both formats of clients, of the recorded bytes and of an answer that is about to be sent, so that a cascade and a
scorer see the same number. An answer that cannot be used has no probability, and never 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from gateway.core.chat_decision import schema_of
from gateway.core.decision import SUM_TOLERANCE, Option, Question, QuestionKind
from gateway.core.decision_schema import Ineligible
from gateway.core.json_values import as_list, as_object, as_text, parse_object

NATIVE = "native"
"""The reading of an engine that has an API of decisions."""
DECISION_APIS = frozenset({"decisions", "systemone"})


class AskedQuestion(NamedTuple):
    """The identity of a question: what an engine reads of it. Its name is not part of it."""

    kind: QuestionKind
    text: str
    options: tuple[Option, ...] = ()
    """Options of a choice, or levels of a score, the lowest first; () for a predicate."""


class AnsweredQuestion(NamedTuple):
    question: AskedQuestion | None
    """Identity of the question; None if it has a form of its own: parts, criteria of a predicate, unknown kinds."""
    answer: str
    """The answer in words; "" if there is none that can be used."""
    probability: float | None
    """Probability of that answer, by the model; None if there is none that can be used."""


def answered_questions(api: str, request: Mapping[str, Any], response: Mapping[str, Any]) -> list[AnsweredQuestion]:
    """The questions of a request in their order, with their answers. [] for anything but a decision."""
    asked, answers = request.get("questions"), response.get("answers")
    if api == "decisions" and isinstance(asked, list):
        listed = answers if isinstance(answers, list) and len(answers) == len(asked) else [None] * len(asked)
        pairs = zip(asked, listed, strict=True)
        return [_by_position(as_object(question), as_object(answer)) for question, answer in pairs]
    if api == "systemone" and isinstance(asked, dict):
        by_key = as_object(answers)
        return [_by_key(as_object(question), as_object(by_key.get(key))) for key, question in asked.items()]
    return []


def asked_question(question: Question) -> AskedQuestion:
    """The identity of a question that a chat's schema asks."""
    return AskedQuestion(question.kind, question.instructions, () if question.kind == "predicate" else question.options)


def answered_chat(request: Mapping[str, Any], decision: str) -> tuple[str, list[AnsweredQuestion]]:
    """The reading and the answers of a chat that a decision model answered. decision: the probabilities as its record
    has them. ("", []) for a request whose schema asks for no decision."""
    try:
        questions = [(member.name, member.question) for member in schema_of(request).members]
    except Ineligible:
        return "", []
    stated = parse_object(decision) or {}
    known = as_object(stated.get("probabilities"))
    return as_text(stated.get("reading")), [
        _of_record(question, as_list(known.get(name))) for name, question in questions
    ]


def _of_record(question: Question, shares: list[Any]) -> AnsweredQuestion:
    asked, options = asked_question(question), question.options
    if question.kind == "predicate":
        return _predicate(asked, shares[0] if len(shares) == len(options) else None)
    return _of_options(asked, options, shares, [], None)


def answered_bytes(api: str, request: bytes, response: bytes) -> tuple[str, list[AnsweredQuestion]]:
    """The reading and the same of bodies. ("", []) for what is not JSON."""
    try:
        answer = as_object(orjson.loads(response))
        return reading_of(answer), answered_questions(api, as_object(orjson.loads(request)), answer)
    except orjson.JSONDecodeError:
        return "", []


def reading_of(response: Mapping[str, Any]) -> str:
    """The way in which the probabilities were read; each way has probabilities of its own."""
    return as_text(response.get("x_reading")) or NATIVE


def _by_position(question: Mapping[str, Any], answer: Mapping[str, Any]) -> AnsweredQuestion:
    """OpenAI's format."""
    kind = question.get("type")
    if kind == "predicate":
        return _predicate(_asked("predicate", question, ()), _of_type(answer, "predicate").get("probability"))
    if kind not in ("choice", "score"):
        return AnsweredQuestion(None, "", None)
    member, name = ("choices", "value") if kind == "choice" else ("levels", "label")
    entries = [as_object(entry) for entry in as_list(question.get(member))]
    options = tuple(Option(entry.get(name, ""), entry.get("description") or None) for entry in entries)
    asked = _asked(kind, question, options)
    rows = [as_object(row) for row in as_list(_of_type(answer, kind).get("probabilities"))]
    keys: list[Any] = [option.value for option in options] if kind == "choice" else list(range(len(options)))
    shares = [_share_of(rows, key) for key in keys] if len(rows) == len(keys) else []
    return _of_options(asked, options, shares, keys, answer.get("choice") if kind == "choice" else None)


def _by_key(question: Mapping[str, Any], answer: Mapping[str, Any]) -> AnsweredQuestion:
    """System One's format."""
    kind, criteria = question.get("type"), question.get("criteria")
    if kind == "noul":
        asked = _asked("predicate", question, ()) if criteria is None else None
        return _predicate(asked, _of_type(answer, "noul").get("noul"))
    shares = as_object(_of_type(answer, str(kind)).get("probabilities"))
    if kind == "choice" and isinstance(criteria, dict):
        options = tuple(Option(name, text or None) for name, text in criteria.items())
        keys = list(criteria)
        chosen = answer.get("choice")
    elif kind == "score" and isinstance(criteria, list):
        options = tuple(Option(level) for level in criteria)
        keys, chosen = [str(level) for level in range(len(options))], None
    else:
        return AnsweredQuestion(None, "", None)
    by_option = [shares.get(key) for key in keys] if shares.keys() == set(keys) else []
    return _of_options(_asked(kind, question, options), options, by_option, keys, chosen)


def _asked(kind: QuestionKind, question: Mapping[str, Any], options: tuple[Option, ...]) -> AskedQuestion | None:
    text = question.get("instructions")
    plain = all(isinstance(o.value, str | bool) and isinstance(o.description, str | None) for o in options)
    return AskedQuestion(kind, text, options) if isinstance(text, str) and plain else None


def _of_type(answer: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The answer, or nothing where it is one to another kind of question, or a refusal."""
    return answer if answer.get("type", kind) == kind and answer.get("refused") is not True else {}


def _share_of(rows: list[dict[str, Any]], key: Any) -> Any:
    """Python's `True` equals 1 and JSON's does not, so types count as well."""
    values = [row.get("probability") for row in rows if row.get("value") == key and type(row.get("value")) is type(key)]
    return values[0] if len(values) == 1 else None


def _predicate(asked: AskedQuestion | None, value: Any) -> AnsweredQuestion:
    p = _probability(value)
    if p is None:
        return AnsweredQuestion(asked, "", None)
    return AnsweredQuestion(asked, "yes", p) if p >= 0.5 else AnsweredQuestion(asked, "no", 1.0 - p)


def _of_options(
    asked: AskedQuestion | None, options: tuple[Option, ...], shares: list[Any], keys: list[Any], chosen: Any
) -> AnsweredQuestion:
    """The answer is the chosen option, or the likeliest one where none is named."""
    ps = [p for share in shares if (p := _probability(share)) is not None]
    if not ps or len(ps) < len(options) or abs(sum(ps) - 1.0) > SUM_TOLERANCE + 1e-9:
        return AnsweredQuestion(asked, "", None)
    position = max(range(len(ps)), key=ps.__getitem__)
    if chosen is not None:
        named = [at for at, key in enumerate(keys) if key == chosen and type(key) is type(chosen)]
        if not named:
            return AnsweredQuestion(asked, "", None)
        [position] = named[:1]
    return AnsweredQuestion(asked, option_name(options[position]), ps[position])


def option_name(option: Option) -> str:
    return option.value if isinstance(option.value, str) else str(option.value).lower()


def _probability(value: Any) -> float | None:
    if type(value) is not float and type(value) is not int:
        return None
    return float(value) if 0.0 <= value <= 1.0 else None


def shown_answers(answered: list[AnsweredQuestion]) -> Iterator[str]:
    """A line for each question and its answer, without its probability, which would sway who judges it."""
    for question, answer, _ in answered:
        text = "(a question of another form)" if question is None else question.text
        yield f"{text} → {answer or '(no answer)'}"
