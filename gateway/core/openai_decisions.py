"""OpenAI's Decisions API: its requests and answers to the canonical form and back. Pure.

Sources: openai-python 3.57 (`types/decision*.py`), the API reference's "Decisions".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.core.completion import billed_usd
from gateway.core.decision import (
    FEWEST_OPTIONS,
    MOST_LEVELS,
    MOST_OPTIONS,
    MOST_QUESTIONS,
    UNREAD_REASONS,
    Answer,
    DecisionLimits,
    DecisionReply,
    DecisionRequest,
    InvalidAnswer,
    Option,
    OptionValue,
    Question,
    probability,
    refusal,
    unread,
    upstream_answer,
)
from gateway.core.errors import BadRequest
from gateway.core.json_values import as_object

_MEMBERS = {"model", "input", "questions"}
_QUESTION_MEMBERS = {
    "predicate": {"type", "name", "instructions"},
    "choice": {"type", "name", "instructions", "choices"},
    "score": {"type", "name", "instructions", "levels"},
}
_CACHE = {"prompt_cache_key", "prompt_cache_options", "prompt_cache_breakpoint"}
_MESSAGE_MEMBERS = {"type", "role", "content"}


def read_request(body: Mapping[str, Any], known: tuple[Question, ...] | None = None) -> DecisionRequest:
    """The request of a client. known: its questions, if they have been read. Raises BadRequest, with the member as
    param."""
    losses: set[str] = set()
    _note_unread(body, _MEMBERS, losses)
    questions = known or read_questions(body.get("questions"), losses)
    reader = _InputReader(losses)
    state, instructions = reader.read(body.get("input"))
    return DecisionRequest(state, questions, instructions, tuple(reader.images), frozenset(losses))


def read_questions(entries: Any, losses: set[str]) -> tuple[Question, ...]:
    """Questions in this format alone. losses: gets the names of parts that they do not keep. Raises BadRequest."""
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_QUESTIONS:
        raise BadRequest(f"questions must be a list of 1 to {MOST_QUESTIONS} questions", param="questions")
    return tuple([_read_question(entry, position, losses) for position, entry in enumerate(entries)])


def _note_unread(members: Mapping[str, Any], known: set[str], losses: set[str]) -> None:
    for name in members.keys() - known:
        losses.add("prompt_cache" if name in _CACHE else name if name == "safety_identifier" else "members")


def _read_question(entry: Any, position: int, losses: set[str]) -> Question:
    at = f"questions[{position}]"
    if not isinstance(entry, dict):
        raise BadRequest(f"{at} must be an object", param=at)
    kind = entry.get("type")
    if not isinstance(kind, str) or kind not in _QUESTION_MEMBERS:
        raise BadRequest(f"{at}.type must be one of predicate, choice and score", param=f"{at}.type")
    _note_unread(entry, _QUESTION_MEMBERS[kind], losses)
    name = entry.get("name")
    if name is not None and not isinstance(name, str):
        raise BadRequest(f"{at}.name must be a text", param=f"{at}.name")
    key, text = f"q{position}", _instructions(entry.get("instructions"), at, losses)
    if kind == "predicate":
        return Question("predicate", key, name, text)
    if kind == "choice":
        return Question("choice", key, name, text, _choices(entry.get("choices"), f"{at}.choices", losses))
    return Question("score", key, name, text, _levels(entry.get("levels"), f"{at}.levels", losses))


def _instructions(value: Any, at: str, losses: set[str]) -> str:
    """The text of instructions; of parts, the texts, and JSON parts in compact form."""
    at += ".instructions"
    if isinstance(value, list):
        losses.add("instructions")
        value = "\n".join([_instructions_part(part, at) for part in value])
    if not isinstance(value, str) or not value.strip():
        raise BadRequest(f"{at} must be a text, or parts with a text", param=at)
    return value


def _instructions_part(part: Any, at: str) -> str:
    kind, part = as_object(part).get("type"), as_object(part)
    if kind == "input_text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind == "input_json" and isinstance(part.get("data"), dict | list):
        return orjson.dumps(part["data"]).decode()
    if kind == "input_image":
        raise BadRequest(f"{at}: this model's server takes no image in a question; put it in the input", param=at)
    raise BadRequest(f"{at} has a part that is not input_text or input_json", param=at)


def _choices(entries: Any, at: str, losses: set[str]) -> tuple[Option, ...]:
    options = tuple([
        Option(_choice_value(entry, f"{at}[{n}]"), _description(entry, f"{at}[{n}]", {"value"}, losses))
        for n, entry in enumerate(_listed(entries, at, MOST_OPTIONS))
    ])  # fmt: skip
    if len({option.value for option in options}) < len(options):
        raise BadRequest(f"{at} has a value twice; values of a choice are unique", param=at)
    return options


def _choice_value(entry: Any, at: str) -> OptionValue:
    value = as_object(entry).get("value")
    if isinstance(value, bool) or (isinstance(value, str) and value):
        return value
    raise BadRequest(f"{at}.value must be a boolean, or a text that is not empty", param=f"{at}.value")


def _levels(entries: Any, at: str, losses: set[str]) -> tuple[Option, ...]:
    options = []
    for position, entry in enumerate(_listed(entries, at, MOST_LEVELS)):
        label = as_object(entry).get("label")
        if not isinstance(label, str) or not label:
            at += f"[{position}].label"
            raise BadRequest(f"{at} must be a text that is not empty", param=at)
        options.append(Option(label, _description(entry, f"{at}[{position}]", {"label"}, losses)))
    return tuple(options)


def _listed(entries: Any, at: str, most: int) -> list[Any]:
    if not isinstance(entries, list) or not FEWEST_OPTIONS <= len(entries) <= most:
        count = f", not {len(entries)}" if isinstance(entries, list) else ""
        raise BadRequest(f"{at} must be a list of {FEWEST_OPTIONS} to {most}{count}", param=at)
    return entries


def _description(entry: dict[str, Any], at: str, known: set[str], losses: set[str]) -> str | None:
    text = entry.get("description")
    if text is not None and not isinstance(text, str):
        raise BadRequest(f"{at}.description must be a text", param=f"{at}.description")
    if len(entry) > 1:
        _note_unread(entry, known | {"description"}, losses)
    return text


class _InputReader:
    """Reads the input of one request."""

    def __init__(self, losses: set[str]) -> None:
        self.losses = losses
        self.images: list[str] = []

    def read(self, value: Any) -> tuple[Any, str | None]:
        """The state, and the instructions of a leading developer message."""
        if isinstance(value, str):
            return value, None
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            raise BadRequest("input must be a text, or a list of messages and calls", param="input")
        instructions, items = None, value
        if len(value) > 1 and value[0].get("role") == "developer":
            content = self._content(value[0].get("content"), "input[0].content")
            if isinstance(content, str):
                instructions, items = content, value[1:]
        start = len(value) - len(items)
        read = [self._item(item, f"input[{n}]") for n, item in enumerate(items, start)]
        if len(read) == 1 and read[0].get("role") == "user":
            return read[0]["content"], instructions
        self.losses.add("input")
        return read, instructions

    def _item(self, item: dict[str, Any], at: str) -> dict[str, Any]:
        role = item.get("role")
        if role is None and isinstance(item.get("type"), str):
            return {name: self._output(value, at) if name == "output" else value for name, value in item.items()}
        if not isinstance(role, str) or "content" not in item:
            raise BadRequest(f"{at} must be a message with role and content, or a call or its output", param=at)
        _note_unread(item, _MESSAGE_MEMBERS, self.losses)
        return {"role": role, "content": self._content(item["content"], f"{at}.content")}

    def _output(self, value: Any, at: str) -> Any:
        return self._content(value, f"{at}.output")

    def _content(self, content: Any, at: str) -> Any:
        if isinstance(content, str):
            return content
        if not isinstance(content, list):
            raise BadRequest(f"{at} must be a text or a list of parts", param=at)
        parts = [part for n, entry in enumerate(content) if (part := self._part(entry, f"{at}[{n}]")) is not None]
        if len(parts) == 1:
            return parts[0]
        if all(isinstance(part, str) for part in parts):
            self.losses.add("parts")
            return "\n".join(parts)
        return parts

    def _part(self, part: Any, at: str) -> Any:
        """A text, or the value of a JSON part; None for an image, which is kept apart."""
        part = as_object(part)
        kind = part.get("type")
        if "prompt_cache_breakpoint" in part:
            self.losses.add("prompt_cache")
        for text in ("text", "refusal"):
            if kind in ("input_text", "output_text", "refusal") and isinstance(part.get(text), str):
                return part[text]
        if kind == "input_json" and isinstance(part.get("data"), dict | list):
            return part["data"]
        if kind == "input_image" and isinstance(part.get("image_url"), str):
            self.images.append(part["image_url"])
            self.losses.add("images")
            return None
        raise BadRequest(f"{at} is not a part that a decision's input has", param=at)


def write_request(
    request: DecisionRequest, model: str, limits: DecisionLimits, written: object = None
) -> tuple[dict[str, Any], set[str]]:
    """The request for a server of this API, and what it loses. Raises BadRequest for what it cannot take.

    written: the questions as an earlier request to this server had them; then only the losses of the input are
    named."""
    losses = set(request.losses)
    if written is not None:
        return {"model": model, "input": _write_input(request, losses), "questions": written}, losses
    check_limits(request.questions, limits)
    for question in request.questions:
        if len(question.options) < FEWEST_OPTIONS:
            at = f"questions.{question.key}.criteria"
            raise BadRequest(f"{at}: the server of this model needs {FEWEST_OPTIONS} options", param=at)
    questions = [_write_question(question, losses) for question in request.questions]
    return {"model": model, "input": _write_input(request, losses), "questions": questions}, losses


def check_limits(questions: Sequence[Question], limits: DecisionLimits) -> None:
    """Raises BadRequest for a question with more options than the server takes."""
    for question in questions:
        most = limits.levels if question.kind == "score" else limits.options
        if most is not None and len(question.options) > most:
            noun = "levels" if question.kind == "score" else "options"
            raise BadRequest(
                f"question {question.key} has {len(question.options)} {noun}, and the server of this model takes at "
                f"most {most}; ask a model whose server takes more",
                param="questions",
                code="too_many_options",
            )


def _write_question(question: Question, losses: set[str]) -> dict[str, Any]:
    written: dict[str, Any] = {"type": question.kind, "instructions": question.instructions}
    if question.name is not None:
        written["name"] = question.name
    if question.kind == "predicate":
        criteria = [
            f"\n{word} means: {option.description}"
            for word, option in zip(("True", "False"), question.options, strict=True)
            if option.description is not None
        ]
        if criteria:
            losses.add("criteria")
            written["instructions"] += "".join(criteria)
        return written
    member, value = ("levels", "label") if question.kind == "score" else ("choices", "value")
    written[member] = [
        {value: option.value}
        if option.description is None
        else {value: option.value, "description": option.description}
        for option in question.options
    ]
    return written


def _write_input(request: DecisionRequest, losses: set[str]) -> Any:
    state = request.state
    if type(state) is str and not request.images:
        if request.instructions is None:
            return state
        return [{"role": "developer", "content": request.instructions}, {"role": "user", "content": state}]
    if isinstance(state, dict) or (isinstance(state, list) and state and all(isinstance(v, dict) for v in state)):
        content: Any = [{"type": "input_json", "data": state}]
    elif isinstance(state, str):
        content = state
    else:
        losses.add("state")
        content = orjson.dumps(state).decode()
    if request.images:
        parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
        content = [*parts, *({"type": "input_image", "image_url": url} for url in request.images)]
    if request.instructions is None and isinstance(content, str):
        return content
    user = {"role": "user", "content": content}
    if request.instructions is None:
        return [user]
    return [{"role": "developer", "content": request.instructions}, user]


def read_answers(reply: Mapping[str, Any], questions: Sequence[Question]) -> DecisionReply:
    """The answers of a server of this API. Raises InvalidAnswer."""
    entries = reply.get("answers")
    if not isinstance(entries, list) or len(entries) != len(questions):
        count = f"{len(entries)} answers" if isinstance(entries, list) else "no list of answers"
        raise InvalidAnswer(f"the server sent {count} for {len(questions)} questions")
    answers: tuple[Answer, ...] = ()
    for entry, question in zip(entries, questions, strict=True):
        if (answer := _usual_answer(entry, question)) is None:
            answer = read_answer(entry, question)
        answers += (answer,)
    model = reply["model"] if "model" in reply and type(reply["model"]) is str else ""
    try:
        usage = reply["usage"]
        tokens, written = usage["input_tokens"], usage["output_tokens"]
        cached = usage["input_tokens_details"]["cached_tokens"] if "input_tokens_details" in usage else 0
        counted = type(tokens) is type(written) is type(cached) is int and tokens > 0 <= written
        if counted and cached >= 0 and "cost" not in usage:
            return DecisionReply(model, answers, tokens, written, cached)
    except (KeyError, TypeError):
        pass
    usage = as_object(reply.get("usage"))
    cached = as_object(usage.get("input_tokens_details")).get("cached_tokens")
    tokens, written = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    return DecisionReply(model, answers, tokens, written, _count(cached), billed_usd(usage))


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _usual_answer(entry: Any, question: Question) -> Answer | None:
    """An answer that has its options in the order of the question, with confidence and score, as servers write it. It
    is read without another call; None for any other, which `read_answer` reads to the same result."""
    try:
        kind = entry["type"]
        if kind != question.kind or "label_mass" in entry or "x_label_mass" in entry or "x_confidence" in entry:
            return None
        if kind == "predicate":
            p = entry["probability"]
            return Answer(kind, (p, 1.0 - p)) if type(p) is float and 0.0 <= p <= 1.0 else None
        stated, confidence = entry["choice" if kind == "choice" else "score"], entry["confidence"]
        probabilities, total, place = list[float](), 0.0, 0
        chosen: Any = None
        for option, share in zip(question.options, entry["probabilities"], strict=True):
            p, value, expected = share["probability"], share["value"], place if kind == "score" else option[0]
            if value != expected or type(value) is not type(expected) or type(p) is not float or not 0.0 <= p <= 1.0:
                return None
            if value == stated and type(value) is type(stated):
                chosen = value
            place, total = place + 1, total + p
            probabilities += (p,)
        if type(confidence) is not float or not (0.0 <= confidence <= 1.0 and 0.98 <= total <= 1.02):
            return None
        if kind == "choice":
            return None if chosen is None else Answer(kind, tuple(probabilities), chosen, None, confidence, "upstream")
        if type(stated) is not float or not 0.0 <= stated <= place - 1:
            return None
        return Answer(kind, tuple(probabilities), None, stated, confidence, "upstream")
    except (KeyError, TypeError, ValueError):
        return None


def read_answer(entry: Any, question: Question) -> Answer:
    """One answer of a server of this API. Raises InvalidAnswer."""
    if not isinstance(entry, dict):
        raise InvalidAnswer(f"question {question.key}: the answer is not an object")
    kind = entry.get("type")
    if kind == "refusal":
        reason = entry.get("x_unread")
        return unread(question, reason) if reason in UNREAD_REASONS else refusal(question)
    if kind != question.kind:
        raise InvalidAnswer(f"question {question.key}: the answer to a {question.kind} has another type")
    if kind == "predicate":
        p = probability(question, entry.get("probability"))
        return upstream_answer(question, (p, 1.0 - p), entry)
    by_value = _by_value(entry.get("probabilities"), question)
    expected = range(len(question.options)) if kind == "score" else [option.value for option in question.options]
    if len(by_value) != len(expected) or not by_value.keys() >= {*expected}:
        raise InvalidAnswer(f"question {question.key}: the probabilities are not those of its options")
    choice = entry.get("choice") if kind == "choice" else None
    if choice is not None and (not isinstance(choice, str | bool) or choice not in by_value):
        raise InvalidAnswer(f"question {question.key}: the choice is not one of its options")
    return upstream_answer(question, [by_value[value] for value in expected], entry, choice)


def _by_value(entries: Any, question: Question) -> dict[str | bool | int, object]:
    """The probabilities by option, or by level. Python's `True` equals 1, so levels and options never mix."""
    types = (int,) if question.kind == "score" else (str, bool)
    if not isinstance(entries, list):
        raise InvalidAnswer(f"question {question.key}: the answer has no probabilities")
    by_value: dict[str | bool | int, object] = {}
    for entry in entries:
        value: Any = entry.get("value") if type(entry) is dict else None
        if type(value) not in types or value in by_value:
            raise InvalidAnswer(f"question {question.key}: the probabilities are not those of its options")
        by_value[value] = entry.get("probability")
    return by_value


