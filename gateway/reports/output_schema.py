"""JSON Schemas of what verbs print with `--json`, from the types that they print: dataclasses and typed dictionaries.

An object has the members of its type and no others. A dataclass is printed whole, so each of its members is required;
of a typed dictionary, those that are not NotRequired. The description of a field comes from its docstring.

Schemas of what programs of several versions write are open: a member with a default may be absent, and there may be
more members, in objects and at the end of tuples.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
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
    return _made(kind, _whole, bundled)


def open_schema_of(kind: Any) -> Schema:
    """An open schema, draft 2020-12, of a dataclass or a typed dictionary."""
    return _made(kind, _open, {})


_Finish = Callable[[Schema, type | None], Schema]
"""Adds to the schema of a class the parts that msgspec leaves out."""


def _made(kind: Any, finish: _Finish, bundled: Mapping[str, Schema]) -> Schema:
    (made,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    classes = {each.__name__: each for each in _classes(kind, set())}
    defined = {name: finish(schema, classes.get(name)) for name, schema in components.items()}
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
    """The dataclasses, typed dictionaries and named tuples within a type."""
    for part in get_args(kind) if get_origin(kind) is not None else ():
        yield from _classes(part, known)
    if isinstance(kind, type) and kind not in known and (is_dataclass(kind) or is_typeddict(kind) or _is_tuple(kind)):
        known.add(kind)
        yield kind
        for hint in get_type_hints(kind, include_extras=True).values():
            yield from _classes(hint, known)


def _whole(schema: Schema, kind: type | None) -> Schema:
    """The schema of an object with the parts that msgspec leaves out: its required members, and their meanings."""
    if kind is None or "properties" not in schema:
        return schema
    docs = _docs_of(kind)
    members = {name: _member(each, docs.get(name)) for name, each in schema["properties"].items()}
    required = _required(kind) if is_dataclass(kind) else schema.get("required", [])
    return {**_about(schema), "properties": members, "required": required, "additionalProperties": False}


def _open(schema: Schema, kind: type | None) -> Schema:
    docs = {} if kind is None else _docs_of(kind)
    if "properties" in schema:
        members = {name: _described(each, docs.get(name)) for name, each in schema["properties"].items()}
        return {**_about(schema), "properties": members}
    if not _is_tuple(kind):
        return schema
    named = zip(kind._fields, schema["prefixItems"], strict=True)  # type: ignore[union-attr]
    items = [_described({"title": name, **each}, docs.get(name)) for name, each in named]
    return {name: value for name, value in _about(schema).items() if name != "maxItems"} | {"prefixItems": items}


def _about(schema: Schema) -> Schema:
    return {**schema, "description": _in_json(schema["description"])} if "description" in schema else schema


def _is_tuple(kind: type | None) -> bool:
    return hasattr(kind, "_fields")


def _required(kind: type) -> list[str]:
    """The members that are always written: all but those whose field is marked as left out where it is None."""
    return [each.name for each in fields(kind) if not each.metadata.get("left_out")]


def _member(schema: Schema, about: str | None) -> Schema:
    return _described({name: value for name, value in schema.items() if name != "default"}, about)


def _described(schema: Schema, about: str | None) -> Schema:
    return schema if about is None else {**schema, "description": _in_json(about)}


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
