"""The JSON Schema of gateway.yaml, for editors. It describes sections one by one; checks.py also compares them."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from gateway.config.config import Config
from gateway.config.field_docs import SectionSchema

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
