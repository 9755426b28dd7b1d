"""The admin API's operations on keys, teams and organizations, and the audit of their changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from gateway.config.admin import Role
from gateway.console.api import (
    BEFORE,
    LIMIT,
    MOMENT,
    AdminAnswer,
    AdminCall,
    AdminOperations,
    Handler,
    Operation,
    QueryParameter,
    Schema,
    flag_of,
    limit_of,
    object_schema,
    page_schema,
    reference,
)
from gateway.features.keys import directory
from gateway.features.keys.directory import Changed
from gateway.features.keys.settings import (
    KeySettings,
    NewOrganization,
    NewTeam,
    OrganizationSettings,
    Rotation,
    TeamSettings,
    audit_view,
    view_of,
)
from gateway.store.directory import Action, DirectoryPage, Kind, Subject

AFTER = QueryParameter("after", {"type": "string"}, "The `next` of the page before.")
DELETED = QueryParameter("deleted", {"type": "boolean", "default": False}, "List those that were deleted, too.")
TEAM = QueryParameter("team", {"type": "string"}, "Only keys of this team.")
ORGANIZATION = QueryParameter("organization", {"type": "string"}, "Only teams of this organization.")
NAME = QueryParameter("name", {"type": "string"}, "Only the keys with this name.")
SUBJECT = QueryParameter("subject", {"type": "string"}, "Only changes of the key, team or organization with this id.")
END_STREAMS = QueryParameter("end_streams", {"type": "boolean"}, "End its answers in flight. Default: as the key says.")
_PUBLISHED: Schema = {
    "type": "boolean",
    "description": "Gateways can read it now, and do so within a second. false: the stream server does not answer.",
}
_SECRET: Schema = {"type": "string", "description": "Shown once, and stored nowhere."}


def _of_kind(
    kind: Kind, new: type[Any], settings: type[Any], parent: QueryParameter | None, role: Role
) -> list[Operation]:
    path, a = f"/admin/v1/{kind}s", "an" if kind == "organization" else "a"
    query = (AFTER, LIMIT, DELETED, *((parent,) if parent else ()), *((NAME,) if kind == "key" else ()))
    created = "key_with_secret" if kind == "key" else f"changed_{kind}"
    gone = "Revoke a key for good." if kind == "key" else f"Delete {a} {kind} that nothing belongs to."
    return [
        Operation(
            "GET", path, f"List {kind}s, by id.", "viewer", _listing(kind), f"{kind}s", query=query, errors=(400,)
        ),
        Operation(
            "POST", path, f"Make {a} {kind}.", role, _creating(kind), created, new, status=201, errors=(400, 409)
        ),
        Operation("GET", f"{path}/{{id}}", f"Read {a} {kind}.", "viewer", _getting(kind), kind, errors=(404, 409)),
        Operation(
            "PATCH", f"{path}/{{id}}", f"Change {a} {kind}.", "operator", _changing(kind), f"changed_{kind}", settings,
            patch=True,
        ),
        Operation(
            "DELETE", f"{path}/{{id}}", gone, role, _deleting(kind), f"changed_{kind}",
            query=(END_STREAMS,) if kind == "key" else (),
        ),
    ]  # fmt: skip


def _listing(kind: Kind) -> Handler:
    async def handler(call: AdminCall) -> AdminAnswer:
        q = call.query
        page = DirectoryPage(
            q.get("after", ""),
            limit_of(q) + 1,
            q.get("team"),
            q.get("organization"),
            q.get("name"),
            bool(flag_of(q, "deleted")),
        )
        rows = await directory.list_records(call.admin, kind, page)
        shown = rows[: page.limit - 1]
        following = shown[-1].record.id if len(rows) > len(shown) else None
        return AdminAnswer({"data": [view_of(row) for row in shown], "next": following})

    return handler


def _getting(kind: Kind) -> Handler:
    async def handler(call: AdminCall) -> AdminAnswer:
        return AdminAnswer(view_of(await directory.get_record(call.admin, kind, call.path["id"])))

    return handler


def _creating(kind: Kind) -> Handler:
    create = {
        "key": directory.create_key, "team": directory.create_team, "organization": directory.create_organization,
    }[kind]  # fmt: skip

    async def handler(call: AdminCall) -> AdminAnswer:
        return _answer(await create(call.admin, call.actor, call.body), 201)

    return handler


def _changing(kind: Kind) -> Handler:
    change = {
        "key": directory.change_key, "team": directory.change_team, "organization": directory.change_organization,
    }[kind]  # fmt: skip

    async def handler(call: AdminCall) -> AdminAnswer:
        return _answer(await change(call.admin, call.actor, call.path["id"], call.body))

    return handler


def _deleting(kind: Kind) -> Handler:
    async def handler(call: AdminCall) -> AdminAnswer:
        id = call.path["id"]
        if kind == "key":
            end_streams = flag_of(call.query, "end_streams")
            return _answer(await directory.revoke_key(call.admin, call.actor, id, end_streams=end_streams))
        return _answer(await directory.delete_record(call.admin, call.actor, kind, id))

    return handler


async def _rotate(call: AdminCall) -> AdminAnswer:
    return _answer(await directory.rotate_key(call.admin, call.actor, call.path["id"], call.body))


async def _audit(call: AdminCall) -> AdminAnswer:
    limit = limit_of(call.query)
    rows = await directory.read_audit(call.admin, call.query.get("before"), limit + 1, call.query.get("subject"))
    shown = rows[:limit]
    following = shown[-1].id if len(rows) > limit else None
    return AdminAnswer({"data": [audit_view(row) for row in shown], "next": following})


def _answer(changed: Changed, status: int = 200) -> AdminAnswer:
    return AdminAnswer(changed.view(), status)


def _schemas(models: Mapping[str, Schema]) -> dict[str, Schema]:
    found: dict[str, Schema] = {"audit": page_schema(_audit_row())}
    for kind, _, settings, _, _ in _KINDS:
        found |= _answers(kind, models[settings.__name__])
    return found


def _answers(kind: str, settings: Schema) -> dict[str, Schema]:
    properties = {
        "id": {"type": "string"},
        **settings["properties"],
        **({"secrets": _secrets()} if kind == "key" else {}),
        **dict.fromkeys(("created", "updated", "deleted"), MOMENT),
    }
    found = {kind: object_schema(properties), f"changed_{kind}": object_schema(properties | {"published": _PUBLISHED})}
    if kind == "key":
        found["key_with_secret"] = object_schema(properties | {"published": _PUBLISHED, "secret": _SECRET})
    return found | {f"{kind}s": page_schema(reference(kind))}


def _secrets() -> Schema:
    ends = object_schema({"ends": {**MOMENT, "description": "When it stops opening the key; null: it does not."}})
    return {"type": "array", "items": ends, "description": "One for each secret that opens the key, newest first."}


def _audit_row() -> Schema:
    text: Schema = {"type": "string"}
    state = {"type": ["object", "null"]}
    return object_schema(
        {
            "id": text, "at": {"type": "string", "format": "date-time"}, "actor": text, "role": text,
            "action": {"enum": list(get_args(Action))}, "kind": {"enum": list(get_args(Subject))}, "subject": text,
            "before": state, "after": state,
        }
    )  # fmt: skip


_KINDS: tuple[tuple[Kind, type[Any], type[Any], QueryParameter | None, Role], ...] = (
    ("organization", NewOrganization, OrganizationSettings, None, "owner"),
    ("team", NewTeam, TeamSettings, ORGANIZATION, "owner"),
    ("key", KeySettings, KeySettings, TEAM, "operator"),
)
_ROTATE = "Give a key a new secret, which is shown once. The present ones open it until the overlap ends."
_AUDIT = "The changes, newest first: who, when, what, before and after."
OPERATIONS = AdminOperations(
    (
        *(operation for kind in _KINDS for operation in _of_kind(*kind)),
        Operation("POST", "/admin/v1/keys/{id}/rotate", _ROTATE, "operator", _rotate, "key_with_secret", Rotation),
        Operation(
            "GET", "/admin/v1/audit", _AUDIT, "viewer", _audit, "audit", query=(BEFORE, LIMIT, SUBJECT), errors=(400,)
        ),
    ),
    _schemas,
)
