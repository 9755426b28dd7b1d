"""Writes docs/configuration.md from the models that read gateway.yaml: `python docs/configuration.py`.

A test fails when the page is not what this makes. The text of a key is the string under its field.
"""

from __future__ import annotations

import re
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
from gateway.config.types import Section

PAGE = Path(__file__).with_name("configuration.md")
HEAD = """\
# Configuration

Every key of `gateway.yaml`. Six sections are enough for most gateways: `upstreams`, `models`, `keys`, `sampling`,
`scorers` and `experiments`. They come first, each with an example. Only `upstreams` and `models` are required.

```sh
gateway check gateway.yaml                  # all mistakes at once, each with its path and a suggestion
gateway schema > gateway.schema.json        # completion and checks in an editor
```

- An unknown key is an error.
- `${NAME}` in a value is replaced by that environment variable. A variable that is not set is an error.
- `${file:/run/secrets/openai}` is replaced by the content of that file, without the line break at its end. The path
  must be absolute. A running `gateway serve` reads the file again when it changes, so that a provider's key is replaced
  without a restart.
- A running `gateway serve`, `gateway evaluate` and `gateway console` read `gateway.yaml` again when it changes, the
  first two also at SIGHUP. A consumer finishes its batch first, and keeps the stream server that it was started with.
- A file with mistakes is rejected: the old configuration stays in use, and `gateway_config_ok` is 0.

An editor with the YAML language server (in VS Code the extension "YAML" by Red Hat) completes keys when the first line
of the file is `# yaml-language-server: $schema=gateway.schema.json`. Only `gateway check` knows whether sections agree,
for example on names of upstreams.

`docs/configuration.py` writes this page from the models that read the file. A section that several others have is
printed once: follow its link.
"""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Most gateways need these": ("upstreams", "models", "keys", "sampling", "scorers", "experiments"),
    "Start: what clients may call": ("passthrough", "responses"),
    "Decide: evidence, and what follows from it": (
        "evals", "feedback", "predictor", "decisions", "cascades", "guards", "runs", "ingest", "watch", "webhooks",
    ),
    "Run: people, money, data": (
        "people", "teams", "organizations", "budgets", "prices", "tags", "jwt", "admin", "limits", "redaction",
        "stream", "store", "notify", "egress",
    ),
    "Reference: metrics, logs, traces": ("metrics", "log", "otel"),
}  # fmt: skip
"""The sections by the parts of docs/README.md, in the order of the page."""
EXAMPLES: Mapping[str, str] = {
    "upstreams": """\
Where requests can go. `kind` knows the provider's address, dialect and limits ([engines](engines.md)).

```yaml
upstreams:
  local: {kind: vllm, base_url: "http://127.0.0.1:8001/v1"}
  openai: {kind: openai, api_key: "${OPENAI_API_KEY}"}
```""",
    "models": """\
The names that clients use, each with its targets. A fallback is asked when they fail.

```yaml
upstreams:
  local: {kind: vllm, base_url: "http://127.0.0.1:8001/v1"}
  openai: {kind: openai, api_key: "${OPENAI_API_KEY}"}
models:
  chat:
    targets: [{upstream: local, model: smollm2}]
    fallback: [{upstream: openai, model: gpt-5.4-mini}]
```""",
    "keys": """\
Who may call. The file has digests, never secrets: `printf %s "$KEY" | sha256sum`. Keys can also be made while the
gateway runs ([teams](teams.md)).

```yaml
keys:
  - {name: web, sha256: "${WEB_KEY_SHA256}", models: [chat], limits: {usd_per_month: 50}}
```""",
    "sampling": """\
Which share of the calls is recorded and scored ([sampling and the stream](sampling-and-stream.md)).

```yaml
sampling:
  rate: 0.1
  rules:
    - {name: errors, when: {outcome: error}, rate: 1.0}
```""",
    "scorers": """\
What is measured on each recorded answer ([scorers](scorers.md)).

```yaml
scorers:
  valid_json: {}
  helpful: {use: judge, judge: chat, template: quality}
```""",
    "experiments": """\
Whether a candidate may replace the control ([experiments](experiments.md)).

```yaml
experiments:
  swap:
    model: chat
    control: {upstream: openai, model: gpt-5.4-mini}
    candidate: {upstream: local, model: smollm2}
    shadow: 0.05
    primary: valid_json
    margin: 0.02
```""",
}
Model = type[BaseModel]


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    return "\n".join([HEAD, *Page().parts()])


