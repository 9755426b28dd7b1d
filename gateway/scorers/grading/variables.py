"""Replaces {{item.…}} and {{sample.…}} in a grader's texts, in one pass: inserted values are not searched. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from gateway.core.json_values import as_object
from gateway.scorers.judging.material import conversation
from gateway.scoring.options import InvalidOptions
from gateway.scoring.types import Subject

_VARIABLE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_SAMPLE = ("output_text", "output_json", "output_tools", "choices", "finish_reason", "model")


class MissingVariable(Exception):
    """A variable has no value for this subject."""

    name: str

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def variable_names(text: str) -> list[str]:
    return _VARIABLE.findall(text)


def check_variables(text: str, at: str) -> None:
    """Raises InvalidOptions for variables that no subject can have."""
    for name in variable_names(text):
        space, _, rest = name.partition(".")
        if space not in ("item", "sample") or not rest:
            raise InvalidOptions([f"{at}: {{{{{name}}}}}: expected {{{{item.NAME}}}} or {{{{sample.NAME}}}}"])
        first = _STEP.match(rest)
        if space == "sample" and (first is None or first[1] not in _SAMPLE):
            raise InvalidOptions([f"{at}: {{{{{name}}}}}: sample has {', '.join(_SAMPLE)}"])


def variables_of(subject: Subject) -> dict[str, Any]:
    """The values: item is the request's metadata, reference and messages; sample is the answer."""
    completion, request = subject.completion, subject.request
    item: dict[str, Any] = {"input": conversation(request), "messages": request.get("messages"), "request": request}
    item |= as_object(request.get("metadata"))
    if subject.reference is not None:
        item |= {"reference": subject.reference, "reference_answer": subject.reference}
    tools = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for c in completion.tool_calls
    ]
    message = {"role": "assistant", "content": completion.text, **({"tool_calls": tools} if tools else {})}
    sample = {
        "output_text": completion.text,
        "output_json": _json(completion.text),
        "output_tools": tools,
        "choices": [{"index": 0, "message": message, "finish_reason": completion.finish_reason}],
        "finish_reason": completion.finish_reason,
        "model": completion.model,
    }
    return {"item": item, "sample": sample}


def fill(text: str, values: Mapping[str, Any], wrap: Callable[[str, str], str] | None = None) -> str:
    """The text with its variables replaced. wrap: maps a variable's name and text to what is inserted.

    Raises MissingVariable.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1]
        given = _at(values, name)
        if given is None:
            raise MissingVariable(name)
        written = given if isinstance(given, str) else orjson.dumps(given, default=str).decode()
        return wrap(name, written) if wrap else written

    return _VARIABLE.sub(value, text)


def _at(values: Any, path: str) -> Any:
    for name, index in _STEP.findall(path):
        if name and isinstance(values, Mapping):
            values = values.get(name)
        elif index and isinstance(values, list) and int(index) < len(values):
            values = values[int(index)]
        else:
            return None
    return values


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
