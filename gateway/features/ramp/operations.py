"""The admin API's operations on ramps, and the functions behind them, which pages call as well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, get_args

from pydantic import ConfigDict, Field

from gateway.config.admin import Role
from gateway.config.derive import paces_of
from gateway.config.types import Section
from gateway.console.access import Actor
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
    limit_of,
    object_schema,
    page_schema,
    reference,
)
from gateway.console.errors import Conflict, InvalidBody, NotThere, StreamAway
from gateway.core.errors import StreamDown
from gateway.core.ramp import RampEvent, RampMode, RampPace, RampRecord, RampRefused, RampState
from gateway.features.keys.directory import Admin
from gateway.features.keys.settings import checked, moment
from gateway.features.ramp.commands import MAX_REASON, VERBS, NoRamp, RampCommand, RampVerb, command_ramp, read_ramp
from gateway.features.ramp.gate import GateStatus, RampGateOutput, gate_of
from gateway.features.ramp.rows import stored_ramp_events
from gateway.stream import Corridor

EXPECT = QueryParameter(
    "expect", {"enum": ["success", "failure"], "default": "success"}, "The status that is answered with HTTP 200."
)


def _fields(record: RampRecord) -> dict[str, Any]:
    names = ("version", "plan", "state", "step", "paused", "overridden", "by", "reason")
    kept = {"kept": list(record.kept)} if record.kept else {}
    return {name: getattr(record, name) for name in names} | kept


def event_view(event: RampEvent) -> dict[str, Any]:
    """JSON-able: one change with its evidence."""
    return {
        "id": event.id,
        "at": datetime.fromtimestamp(event.record.at, UTC).isoformat(timespec="milliseconds"),
        "kind": event.kind,
        "before": None if event.before is None else {"state": event.before[0], "step": event.before[1]},
        **_fields(event.record),
        "evidence": dict(event.evidence),
    }


def history_line(event: RampEvent) -> str:
    """One change in one line."""
    r = event.record
    at = datetime.fromtimestamp(r.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    step = f" to step {r.step + 1}" if r.state == "ramp" and event.before != (r.state, r.step) else ""
    return f"{at}  {event.kind}{step}  by {r.by}: {r.reason or 'no reason given'}"


Reason = Annotated[str, Field(min_length=1, max_length=MAX_REASON, pattern=r"\S")]


class RampReason(Section):
    """Reason for a change of a ramp."""

    reason: Reason
    """Reason, kept in the audit and shown in every report."""


class RampPromotion(RampReason):
    """Reason why a ramp takes the step that waits, or ends its holdout."""

    full: bool = False
    """End the holdout of a promoted candidate. Default: take the step that waits."""
    without: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field((), max_length=50)
    """Names of segments that stay with the control, as `tools=yes`: what a verdict `ship_except` waits for."""


class RampOverride(RampReason):
    """Reason why a ramp continues without the evidence."""

    full: bool = False
    """Go to all traffic at once. Default: one step."""


class FlaggerCall(Section):
    """The body that Flagger posts to a webhook. It is not used."""

    model_config = ConfigDict(extra="allow")
    name: str | None = None
    """The canary."""
    namespace: str | None = None
    """Namespace of the ramp."""
    phase: str | None = None
    """Current phase."""


def _role_of(verb: RampVerb) -> Role:
    return "owner" if verb == "override" else "operator"


def body_of(verb: RampVerb) -> type[RampReason]:
    """The model of a command's body."""
    bodies: dict[str, type[RampReason]] = {"override": RampOverride, "promote": RampPromotion}
    return bodies.get(verb, RampReason)


async def read_gate(admin: Admin, experiment: str) -> RampGateOutput:
    """Raises NotThere, StreamAway."""
    view = await _on_stream(admin, lambda corridor: read_ramp(corridor, experiment))
    return gate_of(view, _pace(admin, experiment), admin.clock())


