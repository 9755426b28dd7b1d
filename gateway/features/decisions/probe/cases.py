"""The cases of a probe: declared questions about given or recorded states, or recorded questions about their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from gateway.config.decisions import QuestionConfig
from gateway.core import openai_decisions, systemone_decisions
from gateway.core.decision import OUTCOMES, DecisionRequest, Option, Question
from gateway.core.errors import BadRequest, CannotRun
from gateway.core.json_values import as_list, as_object, parse_object
from gateway.features.decisions.probe.model import ProbeCase

MOST_STATE_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class ProbeState:
    """Something that questions are asked about."""

    state: Any
    instructions: str | None = None
    answers: Mapping[str, Any] = field(default_factory=dict)
    """Right answers by the question's name: an option, a level, or true or false."""


def declared(name: str, config: QuestionConfig) -> Question:
    """The canonical form of a question of the config."""
    if config.predicate is not None:
        return Question("predicate", name, name, config.predicate, OUTCOMES)
    if config.choice is not None:
        return Question("choice", name, name, config.choice, tuple(map(Option, config.choices)))
    return Question("score", name, name, config.score or "", tuple(map(Option, config.levels)))


def states_of_file(path: Path) -> list[ProbeState]:
    """One state a line: JSON `{"state": …, "answers": {"QUESTION": …}}`, or a text. Raises CannotRun."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotRun(f"{path}: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        entry = parse_object(line) if line.lstrip().startswith("{") else {"state": line.strip()}
        if entry is None or entry.get("state") in (None, ""):
            raise CannotRun(f'{path}, line {number}: expected a text, or {{"state": …, "answers": {{…}}}}')
        found.append(ProbeState(entry["state"], None, as_object(entry.get("answers"))))
    return found


def recorded_cases(rows: Iterable[tuple[str, bytes]]) -> list[ProbeCase]:
    """The questions of recorded decisions about their own states. rows: API and request."""
    return [
        ProbeCase(question.name or question.instructions[:60], replace(request, questions=(question,)))
        for request in _requests(rows)
        for question in request.questions
    ]


def recorded_states(rows: Iterable[tuple[str, bytes]]) -> list[ProbeState]:
    """The states of recorded decisions, and the last message of recorded chats. rows: API and request."""
    kept = list(rows)
    found = [ProbeState(request.state, request.instructions) for request in _requests(kept)]
    for api, body in kept:
        if api == "chat" and (text := _last_message(body)):
            found.append(ProbeState(text))
    return found


def _requests(rows: Iterable[tuple[str, bytes]]) -> Iterator[DecisionRequest]:
    """Those that were recorded whole."""
    readers = {"decisions": openai_decisions.read_request, "systemone": systemone_decisions.read_request}
    for api, body in rows:
        members = parse_object(body) if api in readers else None
        if members is None or len(body) > MOST_STATE_CHARACTERS:
            continue
        try:
            request = readers[api](members)
        except BadRequest:
            continue
        if not request.images:
            yield request


def _last_message(body: bytes) -> str:
    messages = as_list((parse_object(body) or {}).get("messages"))
    content = as_object(messages[-1]).get("content") if messages else None
    return content if isinstance(content, str) and len(content) <= MOST_STATE_CHARACTERS else ""


def cases_of(questions: Mapping[str, Question], states: Sequence[ProbeState], most: int) -> list[ProbeCase]:
    """Cases up to a number, with the questions in turn, so that all have about as many states. Raises CannotRun for a
    right answer that is not an option."""
    each = max(1, most // max(1, len(questions)))
    return [
        ProbeCase(
            name, DecisionRequest(state.state, (question,), state.instructions), _right(name, question, state.answers)
        )
        for state in states[:each]
        for name, question in questions.items()
    ]


def _right(name: str, question: Question, answers: Mapping[str, Any]) -> int | None:
    if name not in answers:
        return None
    right = answers[name]
    for position, option in enumerate(question.options):
        if option.value == right and isinstance(option.value, bool) == isinstance(right, bool):
            return position
    if question.kind == "score" and type(right) is int and 0 <= right < len(question.options):
        return right
    shown = orjson.dumps(right).decode()[:60]
    raise CannotRun(f"{shown} is not an option of the question {name}")
