"""System One's API: its requests and answers to the canonical form and back. Pure.

Servers of this format: TypeSafe, vLLM, SGLang, llama.cpp, Ollama, Perplexity. Sources: TypeSafe's API reference,
typesafe-sdk 0.7.5, vLLM 0.32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.core.completion import billed_usd
from gateway.core.decision import (
    MOST_LEVELS,
    MOST_OPTIONS,
    MOST_QUESTIONS,
    OUTCOMES,
    Answer,
    DecisionLimits,
    DecisionReply,
    DecisionRequest,
    InvalidAnswer,
    Option,
    Question,
    option_texts,
    probability,
    refusal,
    upstream_answer,
)
from gateway.core.errors import BadRequest
from gateway.core.json_values import as_list, as_object
from gateway.core.openai_decisions import check_limits

_MEMBERS = {"model", "state", "questions", "instructions", "images"}
_QUESTION_MEMBERS = {"type", "instructions", "criteria"}
_UNTRANSLATED = ("audio", "videos", "assets")
_KINDS = {"predicate": "noul", "choice": "choice", "score": "score"}


def read_request(body: Mapping[str, Any], known: tuple[Question, ...] | None = None) -> DecisionRequest:
    """The request of a client. known: its questions, if they have been read. Raises BadRequest, with the member as
    param."""
    losses: set[str] = set()
    questions = known or read_questions(body.get("questions"), losses)
    if body.get("state") is None:
        raise BadRequest("missing required parameter: state", param="state", code="missing_required_parameter")
    for name in _UNTRANSLATED:
        if body.get(name):
            raise BadRequest(f"{name} cannot be sent to the server of this model, which speaks another API", param=name)
    if body.keys() - _MEMBERS:
        losses.add("members")
    instructions = body.get("instructions")
    if instructions is not None:
        instructions = _text(instructions, "instructions", losses)
    return DecisionRequest(body["state"], questions, instructions, _read_images(body, losses), frozenset(losses))


def read_questions(entries: Any, losses: set[str]) -> tuple[Question, ...]:
    """Questions in this format alone. losses: gets the names of parts that they do not keep. Raises BadRequest."""
    if not isinstance(entries, dict) or not 1 <= len(entries) <= MOST_QUESTIONS:
        raise BadRequest(f"questions must be a map of 1 to {MOST_QUESTIONS} questions", param="questions")
    return tuple([_read_question(key, entry, losses) for key, entry in entries.items()])


def _read_images(body: Mapping[str, Any], losses: set[str]) -> tuple[str, ...]:
    """The images as URLs; base64 without a head is an image of the format that its first bytes say."""
    images = body.get("images")
    if images is None:
        return ()
    if not isinstance(images, list) or not all(isinstance(image, str) and image for image in images):
        raise BadRequest("images must be a list of URLs, or of images in base64", param="images")
    if images:
        losses.add("images")
    return tuple([image if image.startswith(("data:", "http:", "https:")) else _data_url(image) for image in images])


def _data_url(image: str) -> str:
    return f"data:image/{'jpeg' if image.startswith('/9j/') else 'png'};base64,{image}"


def _read_question(key: str, entry: Any, losses: set[str]) -> Question:
    at = f"questions.{key}"
    if not isinstance(entry, dict):
        raise BadRequest(f"{at} must be an object", param=at)
    if entry.keys() - _QUESTION_MEMBERS:
        losses.add("members")
    kind, criteria = entry.get("type"), entry.get("criteria")
    text = _text(entry.get("instructions"), f"{at}.instructions", losses)
    at += ".criteria"
    if kind == "noul":
        return Question("predicate", key, None, text, _outcomes(criteria, at, losses))
    if kind == "choice":
        return Question("choice", key, None, text, _options(criteria, at, losses))
    if kind == "score":
        return Question("score", key, None, text, _levels(criteria, at, losses))
    at = f"questions.{key}.type"
    known = "" if kind != "box" else "; a box cannot be sent to the server of this model, which speaks another API"
    raise BadRequest(f"{at} must be one of noul, choice and score{known}", param=at)


def _text(value: Any, at: str, losses: set[str]) -> str:
    """A text as it is; an object or a list in compact JSON."""
    if isinstance(value, dict | list) and value:
        losses.add("structure")
        return orjson.dumps(value).decode()
    if not isinstance(value, str) or not value.strip():
        raise BadRequest(f"{at} must be a text, an object or a list that is not empty", param=at)
    return value


def _description(value: Any, at: str, losses: set[str]) -> str | None:
    return value if value is None or value == "" else _text(value, at, losses)


def _outcomes(criteria: Any, at: str, losses: set[str]) -> tuple[Option, ...]:
    if criteria is None:
        return OUTCOMES
    if not isinstance(criteria, dict) or criteria.keys() - {"true", "false"}:
        raise BadRequest(f"{at} of a noul must be an object with true and false", param=at)
    described = [(value, criteria.get(name)) for value, name in ((True, "true"), (False, "false"))]
    return tuple([Option(value, _description(text, f"{at}.{value}".lower(), losses)) for value, text in described])


def _options(criteria: Any, at: str, losses: set[str]) -> tuple[Option, ...]:
    if not isinstance(criteria, dict) or not 1 <= len(criteria) <= MOST_OPTIONS or "" in criteria:
        raise BadRequest(f"{at} of a choice must be a map of 1 to {MOST_OPTIONS} options with names", param=at)
    return tuple([Option(name, _description(text, f"{at}.{name}", losses)) for name, text in criteria.items()])


def _levels(criteria: Any, at: str, losses: set[str]) -> tuple[Option, ...]:
    if not isinstance(criteria, list) or not 2 <= len(criteria) <= MOST_LEVELS:
        raise BadRequest(f"{at} of a score must be a list of 2 to {MOST_LEVELS} levels", param=at)
    return tuple([Option(_text(level, f"{at}[{n}]", losses)) for n, level in enumerate(criteria)])


def write_request(
    request: DecisionRequest, model: str, limits: DecisionLimits, written: object = None
) -> tuple[dict[str, Any], set[str]]:
    """The request for a server of this API, and what it loses. Raises BadRequest for what it cannot take.

    written: as in openai_decisions.write_request."""
    losses = set(request.losses)
    if written is None:
        check_limits(request.questions, limits)
    body: dict[str, Any] = {"model": model, "state": request.state}
    if request.instructions is not None:
        if limits.instructions:
            body["instructions"] = request.instructions
        else:
            body["state"] = _with_developer(request)
            losses.add("input")
    if request.images:
        if limits.images is None:
            raise BadRequest("the server of this model takes no images", param="input", code="images_not_supported")
        body[limits.images] = list(request.images)
    if written is None:
        written = {question.key: _write_question(question, losses) for question in request.questions}
    body["questions"] = written
    return body, losses


def _with_developer(request: DecisionRequest) -> list[Any]:
    """The state of a server without `instructions`: a conversation that begins with a developer's message."""
    developer = {"role": "developer", "content": request.instructions}
    if "input" in request.losses:
        return [developer, *request.state]
    return [developer, {"role": "user", "content": request.state}]