async def read_history(admin: Admin, experiment: str, before: int | None, limit: int) -> list[dict[str, Any]]:
    """The changes of a ramp, newest first. before: a version. Raises NotThere if there has been none."""

    async def exists() -> None:
        await _on_stream(admin, lambda corridor: read_ramp(corridor, experiment))

    return await read_events(admin, experiment, before, limit, exists)


async def read_events(
    admin: Admin, name: str, before: int | None, limit: int, exists: Callable[[], Awaitable[Any]]
) -> list[dict[str, Any]]:
    """The changes of the ramp of this name, newest first. before: a version. exists: raises NotThere if there is none;
    it is called where there has been no change."""
    events = await admin.store.read(lambda connection: stored_ramp_events(connection, name))
    if not events:
        await exists()
    found = [e for e in reversed(events) if before is None or e.record.version < before]
    return [event_view(each) for each in found[:limit]]


async def change_ramp(
    admin: Admin, actor: Actor, experiment: str, verb: RampVerb, body: Mapping[str, Any]
) -> dict[str, Any]:
    """Gives a command. Raises NotPermitted, InvalidBody, NotThere, Conflict, StreamAway."""
    actor.require(_role_of(verb), f"{verb} a ramp")
    given = checked(body_of(verb), body)
    full = isinstance(given, RampOverride | RampPromotion) and given.full
    kept = given.without if isinstance(given, RampPromotion) else ()
    command = RampCommand(verb, actor.name, given.reason, full, kept)
    pace = _pace(admin, experiment)
    record = await _on_stream(admin, lambda corridor: command_ramp(corridor, experiment, command, pace, admin.clock))
    times = {"at": moment(record.at), "since": moment(record.since)}
    return {
        "experiment": record.experiment,
        **_fields(record),
        **times,
        "cooling_until": moment(record.cooling_until or None),
    }


async def _on_stream(admin: Admin, work: Any) -> Any:
    corridor: Corridor | None = admin.corridor
    if corridor is None:
        raise StreamAway("this console has no stream server")
    try:
        return await work(corridor)
    except StreamDown as error:
        raise StreamAway(f"the stream server does not answer: {error}") from None
    except NoRamp as error:
        raise NotThere(str(error)) from None
    except RampRefused as error:
        raise Conflict(str(error)) from None
    except UnicodeError as error:
        raise InvalidBody(f"the reason is not text: {error}") from None


def _pace(admin: Admin, experiment: str) -> RampPace:
    """Pace from gateway.yaml; the default for an experiment that it does not have."""
    return paces_of(admin.config()).get(experiment, RampPace())


def _operations() -> tuple[Operation, ...]:
    path = "/admin/v1/experiments/{id}"
    about: dict[RampVerb, str] = {
        "pause": "Keep a ramp at its share. Alarms still roll it back.",
        "resume": "Let a paused ramp continue, or begin again after a rollback.",
        "rollback": "Give all traffic back to the control, within a second.",
        "promote": "Take the step that waits for a person. 409: the evidence does not allow it.",
        "override": "Go on without the evidence. Every report shows it.",
    }
    word = "Whether a ramp may go on, in one word."
    status = "The same for callers that only see the HTTP status, such as Flagger. 409: it has another status."
    changes = "The changes of a ramp, newest first: who, when, why, on which evidence."
    get_gate = Operation("GET", f"{path}/gate", word, "viewer", _gate, "gate", errors=(404,))
    require = (_require_gate, "gate", FlaggerCall)
    post_gate = Operation("POST", f"{path}/gate", status, "viewer", *require, query=(EXPECT,), basic=True)
    history = Operation(
        "GET", f"{path}/history", changes, "viewer", _history, "ramp_history", query=(BEFORE, LIMIT), errors=(400, 404)
    )
    commands = (
        Operation("POST", f"{path}/{verb}", about[verb], _role_of(verb), _changing_ramp(verb), "ramp", body_of(verb))
        for verb in VERBS
    )
    return (get_gate, post_gate, history, *commands)


async def _gate(call: AdminCall) -> AdminAnswer:
    return AdminAnswer(await read_gate(call.admin, call.path["id"]))


