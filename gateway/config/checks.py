"""What is wrong with a gateway.yaml, in words: one line each, with its path and, where one is near, a did-you-mean.

config.py says what a section may hold; this module words pydantic's errors and checks what sections say of each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config.scorers import evals_mistakes
from gateway.core.did_you_mean import did_you_mean
from gateway.core.providers import VENDORS

_SHAPES: dict[int | str, str] = {
    "sha256": "the SHA-256 of a key: 64 hexadecimal digits in lower case",
    "base_url": "http://… or https://…",
    "url": "redis://…, rediss://… or unix://…",
    "bind": "HOST:PORT",
    "model": "a model's name, in printable ASCII without spaces",
}


def worded(errors: ValidationError, root: type[BaseModel], known: Sequence[str]) -> list[str]:
    """Pydantic's errors, one line each, after the mistakes already known.

    root: the model of the whole file, for a did-you-mean. What only follows from another mistake is left out: a value
    whose variable is not set, a list that is too short because its one item is wrong.
    """
    found = errors.errors(include_url=False)
    mistakes = list(known)
    for error in found:
        path = _path(error["loc"])
        of_an_item = error["type"] == "too_short" and any(_inside(e["loc"], error["loc"]) for e in found)
        if not of_an_item and not any(m.startswith(f"{path}: $") for m in known):
            mistakes.append(f"{path}: {_said(error, root)}")
    return mistakes


def _inside(loc: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return len(loc) > len(other) and loc[: len(other)] == other


def _said(error: ErrorDetails, root: type[BaseModel]) -> str:
    loc = error["loc"]
    if error["type"] == "extra_forbidden":
        return f"unknown key{did_you_mean(str(loc[-1]), _siblings(root, loc[:-1]))}"
    if error["type"] == "missing":
        return "missing; it must be given"
    if error["type"] == "string_pattern_mismatch" and loc[-1] in _SHAPES:
        return f"expected {_SHAPES[loc[-1]]}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    shown = error["input"]
    secret = {"api_key", "url", "proxy", "headers", "sha256"} & set(loc)
    if secret or isinstance(shown, dict | list) or message.endswith(f"got {shown!r}") or shown is None:
        return message
    words = _QUOTED.findall(str(error.get("ctx", {}).get("expected"))) if error["type"] == "literal_error" else ()
    return f"{message}, got {shown!r}{did_you_mean(str(shown), words)}"


_QUOTED = re.compile(r"'([^']*)'")


def _path(loc: tuple[int | str, ...]) -> str:
    out = ""
    for part in loc:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def _siblings(root: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand at a place of the file."""
    model: type[BaseModel] | None = root
    named = False  # the next part is a name that the user chose
    for part in loc:
        if named or isinstance(part, int):
            named = False
            continue
        field = model.model_fields.get(part) if model else None
        model = _inner(field.annotation) if field else None
        named = field is not None and get_origin(field.annotation) is dict
    return list(model.model_fields) if model else []


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The section inside `tuple[Section, ...]`, `dict[Name, Section]` or `Section | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _inner(argument)
        if found is not None:
            return found
    return None


# ── what one section says of another, checked on what could be read, so that one run names all mistakes ──


def references(raw: dict[str, Any]) -> list[str]:
    """What the sections say of each other and cannot mean."""
    return [
        *_upstream_mistakes(raw),
        *_model_mistakes(raw),
        *_key_mistakes(raw),
        *evals_mistakes(raw),
    ]


def section(raw: dict[str, Any], name: str) -> dict[str, Any]:
    value = raw.get(name)
    return {str(k): v for k, v in value.items() if isinstance(v, dict)} if isinstance(value, dict) else {}


def _upstream_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    for name, upstream in section(raw, "upstreams").items():
        kind = upstream.get("kind")
        if isinstance(kind, str) and kind not in VENDORS:
            meant = did_you_mean(kind, VENDORS) or f"; known: {', '.join(VENDORS)}"
            yield f'upstreams.{name}.kind: no kind "{kind}"{meant}'
        elif isinstance(kind, str) and VENDORS[kind].base_url is None and "base_url" not in upstream:
            yield f"upstreams.{name}.base_url: missing; a {kind} upstream has no usual one"
        run = upstream.get("run")
        engine = run.get("engine") if isinstance(run, dict) else None
        if isinstance(kind, str) and isinstance(engine, str) and kind != engine:
            yield f"upstreams.{name}.run.engine: a {kind} upstream cannot be run by {engine}; expected the same word"
    passthrough = raw.get("passthrough")
    if isinstance(passthrough, str):
        yield from no_upstream("passthrough", passthrough, raw)


def no_upstream(path: str, name: str, raw: dict[str, Any]) -> Iterator[str]:
    known = raw.get("upstreams")
    known = known if isinstance(known, dict) else {}
    if name not in known:
        yield f'{path}: no upstream "{name}"{did_you_mean(name, known)}'


def _model_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    for alias, model in section(raw, "models").items():
        for part in ("targets", "fallback"):
            targets = model.get(part)
            for i, target in enumerate(targets if isinstance(targets, list) else ()):
                if isinstance(target, dict) and isinstance(target.get("upstream"), str):
                    yield from no_upstream(f"models.{alias}.{part}[{i}].upstream", target["upstream"], raw)


def _key_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    keys = raw.get("keys")
    models = section(raw, "models")
    names: set[str] = set()
    for i, key in enumerate(keys if isinstance(keys, list) else ()):
        if not isinstance(key, dict):
            continue
        if isinstance(key.get("name"), str) and key["name"] in names:
            yield f'keys[{i}].name: "{key["name"]}" stands twice'
        names.add(str(key.get("name")))
        for j, alias in enumerate(key["models"] if isinstance(key.get("models"), list) else ()):
            if alias not in models:
                yield f'keys[{i}].models[{j}]: no model "{alias}"{did_you_mean(str(alias), models)}'
