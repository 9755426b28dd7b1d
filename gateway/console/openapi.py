"""The description of the admin API, OpenAPI 3.1, from the same table that serves it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway import __version__
from gateway.config.field_docs import SectionSchema
from gateway.console.api import Operation
from gateway.core.ramp import RampMode, RampState
from gateway.features.keys.settings import KeySettings, OrganizationSettings, TeamSettings
from gateway.features.ramp.gate import GateStatus
from gateway.features.usage.summary import NUMBERS
from gateway.store.directory import Action, Subject
from gateway.store.usage import DIMENSIONS

Schema = dict[str, Any]
_REF = "#/components/schemas/"
_MOMENT: Schema = {"type": ["string", "null"], "format": "date-time"}
_PUBLISHED: Schema = {
    "type": "boolean",
    "description": "Gateways can read it now, and do so within a second. false: the stream server does not answer.",
}
_SECRET: Schema = {"type": "string", "description": "Shown once, and stored nowhere."}
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


def describe(operations: Sequence[Operation]) -> Schema:
    """The whole document."""
    paths: dict[str, Schema] = {}
    for each in operations:
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
                "token": {"type": "http", "scheme": "bearer", "description": "A token of `admin.tokens`."}
            },
            "schemas": _schemas(operations),
        },
    }


def _operation(each: Operation) -> Schema:
    described: Schema = {
        "operationId": _operation_id(each),
        "summary": each.about,
        "description": f"Needs the role {each.role}.",
        "parameters": [
            *({"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in _in_path(each.path)),
            *({"name": q.name, "in": "query", "description": q.about, "schema": dict(q.schema)} for q in each.query),
        ],
        "responses": {
            str(each.status): {"description": "Done.", "content": _json(_ref(each.answer)) | _as_csv(each)},
            **{
                str(status): {"description": _ERRORS[status], "content": _json(_ref("error"))}
                for status in sorted({*each.errors, *_ALWAYS, *((413,) if each.body else ())})
            },
        },
    }
    if each.body is not None:
        name = each.body.__name__ + ("Patch" if each.patch else "")
        described["requestBody"] = {
            "required": each.method != "POST" or not _all_optional(each.body),
            "content": _json(_ref(name)),
        }
    return described


def _as_csv(each: Operation) -> Schema:
    return {"text/csv": {"schema": {"type": "string"}}} if each.answer == "usage" else {}


def _all_optional(model: type[BaseModel]) -> bool:
    return not any(field.is_required() for field in model.model_fields.values())


def _operation_id(each: Operation) -> str:
    verb = {"GET": "read", "POST": "make", "PATCH": "change", "DELETE": "delete"}[each.method]
    parts = each.path.removeprefix("/admin/v1/").split("/")
    if parts[-1] == "rotate":
        return "rotate_key"
    if parts[0] == "experiments":
        done = {"gate": "check", "history": "read"}.get(parts[-1], parts[-1])
        return f"read_{parts[-1]}_of_ramp" if each.method == "GET" else f"{done}_ramp"
    return f"{verb}_{parts[0].removesuffix('s') if len(parts) > 1 or each.method == 'POST' else parts[0]}"


def _in_path(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> Schema:
    return {"$ref": _REF + name}


def _schemas(operations: Sequence[Operation]) -> dict[str, Schema]:
    bodies = {each.body for each in operations if each.body} | {OrganizationSettings, TeamSettings, KeySettings}
    models: list[Any] = [(model, "validation") for model in sorted(bodies, key=lambda m: m.__name__)]
    _, found = models_json_schema(models, ref_template=_REF + "{model}", schema_generator=SectionSchema)
    schemas: dict[str, Schema] = found["$defs"]
    for name in ("OrganizationSettings", "TeamSettings", "KeySettings"):
        schemas[f"{name}Patch"] = _patch_of(schemas[name])
    schemas["LimitsPatch"] = _patch_of(schemas["LimitsConfig"])
    for kind, name in (("organization", "OrganizationSettings"), ("team", "TeamSettings"), ("key", "KeySettings")):
        schemas |= _answers(kind, schemas[name])
    return schemas | _ramps() | {"error": _error(), "audit": _page(_audit_row()), "usage": _usage()}


def _ramps() -> dict[str, Schema]:
    text: Schema = {"type": "string"}
    number: Schema = {"type": "number"}
    moment: Schema = {"type": "string", "format": "date-time"}
    flag: Schema = {"type": "boolean"}
    whole: Schema = {"type": "integer"}
    state: Schema = {"enum": list(get_args(RampState))}
    common = {"version": whole, "plan": text, "state": state, "step": whole, "paused": flag, "overridden": flag}
    said = {"by": text, "reason": text}
    before = {"anyOf": [_object({"state": state, "step": whole}), {"type": "null"}]}
    return {
        "ramp": _object(
            {"experiment": text, **common, **said, "at": moment, "since": moment, "cooling_until": _MOMENT}
        ),
        "ramp_history": _page(
            _object(
                {"id": text, "at": moment, "kind": text, "before": before, **common, **said,
                 "evidence": {"type": "object"}}
            )
        ),
        "gate": _object(
            {
                "status": {"enum": list(get_args(GateStatus))}, "experiment": text, "plan": text,
                "state": {"enum": ["draft", *get_args(RampState)]}, "step": whole,
                "steps": {"type": "array", "items": number}, "share": number,
                "holdout": {"anyOf": [_object({"share": number, "until": number}), {"type": "null"}]},
                "switch": {"type": "array", "items": text}, "paused": flag, "overridden": flag,
                "mode": {"enum": list(get_args(RampMode))}, "verdict": {"type": ["string", "null"]},
                "pairs": {"type": ["integer", "null"]}, "action": {"type": ["string", "null"]}, "reason": text,
                "since": {"type": ["number", "null"]}, "at": {"type": ["number", "null"]},
            }
        ),
    }  # fmt: skip


def _patch_of(schema: Schema) -> Schema:
    """Every part optional, and null where it may be removed."""
    properties = {}
    for name, each in schema["properties"].items():
        limits = each.get("$ref") == f"{_REF}LimitsConfig"
        properties[name] = {"anyOf": [_ref("LimitsPatch") if limits else each, {"type": "null"}]}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _answers(kind: str, settings: Schema) -> dict[str, Schema]:
    properties = {
        "id": {"type": "string"},
        **settings["properties"],
        **({"secrets": _secrets()} if kind == "key" else {}),
        **dict.fromkeys(("created", "updated", "deleted"), _MOMENT),
    }
    found = {kind: _object(properties), f"changed_{kind}": _object(properties | {"published": _PUBLISHED})}
    if kind == "key":
        found["key_with_secret"] = _object(properties | {"published": _PUBLISHED, "secret": _SECRET})
    return found | {f"{kind}s": _page(_ref(kind))}


def _secrets() -> Schema:
    ends = _object({"ends": {**_MOMENT, "description": "When it stops opening the key; null: it does not."}})
    return {"type": "array", "items": ends, "description": "One for each secret that opens the key, newest first."}


def _page(item: Schema) -> Schema:
    more = {"type": ["string", "null"], "description": "Where the next page begins; null: this is the last one."}
    return _object({"data": {"type": "array", "items": item}, "next": more})


def _audit_row() -> Schema:
    text: Schema = {"type": "string"}
    state = {"type": ["object", "null"]}
    return _object(
        {
            "id": text, "at": {"type": "string", "format": "date-time"}, "actor": text, "role": text,
            "action": {"enum": list(get_args(Action))}, "kind": {"enum": list(get_args(Subject))}, "subject": text,
            "before": state, "after": state,
        }
    )  # fmt: skip


def _usage() -> Schema:
    day: Schema = {"type": "string", "format": "date"}
    figures = {name: {"type": ["number", "null"] if name == "usd" else "integer"} for name in NUMBERS}
    dimensions = {name: {"type": "string"} for name in (*DIMENSIONS, "key_name")}
    row = {**_object(figures), "properties": figures | dimensions}
    return _object(
        {
            "since": day, "until": day, "by": {"type": "array", "items": {"enum": list(DIMENSIONS)}},
            "rows": {"type": "array", "items": row}, "total": _object(figures),
        }
    )  # fmt: skip


def _error() -> Schema:
    text: Schema = {"type": "string"}
    error = _object({"code": text, "message": text, "mistakes": {"type": "array", "items": text}})
    return _object({"error": error})


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object", "additionalProperties": False, "required": list(properties), "properties": dict(properties),
    }  # fmt: skip