async def _require_gate(call: AdminCall) -> AdminAnswer:
    expected = call.query.get("expect", "success")
    if expected not in ("success", "failure"):
        raise InvalidBody(f"expect: expected success or failure, got {expected[:20]!r}")
    gate = await read_gate(call.admin, call.path["id"])
    if gate["status"] != expected:
        raise Conflict(f"{call.path['id']}: {gate['status']}: {gate['reason']}")
    return AdminAnswer(gate)


async def _history(call: AdminCall) -> AdminAnswer:
    return await history_page(call, lambda *page: read_history(call.admin, call.path["id"], *page))


ReadEvents = Callable[[int | None, int], Awaitable[list[dict[str, Any]]]]


async def history_page(call: AdminCall, read: ReadEvents) -> AdminAnswer:
    """A page of the changes of a ramp. read: takes the version before which they are, and how many."""
    before, limit = call.query.get("before"), limit_of(call.query)
    if before is not None and not (before.isascii() and before.isdigit() and len(before) < 19):
        raise InvalidBody(f"before: expected the `next` of a page, got {before[:20]!r}")
    rows = await read(None if before is None else int(before), limit + 1)
    shown = rows[:limit]
    following = str(shown[-1]["version"]) if len(rows) > limit else None
    return AdminAnswer({"data": shown, "next": following})


def _changing_ramp(verb: RampVerb) -> Handler:
    async def handler(call: AdminCall) -> AdminAnswer:
        return AdminAnswer(await change_ramp(call.admin, call.actor, call.path["id"], verb, call.body))

    return handler


def _schemas(models: Mapping[str, Schema]) -> dict[str, Schema]:
    text: Schema = {"type": "string"}
    moment: Schema = {"type": "string", "format": "date-time"}
    flag: Schema = {"type": "boolean"}
    whole: Schema = {"type": "integer"}
    state: Schema = {"enum": list(get_args(RampState))}
    common = {"version": whole, "plan": text, "state": state, "step": whole, "paused": flag, "overridden": flag}
    said = {"by": text, "reason": text}
    before = {"anyOf": [object_schema({"state": state, "step": whole}), {"type": "null"}]}
    change = {
        "id": text,
        "at": moment,
        "kind": text,
        "before": before,
        **common,
        **said,
        "evidence": {"type": "object"},
    }
    names: Schema = {"type": "array", "items": text}
    ramp = {"experiment": text, **common, **said, "at": moment, "since": moment, "cooling_until": MOMENT}
    return {
        "ramp": _and(object_schema(ramp), kept=names),
        "ramp_change": _and(object_schema(change), kept=names),
        "ramp_history": page_schema(reference("ramp_change")),
        "gate": _and(object_schema(_gate_members()), kept=names, without=names),
    }


def _and(schema: Schema, **optional: Schema) -> Schema:
    """The schema of an object that may have these members too: only ramps of plans with segments do."""
    return {**schema, "properties": {**schema["properties"], **optional}}


def _gate_members() -> dict[str, Schema]:
    text: Schema = {"type": "string"}
    number: Schema = {"type": "number"}
    flag: Schema = {"type": "boolean"}
    whole: Schema = {"type": "integer"}
    return {
        "status": {"enum": list(get_args(GateStatus))},
        "experiment": text,
        "plan": text,
        "state": {"enum": ["draft", *get_args(RampState)]},
        "step": whole,
        "steps": {"type": "array", "items": number},
        "share": number,
        "holdout": {"anyOf": [object_schema({"share": number, "until": number}), {"type": "null"}]},
        "switch": {"type": "array", "items": text},
        "paused": flag,
        "overridden": flag,
        "mode": {"enum": list(get_args(RampMode))},
        "verdict": {"type": ["string", "null"]},
        "pairs": {"type": ["integer", "null"]},
        "action": {"type": ["string", "null"]},
        "reason": text,
        "also": {"type": "array", "items": text},
        "since": {"type": ["number", "null"]},
        "at": {"type": ["number", "null"]},
    }


OPERATIONS = AdminOperations(_operations(), _schemas)
