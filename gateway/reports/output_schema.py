"""JSON Schemas of what verbs print with `--json`, from the types that they print: dataclasses and typed dictionaries.

An object has the members of its type and no others. A dataclass is printed whole, so each of its members is required;
of a typed dictionary, those that are not NotRequired. The description of a field comes from its docstring.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

import msgspec

from gateway.core.field_docs import field_docs

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_WORDS = {"None": "null", "True": "true", "False": "false"}  # of Python, in what the source says of fields


def schema_of(kind: Any, **bundled: Schema) -> Schema:
    """A schema, draft 2020-12. kind: a dataclass, a typed dictionary, or a list of one.

    bundled: further schemas by name, with an $id each, to which `kind` refers by it.
    """
    (made,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    classes = {each.__name__: each for each in _classes(kind, set())}
    defined = {name: _whole(schema, classes.get(name)) for name, schema in components.items()}
    name = made.get("$ref", "").rpartition("/")[2]
    if name and not _refers_to(defined, made["$ref"]):
        made = defined.pop(name)
    defined |= bundled
    return {"$schema": DIALECT, **made, **({"$defs": defined} if defined else {})}


def closed(schema: Any) -> Any:
    """The schema with objects that have the members that it names, and no others, where it does not say otherwise."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    of_object = {"additionalProperties": False} if "properties" in schema and "type" in schema else {}
    return {**of_object, **{name: closed(each) for name, each in schema.items()}}


def _refers_to(schema: Any, reference: str) -> bool:
    if isinstance(schema, dict):
        return schema.get("$ref") == reference or any(_refers_to(each, reference) for each in schema.values())
    return isinstance(schema, list) and any(_refers_to(each, reference) for each in schema)


def _classes(kind: Any, known: set[Any]) -> Iterator[type]:
    """The dataclasses and typed dictionaries within a type."""
    for part in get_args(kind) if get_origin(kind) is not None else ():
        yield from _classes(part, known)
    if isinstance(kind, type) and kind not in known and (is_dataclass(kind) or is_typeddict(kind)):
        known.add(kind)
        yield kind
        for hint in get_type_hints(kind, include_extras=True).values():
            yield from _classes(hint, known)


def _whole(schema: Schema, kind: type | None) -> Schema:
    """The schema of an object with the parts that msgspec leaves out: its required members, and their meanings."""
    if kind is None or "properties" not in schema:
        return schema
    said = _docs_of(kind)
    about = {"description": _in_json(schema["description"])} if "description" in schema else {}
    members = {name: _member(each, said.get(name)) for name, each in schema["properties"].items()}
    required = _required(kind) if is_dataclass(kind) else schema.get("required", [])
    return {**schema, **about, "properties": members, "required": required, "additionalProperties": False}


def _required(kind: type) -> list[str]:
    """The members that are always written: all but those whose field is marked as left out where it is None."""
    return [each.name for each in fields(kind) if not each.metadata.get("left_out")]


def _member(schema: Schema, about: str | None) -> Schema:
    found = {name: value for name, value in schema.items() if name != "default"}
    return found if about is None else {**found, "description": _in_json(about)}


def _in_json(text: str) -> str:
    return re.sub(r"\b(None|True|False)\b", lambda word: _WORDS[word[0]], " ".join(text.split()))


def _docs_of(kind: type) -> Mapping[str, str]:
    """The texts of fields, inherited ones included."""
    bases = [each for each in reversed(_bases(kind)) if each.__module__.startswith("gateway.")]
    return {name: text for each in bases for name, text in _of_module(each.__module__).get(each.__name__, {}).items()}


def _bases(kind: type) -> tuple[type, ...]:
    """The class and those it inherits from; a typed dictionary keeps them in another place."""
    return (kind, *(getattr(kind, "__orig_bases__", ()) if is_typeddict(kind) else kind.__mro__[1:]))


@cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    return field_docs(inspect.getsource(sys.modules[name]), comments=True)
