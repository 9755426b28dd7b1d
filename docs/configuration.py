"""Writes docs/configuration.md from the models that read gateway.yaml: `python docs/configuration.py`.

A test fails when the page is not what this makes. The text of a key is the string under its field.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.config.config import Config
from gateway.config.deprecations import deprecated_keys
from gateway.config.schema import field_docs, key_of

PAGE = Path(__file__).with_name("configuration.md")
HEAD = """\
# Configuration

Every key of `gateway.yaml`. `python docs/configuration.py` writes this page from the models that read the file.

- Unknown keys are errors. `gateway check gateway.yaml` reports all mistakes at once, each with its path and, where a
  known name is similar, a suggestion.
- `${NAME}` anywhere in a value is replaced by that environment variable; a variable that is not set is an error.
- `${file:/run/secrets/openai}` is replaced by the content of that file, without the line break at its end. The path
  must be absolute. A running `gateway serve` reads the file again when it changes, so that a provider's key is replaced
  without a restart.
- Only `upstreams` and `models` are required.
- A running `gateway serve`, `gateway evaluate` and `gateway console` read the file again when it changes, the first two
  also at SIGHUP. A consumer finishes its batch first, and keeps the stream server that it was started with. A file with
  mistakes is rejected: the old configuration stays in use, and `gateway_config_ok` is 0.

## Completion and checks in an editor

`gateway schema` prints the JSON Schema of the file:

```sh
gateway schema > gateway.schema.json
```

Editors with the YAML language server (VS Code with the extension "YAML" by Red Hat, Neovim, Helix, Emacs, …) complete
keys, show the descriptions on this page and underline mistakes when the first line of the file names the schema:

```yaml
# yaml-language-server: $schema=gateway.schema.json
open: true
upstreams: {local: {kind: vllm}}
models: {chat: {targets: [{upstream: local, model: smollm2}]}}
```

In VS Code, the setting `"yaml.schemas": {"gateway.schema.json": "gateway*.yaml"}` does the same for a whole folder.
The schema covers single sections only; `gateway check` also checks that sections agree, for example on names of
upstreams.
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
    """The sections inside a type, each with the end of its path: [] in a list, .NAME in a mapping."""
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
    intro = escaped(" ".join((model.__doc__ or "").split()))
    lines = [
        f"## `{path}`" if path else "## The file",
        "",
        intro,
        "",
        "| key | value | default | |",
        "|---|---|---|---|",
    ]
    docs, old = field_docs(model), deprecated_keys(model)
    for attribute, field in model.model_fields.items():
        name = key_of(attribute, model)
        lines.append(
            f"| `{name}` | {kind(field)} | {default(field)} | {said(name, field.description or docs[name], old)} |"
        )
    if model.model_config.get("extra") == "allow":
        lines.append("| … | | | Further keys are options of what `use` names. |")
    return "\n".join([*lines, ""])


def said(name: str, text: str, old: Mapping[str, str]) -> str:
    return cell(f"Deprecated: {old[name]}. {text}" if name in old else text)


def cell(text: str) -> str:
    return escaped(" ".join(text.split())).replace("|", "\\|")


def escaped(text: str) -> str:
    return text.replace("<", "&lt;")


def kind(field: FieldInfo) -> str:
    return type_name(field.annotation, field.metadata).replace("|", "\\|")


def type_name(annotation: Any, metadata: Any = ()) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        nested = [m for each in inner[1:] for m in getattr(each, "metadata", [each])]
        return type_name(inner[0], [*nested, *metadata])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_name(each, metadata) for each in inner if each is not type(None)))
    if origin is Literal:
        return " | ".join(f"`{each}`" for each in inner)
    if origin is tuple:
        item = type_name(inner[0])
        return "list of sections" if item == "section" else f"list of {item}"
    if origin is dict:
        return (
            "mapping of names to sections"
            if list(models_in(annotation))
            else f"mapping of names to {type_name(inner[1])}"
        )
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {bool: "`true` | `false`", int: "whole number", float: "number", str: "text", date: "day"}
    return f"{names.get(annotation, 'value')}{bounds(metadata)}"


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
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or value in ((), {}, ""):
        return "–"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    main()
