"""Words pydantic's errors: the path, what was expected, and where possible what was meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.core.did_you_mean import did_you_mean
from gateway.core.secret_patterns import is_secret_name

_EXPECTED: dict[int | str, str] = {
    "sha256": "the SHA-256 of a key: 64 hexadecimal digits in lower case",
    "base_url": "http://… or https://…",
    "url": "redis://…, rediss://… or unix://…",
    "bind": "HOST:PORT",
    "model": "a model's name, in printable ASCII without spaces",
}
_QUOTED = re.compile(r"'([^']*)'")


def validation_mistakes(errors: ValidationError, root: type[BaseModel], known: Sequence[str]) -> list[str]:
    """Pydantic's errors, one line each, after the mistakes already known.

    root: the model of the whole file, for suggestions. Errors that only follow from another mistake are left out: a
    value whose variable is not set, a list that is too short because its only item is wrong.
    """
    details = errors.errors(include_url=False)
    mistakes = list(known)
    for error in details:
        path = _path(error["loc"])
        of_an_item = error["type"] == "too_short" and any(_inside(e["loc"], error["loc"]) for e in details)
        if not of_an_item and not any(m.startswith(f"{path}: $") for m in known):
            mistakes.append(f"{path}: {_message(error, root)}")
    return mistakes


def _inside(loc: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return len(loc) > len(other) and loc[: len(other)] == other


def _message(error: ErrorDetails, root: type[BaseModel]) -> str:
    loc = error["loc"]
    if error["type"] == "extra_forbidden" and loc == ("model_list",):
        return "unknown key: this is a file of LiteLLM; translate it with `gateway import litellm FILE`"
    if error["type"] == "extra_forbidden":
        return f"unknown key{did_you_mean(str(loc[-1]), _siblings(root, loc[:-1]))}"
    if error["type"] == "missing":
        return "missing; it is required"
    if error["type"] == "string_pattern_mismatch" and loc[-1] in _EXPECTED:
        return f"expected {_EXPECTED[loc[-1]]}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    value = error["input"]
    if any(is_secret_name(str(step)) for step in loc):
        return message if str(value) not in message else "not valid"
    if isinstance(value, dict | list) or message.endswith(f"got {value!r}") or value is None:
        return message
    literals = _QUOTED.findall(str(error.get("ctx", {}).get("expected"))) if error["type"] == "literal_error" else ()
    shown = str(value) if isinstance(value, date) else repr(value)
    return f"{message}, got {shown}{did_you_mean(str(value), literals)}"


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for step in loc:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _siblings(root: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at a path of the file may have."""
    model: type[BaseModel] | None = root
    after_mapping = False  # the next step is a name that the user chose
    for step in loc:
        if after_mapping or isinstance(step, int):
            after_mapping = False
            continue
        field = model.model_fields.get(step) if model else None
        model = section_in(field.annotation) if field else None
        after_mapping = field is not None and get_origin(field.annotation) is dict
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section inside `tuple[Section, ...]`, `dict[Name, Section]` or `Section | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_in, get_args(annotation))), None)
