"""SGLang's own form of /v1/decisions: the canonical form to its requests, and its answers back. Pure.

No client sends it here. Source: SGLang's serving code of this endpoint, prompt format 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.core.decision import (
    Answer,
    DecisionLimits,
    DecisionReply,
    DecisionRequest,
    InvalidAnswer,
    Question,
    option_texts,
    upstream_answer,
)
from gateway.core.errors import BadRequest
from gateway.core.json_values import as_object
from gateway.core.openai_decisions import check_limits

LIMITS = DecisionLimits(options=26, levels=10, images="images")
"""Options are labelled A to Z."""
_KINDS = {"predicate": "yes_no", "choice": "choice", "score": "score"}


def write_request(
    request: DecisionRequest, model: str, limits: DecisionLimits, written: object = None
) -> tuple[dict[str, Any], set[str]]:
    """The request for a server of this API, and what it loses. Raises BadRequest for what it cannot take.

    written: as in openai_decisions.write_request."""
    losses = set(request.losses)
    if written is None:
        check_limits(request.questions, limits)
    body: dict[str, Any] = {"model": model, "input": _write_input(request, losses)}
    if request.images:
        if limits.images is None:
            raise BadRequest("the server of this model takes no images", param="input", code="images_not_supported")
        body["images"] = [{"url": url} for url in request.images]
    if written is None:
        written = [_write_question(question, losses) for question in request.questions]
    body["questions"] = written
    return body, losses


def _write_input(request: DecisionRequest, losses: set[str]) -> Any:
    state = request.state
    if request.instructions is None:
        return state
    losses.add("input")
    text = state if isinstance(state, str) else orjson.dumps(state).decode()
    return f"{request.instructions}\n\n{text}"


def _write_question(question: Question, losses: set[str]) -> dict[str, Any]:
    written: dict[str, Any] = {
        "id": question.key,
        "type": _KINDS[question.kind],
        "question": question.instructions,
    }
    if question.kind == "predicate":
        outcomes = zip(("yes", "no"), question.options, strict=True)
        return written | {name: option.description for name, option in outcomes if option.description is not None}
    texts = option_texts(question)
    if question.kind == "score":
        if any(option.description for option in question.options):
            losses.add("levels")
        return {**written, "levels": list(texts)}
    written["options"] = [
        {"name": text} if option.description is None else {"name": text, "description": option.description}
        for text, option in zip(texts, question.options, strict=True)
    ]
    return written


def read_answers(reply: Mapping[str, Any], questions: Sequence[Question]) -> DecisionReply:
    """The answers of a server of this API, which answers every question. Raises InvalidAnswer."""
    entries = reply.get("answers")
    if not isinstance(entries, dict) or entries.keys() != {question.key for question in questions}:
        count = f"{len(entries)} answers" if isinstance(entries, dict) else "no map of answers"
        raise InvalidAnswer(f"the server sent {count}, not one for each of {len(questions)} questions")
    answers = tuple([_read_answer(entries[question.key], question) for question in questions])
    tokens, model = as_object(reply.get("usage")).get("prompt_tokens"), reply.get("model")
    if type(tokens) is not int or tokens < 0:
        tokens = 0
    return DecisionReply(model if isinstance(model, str) else "", answers, tokens)


def _read_answer(entry: Any, question: Question) -> Answer:
    if not isinstance(entry, dict) or entry.get("type") != _KINDS[question.kind]:
        raise InvalidAnswer(f"question {question.key}: the answer is not one to a {_KINDS[question.kind]}")
    names: Sequence[str] = ("yes", "no")
    if question.kind == "choice":
        names = option_texts(question)
    elif question.kind == "score":
        names = [str(level) for level in range(len(question.options))]
    given = entry.get("probabilities")
    if not isinstance(given, dict) or given.keys() != set(names):
        raise InvalidAnswer(f"question {question.key}: the probabilities are not those of its options")
    return upstream_answer(question, [given[name] for name in names], entry)