def write_answers(reply: DecisionReply, questions: Sequence[Question]) -> dict[str, Any]:
    """The answers for a client of this API. An upstream's bill is `cost` in the usage, as OpenRouter has it."""
    answers = [_write_answer(answer, question) for answer, question in zip(reply.answers, questions, strict=True)]
    usage: dict[str, Any] = {
        "input_tokens": reply.input_tokens,
        "input_tokens_details": {"cached_tokens": reply.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": reply.input_tokens + reply.output_tokens,
    }
    if reply.usd is not None:
        usage["cost"] = reply.usd
    return {"model": reply.model, "answers": answers, "usage": usage}


def _write_answer(answer: Answer, question: Question) -> dict[str, Any]:
    if answer.refused:
        refused = {"type": "refusal", "name": question.name}
        return refused if answer.unread is None else {**refused, "x_unread": answer.unread}
    written: dict[str, Any] = {"type": question.kind, "name": question.name}
    pairs = zip(question.options, answer.probabilities, strict=True)
    if question.kind == "predicate":
        written["probability"] = answer.probabilities[0]
    elif question.kind == "choice":
        written |= {"choice": answer.value, "confidence": answer.confidence}
        written["probabilities"] = [{"value": option.value, "probability": p} for option, p in pairs]
    else:
        written |= {"score": answer.score, "confidence": answer.confidence}
        written["probabilities"] = [
            {"value": level, "label": option.value, "probability": p} for level, (option, p) in enumerate(pairs)
        ]
    if answer.confidence_form == "jev":
        written["x_confidence"] = "jev"
    if answer.label_mass is not None:
        written["x_label_mass"] = answer.label_mass
    return written
