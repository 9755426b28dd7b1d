"""The description of the admin API, OpenAPI 3.1, from the same operations that are served."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from gateway import __version__
from gateway.config.schema import SectionSchema
from gateway.console.api import AdminOperations, Operation, Schema, object_schema, reference

_ERRORS: Mapping[int, str] = {
    400: "The request has mistakes; each is named with its path and its remedy.",
    401: "There is no admin token, or an unknown one.",
    403: "The token's role does not allow this.",
    404: "There is nothing with this id.",
    409: "Another one has the id or the name, or others belong to it, gateway.yaml has it, or the ramp forbids it now.",
    413: "The body is larger than 1 MB.",
    429: "Too many attempts with wrong tokens came from this address.",
    503: "The store or the stream server does not answer.",
}
_ALWAYS = (401, 403, 429, 503)


def describe(found: Sequence[AdminOperations]) -> Schema:
    paths: dict[str, Schema] = {}
    for each in (operation for feature in found for operation in feature.operations):
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Assay Gateway admin API",
            "version": __version__,
            "description": "Keys, teams, organizations and ramps, changed while the gateways run.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A token of `admin.tokens`."},
                "key": {"type": "http", "scheme": "bearer", "description": "The secret of a key."},
            },
            "schemas": _schemas(found),
        },
    }


def _operation(each: Operation) -> Schema:
    csv: Schema = {"text/csv": {"schema": {"type": "string"}}} if each.csv else {}
    in_path = re.findall(r"{(\w+)}", each.path)
    described: Schema = {
        "operationId": _operation_id(each),
        "summary": each.about,
        **({"security": [{"key": []}]} if each.of_key else {}),
        "description": _needs(each),
        "parameters": [
            *({"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in in_path),
            *({"name": q.name, "in": "query", "description": q.about, "schema": dict(q.schema)} for q in each.query),
        ],
        "responses": {
            str(each.status): {"description": "Done.", "content": _json(reference(each.answer)) | csv},
            **{
                str(status): {"description": _ERRORS[status], "content": _json(reference("error"))}
                for status in sorted({*each.errors, *_ALWAYS, *((413,) if each.body else ())})
            },
        },
    }
    if each.body is not None:
        name = each.body.__name__ + ("Patch" if each.patch else "")
        required = each.method != "POST" or any(field.is_required() for field in each.body.model_fields.values())
        described["requestBody"] = {"required": required, "content": _json(reference(name))}
    return described


def _needs(each: Operation) -> str:
    if each.of_key:
        return "Needs the secret of a key, and no admin token."
    return f"Needs the role {each.role}" + (
        ", which may be limited to a team or an organization." if each.scoped else "."
    )


def _operation_id(each: Operation) -> str:
    if each.of_key:
        return "read_own_key" if each.method == "GET" else "rotate_own_key"
    verb = {"GET": "read", "POST": "make", "PATCH": "change", "DELETE": "delete"}[each.method]
    parts = each.path.removeprefix("/admin/v1/").split("/")
    if parts[-1] == "rotate":
        return "rotate_key"
    if parts[0] == "experiments":
        done = {"gate": "check", "history": "read"}.get(parts[-1], parts[-1])
        return f"read_{parts[-1]}_of_ramp" if each.method == "GET" else f"{done}_ramp"
    if parts[0] == "guards" and len(parts) == 3:
        return f"read_{parts[-1]}_of_guard" if each.method == "GET" else f"{parts[-1]}_guard"
    return f"{verb}_{parts[0].removesuffix('s') if len(parts) > 1 or each.method == 'POST' else parts[0]}"


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _schemas(found: Sequence[AdminOperations]) -> dict[str, Schema]:
    operations = [operation for each in found for operation in each.operations]
    bodies = {operation.body for operation in operations if operation.body}
    models: list[Any] = [(model, "validation") for model in sorted(bodies, key=lambda m: m.__name__)]
    template = reference("{model}")["$ref"]
    _, described = models_json_schema(models, ref_template=template, schema_generator=SectionSchema)
    schemas: dict[str, Schema] = described["$defs"]
    for name in sorted({operation.body.__name__ for operation in operations if operation.body and operation.patch}):
        schemas[f"{name}Patch"] = _patch_of(schemas[name])
    schemas["LimitsPatch"] = _patch_of(schemas["LimitsConfig"])
    for each in found:
        schemas |= each.schemas(schemas)
    return schemas | {"error": _error()}


def _patch_of(schema: Schema) -> Schema:
    """The schema of a merge patch: every part is optional, and null removes it."""
    properties = {}
    for name, each in schema["properties"].items():
        limits = each.get("$ref") == reference("LimitsConfig")["$ref"]
        properties[name] = {"anyOf": [reference("LimitsPatch") if limits else each, {"type": "null"}]}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _error() -> Schema:
    text: Schema = {"type": "string"}
    error = object_schema({"code": text, "message": text, "mistakes": {"type": "array", "items": text}})
    return object_schema({"error": error})