def sections(path: str, model: Model) -> Iterator[tuple[str, Model]]:
    """Every path of a section with its model. A model that several sections have comes once for each."""
    yield path, model
    for name, inner in inner_sections(path, model):
        yield from sections(name, inner)


def inner_sections(path: str, model: Model) -> Iterator[tuple[str, Model]]:
    for name, field in model.model_fields.items():
        for inner, suffix in models_in(field.annotation):
            yield f"{path}.{name}{suffix}".lstrip("."), inner


class Page:
    """Prints each model at its first path. `paths` has all paths at which a printed section has it."""

    def __init__(self) -> None:
        self.paths: dict[Model, list[str]] = {}
        self.rows: dict[Model, dict[str, str]] = {}
        """The row of each key of the models that are printed so far."""

    def parts(self) -> Iterator[str]:
        top = {name: list(self._walk(name)) for names in GROUPS.values() for name in names}
        yield self._file()
        for title, names in GROUPS.items():
            yield f"## {title}\n"
            for name in names:
                (path, model), *below = top[name]
                yield self._section(f"### `{path}`", path, model, EXAMPLES.get(name, ""))
                yield from (self._section(f"#### `{path}`", path, model) for path, model in below)

    def _walk(self, name: str) -> Iterator[tuple[str, Model]]:
        """The models below a section of the file that are not printed yet, with their paths."""
        field = Config.model_fields[name]
        waiting = [(f"{name}{suffix}", inner) for inner, suffix in models_in(field.annotation)]
        while waiting:
            path, model = waiting.pop(0)
            printed = model in self.paths
            self.paths.setdefault(model, []).append(path)
            if not printed:
                yield path, model
                waiting[:0] = inner_sections(path, model)

    def _file(self) -> str:
        names = [name for group in GROUPS.values() for name in group]
        plain = [name for name in Config.model_fields if name not in names]
        return "\n".join(["## The file", "", *TABLE, *(self._row(Config, name) for name in [*names, *plain]), ""])

    def _section(self, heading: str, path: str, model: Model, example: str = "") -> str:
        lines = [heading, "", example or escaped(" ".join((model.__doc__ or "").split())), ""]
        if others := [f"`{other}`" for other in self.paths[model] if other != path]:
            lines += [f"The same keys are in {', '.join(others)}.", ""]
        rows = {key_of(name, model): self._row(model, name) for name in model.model_fields}
        lines += [*TABLE, *self._new_rows(model, rows)]
        self.rows[model] = rows
        if model.model_config.get("extra") == "allow":
            lines.append("| … | | | Further keys are options of what `use` names. |")
        return "\n".join([*lines, ""])

    def _new_rows(self, model: Model, rows: Mapping[str, str]) -> Iterator[str]:
        """The rows, without those that a printed model of the same family has: it is named instead."""
        repeated: dict[Model, list[str]] = {}
        for key, row in rows.items():
            same = next((m for m, theirs in self.rows.items() if theirs.get(key) == row and related(m, model)), None)
            if same is None:
                yield row
            else:
                repeated.setdefault(same, []).append(f"`{key}`")
        for same, keys in repeated.items():
            yield f"| {', '.join(keys)} | | | as in {link(self.paths[same][0])} |"

    def _row(self, model: Model, attribute: str) -> str:
        field, name, old = model.model_fields[attribute], key_of(attribute, model), deprecated_keys(model)
        text = description_cell(name, field.description or field_docs(model)[name], old)
        return f"| `{name}` | {self._kind(field)} | {default(field)} | {text} |"

    def _kind(self, field: FieldInfo) -> str:
        """The type of a field, in which the word "section" is a link."""
        inner = [self.paths[model][0] for model, _ in models_in(field.annotation) if model in self.paths]
        if not inner:
            return kind(field)
        return re.sub(r"\bsections?\b", lambda word: f"[{word[0]}](#{anchor(inner[0])})", kind(field))


TABLE = ["| key | value | default | |", "|---|---|---|---|"]


def related(one: Model, other: Model) -> bool:
    """Whether two models have a base in common, apart from that of all sections."""
    return bool({*one.__mro__} & {*other.__mro__} - {*Section.__mro__})


def anchor(path: str) -> str:
    return re.sub(r"[^\w-]", "", path.lower())


def link(path: str) -> str:
    return f"[`{path}`](#{anchor(path)})"


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


def description_cell(name: str, text: str, old: Mapping[str, str]) -> str:
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
        return "see there"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    main()
