"""The admin API: which path is which function of features/keys/directory.py. One table, which openapi.py describes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.config.admin import Role
from gateway.console.access import Actor
from gateway.console.errors import InvalidBody
from gateway.features.keys import directory
from gateway.features.keys.directory import Admin, Changed
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
from gateway.features.ramp import operations as ramps
from gateway.features.ramp.commands import VERBS, RampVerb
from gateway.features.ramp.operations import FlaggerCall, body_of
from gateway.features.usage import summary as usage
from gateway.store.directory import DirectoryPage, Kind
from gateway.store.usage import DIMENSIONS

Method = Literal["GET", "POST", "PATCH", "DELETE"]
MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class AdminCall:
    """One request, after authentication."""

    admin: Admin
    actor: Actor
    path: Mapping[str, str]
    """The parameters in the path."""
    query: Mapping[str, str]
    body: Mapping[str, Any]
    """{}: there was none."""


@dataclass(frozen=True, slots=True)
class AdminAnswer:
    body: Any
    """A text is CSV; everything else becomes JSON."""
    status: int = 200


Handler = Callable[[AdminCall], Awaitable[AdminAnswer]]


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A parameter in the query, for the reader and for the description."""

    name: str
    schema: Mapping[str, Any]
    about: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: Method
    path: str
    """With {id} where a name stands."""
    about: str
    role: Role
    handler: Handler
    answer: str
    """The name of the answer's schema, see openapi.py."""
    body: type[Any] | None = None
    """The model of the body; None: it takes none."""
    patch: bool = False
    """The body is a JSON merge patch of the model: every part may be left out, and null removes a value."""
    query: tuple[QueryParameter, ...] = ()
    status: int = 200
    errors: tuple[int, ...] = field(default=(400, 404, 409))
    basic: bool = False
    """The token may also be the password of HTTP's Basic authentication: for callers that know no other."""


AFTER = QueryParameter("after", {"type": "string"}, "The `next` of the page before.")
LIMIT = QueryParameter(
    "limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100}, "Rows of one page."
)
DELETED = QueryParameter("deleted", {"type": "boolean", "default": False}, "List those that were deleted, too.")
TEAM = QueryParameter("team", {"type": "string"}, "Only keys of this team.")
ORGANIZATION = QueryParameter("organization", {"type": "string"}, "Only teams of this organization.")
BEFORE = QueryParameter("before", {"type": "string"}, "The `next` of the page before.")
NAME = QueryParameter("name", {"type": "string"}, "Only the keys with this name.")
BY = QueryParameter(
    "by", {"type": "string", "default": "source,team"}, f"What to sum by, with commas between: {', '.join(DIMENSIONS)}."
)
SINCE = QueryParameter("since", {"type": "string"}, "First day: 2026-11-01, or 7d. Default: this month's first.")
UNTIL = QueryParameter("until", {"type": "string"}, "Last day, included. Default: today. Days are UTC.")
WHERE = QueryParameter("where", {"type": "string"}, "Only usage of this: `team=search`, with commas between several.")
FORMAT = QueryParameter("format", {"enum": ["json", "csv"], "default": "json"}, "The form of the answer.")
SUBJECT = QueryParameter("subject", {"type": "string"}, "Only changes of the key, team or organization with this id.")
BEFORE_VERSION = QueryParameter("before", {"type": "string"}, "The `next` of the page before.")
EXPECT = QueryParameter(
    "expect", {"enum": ["success", "failure"], "default": "success"}, "The status that is answered with HTTP 200."
)
END_STREAMS = QueryParameter("end_streams", {"type": "boolean"}, "End its answers in flight. Default: as the key says.")


def operations() -> tuple[Operation, ...]:
    """All of them, in the order of the description."""
    found: list[Operation] = []
    for kind, new, settings, parent, role in _KINDS:
        found += _of_kind(kind, new, settings, parent, role)
    rotate = "Give a key a new secret, which is shown once. The present ones open it until the overlap ends."
    used = "Tokens and costs of all calls, summed. Calls whose cost is unknown are counted as such, never as free."
    audit = "The changes, newest first: who, when, what, before and after."
    return (
        *found,
        *_of_ramps(),
        Operation("POST", "/admin/v1/keys/{id}/rotate", rotate, "operator", _rotate, "key_with_secret", Rotation),
        Operation(
            "GET",
            "/admin/v1/usage",
            used,
            "viewer",
            _usage,
            "usage",
            query=(BY, SINCE, UNTIL, WHERE, FORMAT),
            errors=(400,),
        ),
        Operation(
            "GET", "/admin/v1/audit", audit, "viewer", _audit, "audit", query=(BEFORE, LIMIT, SUBJECT), errors=(400,)
        ),
    )


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


