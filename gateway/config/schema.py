"""The JSON Schema of gateway.yaml, for editors. It describes sections one by one; checks/ also compares them.

The string under a field of a section is its public documentation, which is read from the source on demand. Pydantic's
`use_attribute_docstrings` would read it whenever a program starts: it parses each section once more, which took a tenth
of the start of `gateway serve` (0.08 s). Only `gateway schema`, the description of the admin API and
docs/configuration.py need it.
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from gateway.config.config import Config
from gateway.core.field_docs import field_docs as docs_of_source


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Docstrings by field, inherited ones included; a field without one is left out."""
    sections = [each for each in reversed(model.__mro__) if issubclass(each, BaseModel) and each is not BaseModel]
    found: dict[str, str] = {}
    for each in sections:
        found |= _module_docs(each.__module__).get(each.__name__, {})
    return {key_of(name, model): text for name, text in found.items()}


def key_of(name: str, model: type[BaseModel]) -> str:
    """The key of a field in gateway.yaml: its name, unless that is a word of Python."""
    field = model.model_fields.get(name)
    return name if field is None or field.alias is None else field.alias


@functools.cache
def _module_docs(name: str) -> dict[str, dict[str, str]]:
    """Docstrings of a module, by class and field."""
    return docs_of_source(inspect.getsource(sys.modules[name]))


class SectionSchema(GenerateJsonSchema):
    """The strings under the fields are descriptions; titles, which only repeat names, are left out."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: Any) -> dict[str, Any]:
        made = super().model_schema(schema)
        docs = field_docs(schema["cls"])
        for name, each in made.get("properties", {}).items():
            if name in docs:
                each.setdefault("description", docs[name])
        return made


_VARIABLE = {"type": "string", "pattern": r"\$\{[^}]*\}"}
_ANNOTATIONS = ("title", "description", "default", "examples")
_SCALARS = ("integer", "number", "boolean")


def json_schema() -> dict[str, Any]:
    """A draft 2020-12 schema. Where a value is not free text, `${NAME}` is allowed as well."""
    schema = Config.model_json_schema(schema_generator=SectionSchema)
    for definition in schema["$defs"].values():
        definition.pop("title", None)
        _allow_variables(definition)
    _allow_variables(schema)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "gateway.yaml"}


def _allow_variables(section: dict[str, Any]) -> None:
    """Changes the values of a section's schema in place."""
    for name, value in section.get("properties", {}).items():
        section["properties"][name] = _or_variable(value)
    if isinstance(section.get("additionalProperties"), dict):
        section["additionalProperties"] = _or_variable(section["additionalProperties"])


def _or_variable(schema: dict[str, Any]) -> dict[str, Any]:
    if "items" in schema:
        return {**schema, "items": _or_variable(schema["items"])}
    if isinstance(schema.get("additionalProperties"), dict):
        return {**schema, "additionalProperties": _or_variable(schema["additionalProperties"])}
    if "anyOf" in schema:
        choices = [each if _is_restricted(each) else _or_variable(each) for each in schema["anyOf"]]
        restricted = any(map(_is_restricted, choices))
        return {**schema, "anyOf": [*choices, *([_VARIABLE] if restricted else [])]}
    if not _is_restricted(schema):
        return schema
    about = {key: schema[key] for key in _ANNOTATIONS if key in schema}
    value = {key: each for key, each in schema.items() if key not in about}
    return {**about, "anyOf": [value, _VARIABLE]}


def _is_restricted(schema: dict[str, Any]) -> bool:
    """Whether the schema of a scalar rejects some text."""
    if schema.get("type") in _SCALARS or "enum" in schema or "const" in schema:
        return True
    return schema.get("type") == "string" and bool({"pattern", "format", "minLength", "maxLength"} & set(schema))
