"""Writes docs/configuration.md from the models that read gateway.yaml: `python docs/configuration.py`.

A test fails when the page is not what this makes. What a key means is said once, in its section's docstring, as
"name: what it is."; names that belong together stand with commas before one colon.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.config.loading import Config

PAGE = Path(__file__).with_name("configuration.md")
HEAD = """\
# Configuration

Every key of `gateway.yaml`. This page is written by `python docs/configuration.py` from the models that read the file.

Unknown keys are mistakes, and `gateway check gateway.yaml` names all of them at once, each with its path and, where
one is near, a did-you-mean. `${NAME}` reads the environment, anywhere in a value. Every section but `upstreams` and
`models` may be left out. A running `gateway serve` reads the file again when it changes (or at SIGHUP); one with
mistakes is refused, and the old one stays in force (`gateway_config_ok` is then 0).
"""


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    return "\n".join([HEAD, *(section(path, model) for path, model in sections("", Config))])


def sections(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for name, field in model.model_fields.items():
        for inner, suffix in models_in(field.annotation):
            yield from sections(f"{path}.{name}{suffix}".lstrip("."), inner)


def models_in(annotation: Any, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """The sections inside a type, each with how its path goes on: [] in a list, .NAME in a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, suffix
        return
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is dict:
        yield from models_in(inner[1], f"{suffix}.NAME")
    elif origin is tuple:
        yield from models_in(inner[0], f"{suffix}[]")
    elif origin in (Union, types.UnionType):
        for each in inner:
            yield from models_in(each, suffix)
    elif origin is Annotated:
        yield from models_in(inner[0], suffix)


def section(path: str, model: type[BaseModel]) -> str:
    intro, meanings = told(model)
    lines = [f"## `{path}`" if path else "## The file", ""]
    lines += [intro, ""] if intro else []
    lines += ["| key | what it may be | left out | |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        lines.append(f"| `{name}` | {kind(field)} | {default(field)} | {meanings.get(name, '')} |")
    if model.model_config.get("extra") == "allow":
        lines.append("| … | | | further keys belong to what `use` names |")
    return "\n".join([*lines, ""])


def told(model: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """A docstring's introduction, and what it says of each key."""
    text = " ".join((model.__doc__ or "").split())
    names = "|".join(sorted(model.model_fields, key=len, reverse=True)) or "$^"
    label = re.compile(rf"(?:^|(?<=[.;…] )|(?<=\) ))((?:{names})(?:, (?:{names}))*): ")
    parts = label.split(text)
    meanings: dict[str, str] = {}
    for labels, said in zip(parts[1::2], parts[2::2], strict=True):
        for name in labels.split(", "):
            meanings[name] = cell(said.strip().rstrip(";"))
    return prose(parts[0].strip()), meanings


def cell(text: str) -> str:
    return prose(text).replace("|", "\\|")


def prose(text: str) -> str:
    """The words of Python that docstrings use, as YAML has them."""
    text = re.sub(r"\bNone: ", "left out: ", text)
    return text.replace("False", "`false`").replace("True", "`true`").replace("<", "&lt;")


def kind(field: FieldInfo) -> str:
    return said(field.annotation, field.metadata).replace("|", "\\|")


def said(annotation: Any, metadata: Any = ()) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        nested = [m for each in inner[1:] for m in getattr(each, "metadata", [each])]
        return said(inner[0], [*nested, *metadata])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(said(each, metadata) for each in inner if each is not type(None)))
    if origin is Literal:
        return " | ".join(f"`{each}`" for each in inner)
    if origin is tuple:
        return f"list of {said(inner[0])}"
    if origin is dict:
        return "names, each with a section" if list(models_in(annotation)) else f"names, each with {said(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    words = {bool: "`true` | `false`", int: "whole number", float: "number", str: "text"}
    return f"{words.get(annotation, 'value')}{bounds(metadata)}"


def bounds(metadata: Any) -> str:
    signs = {Gt: "> {}", Ge: "≥ {}", Lt: "< {}", Le: "≤ {}"}
    found = []
    for each in metadata:
        for sign, words in signs.items():
            if isinstance(each, sign):
                found.append(words.format(f"{getattr(each, sign.__name__.lower()):g}"))
        if isinstance(each, MinLen) and each.min_length == 1:
            continue
    return f" {', '.join(dict.fromkeys(found))}" if found else ""


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "**must be given**"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or value in ((), {}, ""):
        return "–"
    if isinstance(value, BaseModel):
        return "as below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    main()