def _of_ramps() -> list[Operation]:
    path = "/admin/v1/experiments/{id}"
    about: dict[RampVerb, str] = {
        "pause": "Keep a ramp at its share. Alarms still roll it back.",
        "resume": "Let a paused ramp go on, or begin anew after a rollback.",
        "rollback": "Give all traffic back to the control, within a second.",
        "promote": "Take the step that waits for a person. 409: the evidence does not allow it.",
        "override": "Go on without the evidence. Every report shows it.",
    }
    return [
        Operation(
            "GET", f"{path}/gate", "Whether a ramp may go on, in one word.", "viewer", _gate, "gate", errors=(404,)
        ),
        Operation(
            "POST", f"{path}/gate", "The same for callers that only see the HTTP status, such as Flagger. 409: it "
            "has another status.", "viewer", _require_gate, "gate", FlaggerCall, query=(EXPECT,), basic=True,
        ),
        Operation(
            "GET", f"{path}/history", "The changes of a ramp, newest first: who, when, why, on which evidence.",
            "viewer", _history, "ramp_history", query=(BEFORE_VERSION, LIMIT), errors=(400, 404),
        ),
        *(
            Operation(
                "POST", f"{path}/{verb}", about[verb], "owner" if verb == "override" else "operator",
                _changing_ramp(verb), "ramp", body_of(verb),
            )
            for verb in VERBS
        ),
    ]  # fmt: skip


async def _gate(call: AdminCall) -> AdminAnswer:
    return AdminAnswer(await ramps.read_gate(call.admin, call.path["id"]))


async def _require_gate(call: AdminCall) -> AdminAnswer:
    expected = call.query.get("expect", "success")
    if expected not in ("success", "failure"):
        raise InvalidBody(f"expect: expected success or failure, got {expected[:20]!r}")
    return AdminAnswer(await ramps.require_gate(call.admin, call.path["id"], expected))


async def _history(call: AdminCall) -> AdminAnswer:
    before, limit = call.query.get("before"), _limit(call.query)
    if before is not None and not (before.isascii() and before.isdigit() and len(before) < 19):
        raise InvalidBody(f"before: expected the `next` of a page, got {before[:20]!r}")
    rows = await ramps.read_history(call.admin, call.path["id"], None if before is None else int(before), limit + 1)
    shown = rows[:limit]
    following = str(shown[-1]["version"]) if len(rows) > limit else None
    return AdminAnswer({"data": shown, "next": following})


def _changing_ramp(verb: RampVerb) -> Handler:
    async def handler(call: AdminCall) -> AdminAnswer:
        return AdminAnswer(await ramps.change_ramp(call.admin, call.actor, call.path["id"], verb, call.body))

    return handler


def _listing(kind: Kind) -> Handler:
    async def handler(call: AdminCall) -> AdminAnswer:
        q = call.query
        page = DirectoryPage(
            q.get("after", ""),
            _limit(q) + 1,
            q.get("team"),
            q.get("organization"),
            q.get("name"),
            bool(_flag(q, "deleted")),
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
            end_streams = _flag(call.query, "end_streams")
            return _answer(await directory.revoke_key(call.admin, call.actor, id, end_streams=end_streams))
        return _answer(await directory.delete_record(call.admin, call.actor, kind, id))

    return handler


async def _rotate(call: AdminCall) -> AdminAnswer:
    return _answer(await directory.rotate_key(call.admin, call.actor, call.path["id"], call.body))


async def _audit(call: AdminCall) -> AdminAnswer:
    limit = _limit(call.query)
    rows = await directory.read_audit(call.admin, call.query.get("before"), limit + 1, call.query.get("subject"))
    shown = rows[:limit]
    following = shown[-1].id if len(rows) > limit else None
    return AdminAnswer({"data": [audit_view(row) for row in shown], "next": following})


async def _usage(call: AdminCall) -> AdminAnswer:
    q = call.query
    form = q.get("format", "json")
    if form not in ("json", "csv"):
        raise InvalidBody(f"format: expected json or csv, got {form[:20]!r}")
    by = dict.fromkeys(name.strip() for name in q.get("by", "source,team").split(",") if name.strip())
    filters = {}
    for each in filter(None, q.get("where", "").split(",")):
        name, separator, value = each.partition("=")
        if not separator:
            raise InvalidBody(f"where: {each[:50]!r} is no condition; write team=search")
        filters[name.strip()] = value.strip()
    found = await directory.read_usage_report(call.admin, tuple(by), q.get("since"), q.get("until"), filters)
    return AdminAnswer(usage.as_csv(found) if form == "csv" else usage.as_json(found))


def _answer(changed: Changed, status: int = 200) -> AdminAnswer:
    return AdminAnswer(changed.view(), status)


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", "100")
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidBody(f"limit: expected a number from 1 to {MAX_LIMIT}, got {text[:20]!r}")
    return int(text)


def _flag(query: Mapping[str, str], name: str) -> bool | None:
    text = query.get(name)
    if text not in (None, "true", "false"):
        raise InvalidBody(f"{name}: expected true or false, got {text[:20]!r}")
    return None if text is None else text == "true"


_KINDS: tuple[tuple[Kind, type[Any], type[Any], QueryParameter | None, Role], ...] = (
    ("organization", NewOrganization, OrganizationSettings, None, "owner"),
    ("team", NewTeam, TeamSettings, ORGANIZATION, "owner"),
    ("key", KeySettings, KeySettings, TEAM, "operator"),
)
