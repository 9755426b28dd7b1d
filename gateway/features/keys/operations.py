"""The admin API's operations on keys, teams and organizations, and the audit of their changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from gateway.config.admin import Role
from gateway.console.api import (
    BEFORE,
    LIMIT,
    MOMENT,
    AdminAnswer,
    AdminCall,
    AdminOperations,
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
    NewKey,
    NewOrganization,
    NewTeam,
    OrganizationSettings,
    Rotation,
    TeamSettings,
    moment,
    view_of,
)
from gateway.store.directory import Action, DirectoryPage, Kind, Subject, list_rows

AFTER = QueryParameter("after", {"type": "string"}, "The `next` of the previous page.")
DELETED = QueryParameter("deleted", {"type": "boolean", "default": False}, "List those that were deleted, too.")
TEAM = QueryParameter("team", {"type": "string"}, "Only keys of this team.")
ORGANIZATION = QueryParameter("organization", {"type": "string"}, "Only teams of this organization.")
PERSON = QueryParameter("person", {"type": "string"}, "Only keys of this person.")
NAME = QueryParameter("name", {"type": "string"}, "Only the keys with this name.")
SHA256 = QueryParameter("sha256", {"type": "string"}, "Only the key that the secret with this SHA-256 opens.")
SUBJECT = QueryParameter("subject", {"type": "string"}, "Only changes of the key, team or organization with this id.")
END_STREAMS = QueryParameter("end_streams", {"type": "boolean"}, "End its answers in flight. Default: as the key says.")
_PUBLISHED: Schema = {
    "type": "boolean",
    "description": "Gateways can read it now, and do so within a second. false: the stream server does not answer.",
}
_SECRET: Schema = {
    "type": ["string", "null"],
    "description": "Shown once, and stored nowhere. null: the key was made from the SHA-256 of a secret.",
}


def _of_kind(
    kind: Kind, new: type[Any], settings: type[Any], parent: QueryParameter | None, role: Role
) -> list[Operation]:
    path, a = f"/admin/v1/{kind}s", "an" if kind == "organization" else "a"
    one, changed, of = f"{path}/{{id}}", f"changed_{kind}", KindHandlers(kind)
    query = (AFTER, LIMIT, DELETED, *((parent,) if parent else ()), *((PERSON, NAME, SHA256) if kind == "key" else ()))
    created = "key_with_secret" if kind == "key" else changed
    gone = "Revoke a key permanently." if kind == "key" else f"Delete {a} {kind} that nothing belongs to."
    ending = (END_STREAMS,) if kind == "key" else ()
    below = kind != "organization"  # limited rights hold below an organization at most
    return [
        Operation(
            "GET", path, f"List {kind}s, by id.", "viewer", of.list, f"{kind}s", query=query, errors=(400,), scoped=True
        ),
        Operation(
            "POST",
            path,
            f"Make {a} {kind}.",
            role,
            of.create,
            created,
            new,
            status=201,
            errors=(400, 409),
            scoped=below,
        ),
        Operation("GET", one, f"Read {a} {kind}.", "viewer", of.get, kind, errors=(404, 409), scoped=True),
        Operation(
            "PATCH", one, f"Change {a} {kind}.", "operator", of.change, changed, settings, patch=True, scoped=below
        ),
        Operation("DELETE", one, gone, role, of.delete, changed, query=ending, scoped=below),
    ]


@dataclass(frozen=True, slots=True)
class KindHandlers:
    """The handlers of the operations on records of one kind."""

    kind: Kind

    async def list(self, call: AdminCall) -> AdminAnswer:
        q, limit = call.query, limit_of(call.query)
        parents = (q.get("team"), q.get("organization"))
        digest, deleted = q.get("sha256"), bool(flag_of(q, "deleted"))
        page = DirectoryPage(q.get("after", ""), limit + 1, *parents, q.get("name"), digest, deleted, q.get("person"))
        rows = await call.admin.store.read(lambda c: list_rows(c, self.kind, page))
        following = rows[limit - 1].record.id if len(rows) > limit else None
        return AdminAnswer({"data": [view_of(row) for row in rows[:limit]], "next": following})

    async def get(self, call: AdminCall) -> AdminAnswer:
        return AdminAnswer(view_of(await directory.get_record(call.admin, self.kind, call.path["id"])))

    async def create(self, call: AdminCall) -> AdminAnswer:
        changed = await directory.create_record(call.admin, call.actor, self.kind, call.body)
        secret = {"secret": changed.secret} if self.kind == "key" else {}
        return AdminAnswer(changed.view() | secret, 201)

    async def change(self, call: AdminCall) -> AdminAnswer:
        return _answer(await directory.change_record(call.admin, call.actor, self.kind, call.path["id"], call.body))

    async def delete(self, call: AdminCall) -> AdminAnswer:
        id = call.path["id"]
        if self.kind == "key":
            end_streams = flag_of(call.query, "end_streams")
            return _answer(await directory.revoke_key(call.admin, call.actor, id, end_streams=end_streams))
        return _answer(await directory.delete_record(call.admin, call.actor, self.kind, id))


async def _rotate(call: AdminCall) -> AdminAnswer:
    return _answer(await directory.rotate_key(call.admin, call.actor, call.path["id"], call.body))


async def _audit(call: AdminCall) -> AdminAnswer:
    limit = limit_of(call.query)
    rows = await directory.read_audit(call.admin, call.query.get("before"), limit + 1, call.query.get("subject"))
    following = rows[limit - 1].id if len(rows) > limit else None
    return AdminAnswer({"data": [asdict(row) | {"at": moment(row.at)} for row in rows[:limit]], "next": following})


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
    ends = object_schema({"ends": {**MOMENT, "description": "Time at which it stops opening the key; null: never."}})
    return {"type": "array", "items": ends, "description": "One for each secret that opens the key, newest first."}


def _audit_row() -> Schema:
    text: Schema = {"type": "string"}
    state = {"type": ["object", "null"]}
    return object_schema(
        {
            "id": text,
            "at": {"type": "string", "format": "date-time"},
            "actor": text,
            "role": text,
            "action": {"enum": list(get_args(Action))},
            "kind": {"enum": list(get_args(Subject))},
            "subject": text,
            "before": state,
            "after": state,
        }
    )


_KINDS: tuple[tuple[Kind, type[Any], type[Any], QueryParameter | None, Role], ...] = (
    ("organization", NewOrganization, OrganizationSettings, None, "owner"),
    ("team", NewTeam, TeamSettings, ORGANIZATION, "owner"),
    ("key", NewKey, KeySettings, TEAM, "operator"),
)
_ROTATE = "Give a key a new secret, which is shown once. The present ones open it until the overlap ends."
_AUDIT = "The changes, newest first: who, when, what, before and after."
OPERATIONS = AdminOperations(
    (
        *(operation for kind in _KINDS for operation in _of_kind(*kind)),
        Operation(
            "POST", "/admin/v1/keys/{id}/rotate", _ROTATE, "operator", _rotate, "key_with_secret", Rotation, scoped=True
        ),
        Operation(
            "GET",
            "/admin/v1/audit",
            _AUDIT,
            "viewer",
            _audit,
            "audit",
            query=(BEFORE, LIMIT, SUBJECT),
            errors=(400,),
            scoped=True,
        ),
    ),
    _schemas,
)
