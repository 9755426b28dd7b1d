"""Reads of a decision from a chat engine that shows log-probabilities: one chat request for each question. Pure.

A reading is the way in which the engine is asked. It can be worthless although its answers look healthy, so no reading
is used for an alias without a probe of its own questions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from gateway.core.decision import (
    Answer,
    DecisionReply,
    DecisionRequest,
    InvalidAnswer,
    Question,
    answer_of,
    option_texts,
    refusal,
)
from gateway.core.json_values import as_list, as_object

Reading = Literal["slot", "words", "letters", "structured"]
"""`slot`: the next token of a prefilled answer. `words`: the first word of a free reply. `letters`: the same with A, B
and C for options. `structured`: the value within an answer by a JSON schema."""
ReadFailure = Literal["no_logprobs", "label_mass", "truncated", "shared_start", "reasoning"]
"""Reason for which a read gives no answer: no log-probabilities; too little probability on the options; options below
the end of the list that may matter; a token with which several options begin; a model that reasons first."""

MIN_LABEL_MASS = 0.01
MOST_WIDTH = 0.02
"""Largest width of the bounds of an option's probability."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PREFILL = '{"answer": "'
_SLOT = re.compile(r'"answer"\s*:\s*"')
_REASONING = ("<think", "<|channel", "<reason", "[think", "<|begin_of_thought")
_STRUCTURED_TOKENS = 64


class UnreadAnswer(InvalidAnswer):
    """A read that gives no answer, which is never a number."""

    def __init__(self, question: Question, failure: ReadFailure) -> None:
        super().__init__(f"question {question.key}: the read gives no answer: {failure}")
        self.failure: ReadFailure = failure


@dataclass(frozen=True, slots=True)
class ReadEngine:
    """Abilities of a chat engine."""

    top: int = 20
    """The longest list of alternatives that it gives; llama.cpp gives any."""
    continues: Mapping[str, Any] | None = None
    """Members with which it continues a last assistant message; None if it cannot."""
    template: bool = True
    """Whether it takes `chat_template_kwargs`."""


VLLM = ReadEngine(continues={"add_generation_prompt": False, "continue_final_message": True})
LLAMA_CPP = ReadEngine(top=1000, continues={"cache_prompt": True})
OPENAI_CHAT = ReadEngine(template=False)


def labels_of(question: Question, reading: Reading) -> tuple[str, ...]:
    """The texts of which the model gives one: one for each option."""
    if question.kind == "predicate":
        return ("yes", "no")
    if reading != "letters":
        return option_texts(question)
    if question.kind == "score":
        return tuple(map(str, range(len(question.options))))
    return tuple(LETTERS[: len(question.options)])


def readable(question: Question, reading: Reading, engine: ReadEngine) -> bool:
    """Whether a question can be asked so: labels differ in more than case, and letters suffice."""
    labels = labels_of(question, reading)
    if len(labels) < len(question.options) or (reading == "slot" and engine.continues is None):
        return False
    return len(set(map(str.casefold, labels))) == len(labels)


def write_read(request: DecisionRequest, question: Question, reading: Reading, engine: ReadEngine) -> dict[str, Any]:
    """The chat request for one question, without its model. The state is first, so that reads share the prefix."""
    state = request.state if isinstance(request.state, str) else orjson.dumps(request.state).decode()
    messages = [{"role": "user", "content": f"{state}\n\n{_question_text(question, reading)}"}]
    if request.instructions is not None:
        messages.insert(0, {"role": "system", "content": request.instructions})
    body: dict[str, Any] = {
        "messages": messages, "max_tokens": 1, "temperature": 1, "logprobs": True, "top_logprobs": engine.top,
    }  # fmt: skip
    if engine.template:
        body["chat_template_kwargs"] = {"enable_thinking": False}
    if reading == "slot":
        messages.append({"role": "assistant", "content": PREFILL})
        body |= engine.continues or {}
    elif reading == "structured":
        body |= {"max_tokens": _STRUCTURED_TOKENS, "response_format": _schema(labels_of(question, reading))}
    return body


def _question_text(question: Question, reading: Reading) -> str:
    labels, texts = labels_of(question, reading), option_texts(question)
    lines = [
        f"Is the following true? {question.instructions}" if question.kind == "predicate" else question.instructions
    ]
    for label, text, option in zip(labels, texts, question.options, strict=True):
        name = label if question.kind == "predicate" or label == text else f"{label}: {text}"
        described = option.description and question.kind != "score"
        lines.append(f"- {name} - {option.description}" if described else f"- {name}")
    lines.append({
        "slot": 'Answer with one option as JSON: {"answer": "…"}',
        "structured": 'Answer with one option as JSON: {"answer": "…"}',
        "words": "Answer with one option only.",
        "letters": "Answer with the label of one option only.",
    }[reading])  # fmt: skip
    return "\n".join(lines)


def _schema(labels: Sequence[str]) -> dict[str, Any]:
    schema = {
        "type": "object", "properties": {"answer": {"type": "string", "enum": list(labels)}},
        "required": ["answer"], "additionalProperties": False,
    }  # fmt: skip
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def read_answer(
    reply: Mapping[str, Any], question: Question, reading: Reading, min_label_mass: float = MIN_LABEL_MASS
) -> Answer:
    """The answer in one chat reply. Raises UnreadAnswer.

    Spellings in either case, with a blank or a quotation mark around them, count as one label. A label that is not
    listed has a probability between 0 and that of the last in the list; where that leaves any option's probability open
    by more than MOST_WIDTH, the read is truncated, and else the middle is taken.
    """
    choice = as_object(next(iter(as_list(reply.get("choices"))), None))
    tokens = as_list(as_object(choice.get("logprobs")).get("content"))
    alternatives = _at_value(tokens) if reading == "structured" else _alternatives(next(iter(tokens), None), 0)
    if not alternatives:
        raise UnreadAnswer(question, "no_logprobs")
    if alternatives[0][0].lstrip().lower().startswith(_REASONING):
        raise UnreadAnswer(question, "reasoning")
    labels = [label.casefold() for label in labels_of(question, reading)]
    masses, shared = _masses(alternatives, labels)
    mass = sum(masses)
    if shared > MOST_WIDTH * (mass + shared):
        raise UnreadAnswer(question, "shared_start")
    if mass < min_label_mass:
        raise UnreadAnswer(question, "label_mass")
    shares = _completed(masses, alternatives)
    if shares is None:
        raise UnreadAnswer(question, "truncated")
    # A grammar renormalises the list on some engines, so that the mass of a structured answer says nothing.
    return answer_of(question, shares, None if reading == "structured" else min(1.0, mass))


def _masses(alternatives: Sequence[tuple[str, float]], labels: Sequence[str]) -> tuple[list[float], float]:
    """The probability of each label, and that of tokens with which several begin. A token counts for the one label that
    begins with it, since the tokens of a label are not known here."""
    masses, shared = [0.0] * len(labels), 0.0
    for token, p in alternatives:
        text = token.strip().casefold()
        ended = text.rstrip("\"'.,;:!}")
        if ended != text and ended in labels:
            masses[labels.index(ended)] += p
            continue
        begun = [position for position, label in enumerate(labels) if text and label.startswith(text)]
        if len(begun) == 1:
            masses[begun[0]] += p
        elif begun:
            shared += p
    return masses, shared


def _completed(masses: Sequence[float], alternatives: Sequence[tuple[str, float]]) -> list[float] | None:
    """The masses as shares of 1, with the middle of the bounds for labels that are not listed; None if too wide."""
    missing, mass = masses.count(0.0), sum(masses)
    if not missing:
        return [p / mass for p in masses]
    left = max(0.0, 1.0 - sum(p for _, p in alternatives))
    most = min(min(p for _, p in alternatives), left)
    unseen = min(missing * most, left)
    widest = max(most / (mass + most), max(masses) / mass - max(masses) / (mass + unseen))
    if widest > MOST_WIDTH:
        return None
    filled = [p or most / 2 for p in masses]
    return [p / sum(filled) for p in filled]


def _alternatives(token: Any, skip: int) -> list[tuple[str, float]]:
    """The tokens at one position with their probabilities, the likeliest first. skip: characters before the value."""
    entries = as_list(as_object(token).get("top_logprobs"))
    found: dict[str, float] = {}
    for entry in map(as_object, entries):
        text, logprob = entry.get("token"), entry.get("logprob")
        if isinstance(text, str) and isinstance(logprob, float | int) and not math.isnan(logprob):
            found[text[skip:]] = found.get(text[skip:], 0.0) + math.exp(min(0.0, logprob))
    return sorted(found.items(), key=lambda pair: -pair[1])


def _at_value(tokens: Sequence[Any]) -> list[tuple[str, float]]:
    """The alternatives where the value of "answer" begins, whether or not its token begins with the quotation mark."""
    texts = [str(as_object(token).get("token", "")) for token in tokens]
    begin = _SLOT.search("".join(texts))
    if begin is None:
        return []
    start = 0
    for token, text in zip(tokens, texts, strict=True):
        if start <= begin.end() < start + len(text):
            return _alternatives(token, begin.end() - start)
        start += len(text)
    return []


def read_answers(
    replies: Sequence[Mapping[str, Any]], questions: Sequence[Question], reading: Reading
) -> tuple[DecisionReply, dict[str, ReadFailure]]:
    """The answers of all reads as one reply, and the reasons of those without; tokens are summed."""
    answers: list[Answer] = []
    failures: dict[str, ReadFailure] = {}
    for reply, question in zip(replies, questions, strict=True):
        try:
            answers.append(read_answer(reply, question, reading))
        except UnreadAnswer as unread:
            failures[question.key] = unread.failure
            answers.append(refusal(question))
    usages = [as_object(reply.get("usage")) for reply in replies]
    models = [reply.get("model") for reply in replies]
    read, written = (
        sum(count for usage in usages if type(count := usage.get(name)) is int)
        for name in ("prompt_tokens", "completion_tokens")
    )
    return DecisionReply(next((m for m in models if isinstance(m, str)), ""), tuple(answers), read, written), failures