def _write_question(question: Question, losses: set[str]) -> dict[str, Any]:
    written: dict[str, Any] = {"type": _KINDS[question.kind], "instructions": question.instructions}
    if question.kind == "predicate":
        true, false = question.options
        if true.description is not None or false.description is not None:
            written["criteria"] = {"true": true.description, "false": false.description}
        return written
    texts = option_texts(question)
    if question.kind == "score":
        if any(option.description for option in question.options):
            losses.add("levels")
        written["criteria"] = list(texts)
    else:
        written["criteria"] = {text: option.description for text, option in zip(texts, question.options, strict=True)}
    return written


def read_answers(reply: Mapping[str, Any], questions: Sequence[Question]) -> DecisionReply:
    """The answers of a server of this API; a missing one is a refusal, for which it has no form.

    Raises InvalidAnswer, also where none of the questions has an answer.
    """
    entries = reply.get("answers")
    if not isinstance(entries, dict):
        raise InvalidAnswer("the server sent no map of answers")
    asked = {question.key for question in questions}
    if unasked := len(entries.keys() - asked):
        raise InvalidAnswer(f"the server sent {unasked} answers for questions that were not asked")
    refused = {key for key in as_list(reply.get("x_refused")) if isinstance(key, str)}
    if not entries and not refused:
        raise InvalidAnswer(f"the server sent no answers for {len(questions)} questions")
    masses = _label_masses(reply)
    answers = [
        _read_answer(entries[question.key], question, masses.get(question.key))
        if question.key in entries
        else refusal(question)
        for question in questions
    ]
    usage = as_object(reply.get("usage"))
    model = reply.get("model")
    return DecisionReply(
        model if isinstance(model, str) else "",
        tuple(answers),
        _count(usage.get("input_tokens", usage.get("prompt_tokens"))),
        _count(usage.get("output_tokens", usage.get("completion_tokens"))),
        _count(as_object(usage.get("input_tokens_details")).get("cached_tokens")),
        billed_usd(usage),
    )


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _label_masses(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Label masses by question: vLLM has them in `diagnostics`."""
    diagnostics = as_object(reply.get("diagnostics"))
    return {key: as_object(entry).get("label_mass") for key, entry in diagnostics.items()}


def _read_answer(entry: Any, question: Question, mass: Any) -> Answer:
    if not isinstance(entry, dict):
        raise InvalidAnswer(f"question {question.key}: the answer is not an object")
    kind = entry.get("type", _KINDS[question.kind])
    if kind == "refusal" or entry.get("refused") is True:
        return refusal(question)
    if kind != _KINDS[question.kind]:
        raise InvalidAnswer(f"question {question.key}: the answer to a {_KINDS[question.kind]} has another type")
    reported = entry if mass is None else {**entry, "label_mass": mass}
    if kind == "noul":
        p = probability(question, entry.get("noul"))
        return upstream_answer(question, (p, 1.0 - p), reported)
    texts = option_texts(question) if kind == "choice" else [str(level) for level in range(len(question.options))]
    given = entry.get("probabilities")
    if not isinstance(given, dict) or given.keys() != set(texts):
        raise InvalidAnswer(f"question {question.key}: the probabilities are not those of its options")
    choice = entry.get("choice") if kind == "choice" else None
    value = None
    if choice is not None:
        if choice not in texts:
            raise InvalidAnswer(f"question {question.key}: the choice is not one of its options")
        value = question.options[texts.index(choice)].value
    return upstream_answer(question, [given[text] for text in texts], reported, value)


def write_answers(reply: DecisionReply, questions: Sequence[Question]) -> dict[str, Any]:
    """The answers for a client of this API. Refused questions have none, and are listed in `x_refused`. An upstream's
    bill is `cost` in the usage, as OpenRouter has it."""
    pairs = list(zip(questions, reply.answers, strict=True))
    written: dict[str, Any] = {
        "model": reply.model,
        "answers": {question.key: _write_answer(answer, question) for question, answer in pairs if not answer.refused},
        "usage": {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens},
    }
    if reply.usd is not None:
        written["usage"]["cost"] = reply.usd
    if refused := [question.key for question, answer in pairs if answer.refused]:
        written["x_refused"] = refused
    if unread := {question.key: answer.unread for question, answer in pairs if answer.unread is not None}:
        written["x_unread"] = unread
    return written


def _write_answer(answer: Answer, question: Question) -> dict[str, Any]:
    written: dict[str, Any] = {"type": _KINDS[question.kind]}
    texts = option_texts(question)
    if question.kind == "predicate":
        written["noul"] = answer.probabilities[0]
    elif question.kind == "choice":
        values = [option.value for option in question.options]
        written["choice"] = texts[values.index(answer.value)] if answer.value in values else None
        written["probabilities"] = dict(zip(texts, answer.probabilities, strict=True))
    else:
        written["score"] = answer.score
        written["legend"] = {str(level): text for level, text in enumerate(texts)}
        written["probabilities"] = {str(level): p for level, p in enumerate(answer.probabilities)}
    if answer.confidence is not None:
        written["confidence"] = answer.confidence
    if answer.confidence_form == "jev":
        written["x_confidence"] = "jev"
    if answer.label_mass is not None:
        written["x_label_mass"] = answer.label_mass
    return written
