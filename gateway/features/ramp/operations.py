"""The admin API's operations on ramps, and the functions behind them, which pages call as well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NotRequired, TypedDict, TypeVar, cast

from pydantic import ConfigDict, Field

from gateway.config.admin import Role
from gateway.config.derive import paces_of
from gateway.config.types import Section
from gateway.console.access import Actor
from gateway.console.admin import Admin
from gateway.console.api import (
    BEFORE,
    LIMIT,
    AdminAnswer,
    AdminCall,
    AdminOperations,
    Handler,
    Moment,
    Operation,
    QueryParameter,
    Schema,
    limit_of,
    page_schema,
    reference,
    typed_schemas,
)
from gateway.console.errors import Conflict, InvalidBody, NotThere, StreamAway
from gateway.core.errors import CannotRun, StreamDown
from gateway.core.ramp import RampChange, RampEvent, RampPace, RampRecord, RampRefused, RampState, started
from gateway.features.experiments.start.resume import give_command
from gateway.features.keys.settings import checked, moment
from gateway.features.ramp.gate import RampGateOutput, gate_of
from gateway.ramps.commands import MAX_REASON, VERBS, NoRamp, RampCommand, RampVerb, read_ramp
from gateway.reports.number_format import rfc3339
from gateway.store.directory import AuditRow, add_audit
from gateway.store.ramp_events import stored_ramp_events
from gateway.stream import Corridor

EXPECT = QueryParameter(
    "expect", {"enum": ["success", "failure"], "default": "success"}, "The status that is answered with HTTP 200."
)


class RampStepOutput(TypedDict):
    state: RampState
    step: int


class _RecordOutput(RampStepOutput):
    version: int
    plan: str
    paused: bool
    overridden: bool
    by: str
    reason: str
    kept: NotRequired[list[str]]
    """Segments that stay with the control; only of ramps of plans with segments."""


class RampOutput(_RecordOutput):
    """A ramp after a command."""

    experiment: str
    at: Moment
    since: Moment
    cooling_until: Moment | None


class RampChangeOutput(_RecordOutput):
    """One change of a ramp."""

    id: str
    at: Moment
    kind: str
    before: RampStepOutput | None
    evidence: dict[str, Any]
    """Evidence of that moment."""


def _fields(record: RampRecord) -> _RecordOutput:
    names = ("version", "plan", "state", "step", "paused", "overridden", "by", "reason")
    kept = {"kept": list(record.kept)} if record.kept else {}
    return cast(_RecordOutput, {name: getattr(record, name) for name in names} | kept)


def event_view(event: RampEvent) -> RampChangeOutput:
    """JSON-able: one change with its evidence."""
    return {
        "id": event.id,
        "at": rfc3339(event.record.at),
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


T = TypeVar("T")
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
    view = await on_stream(admin, lambda corridor: read_ramp(corridor, experiment))
    return gate_of(view, _pace(admin, experiment), admin.clock())


async def read_history(admin: Admin, experiment: str, before: int | None, limit: int) -> list[RampChangeOutput]:
    """The changes of a ramp, newest first. before: a version. Raises NotThere if there has been none."""

    async def exists() -> None:
        await on_stream(admin, lambda corridor: read_ramp(corridor, experiment))

    return await read_events(admin, experiment, before, limit, exists)


async def read_events(
    admin: Admin, name: str, before: int | None, limit: int, exists: Callable[[], Awaitable[Any]]
) -> list[RampChangeOutput]:
    """The changes of the ramp of this name, newest first. before: a version. exists: raises NotThere if there is none;
    it is called where there has been no change."""
    events = await admin.store.read(lambda connection: stored_ramp_events(connection, name))
    if not events:
        await exists()
    found = [e for e in reversed(events) if before is None or e.record.version < before]
    return [event_view(each) for each in found[:limit]]


async def change_ramp(
    admin: Admin, actor: Actor, experiment: str, verb: RampVerb, body: Mapping[str, Any]
) -> RampOutput:
    """Gives a command. Raises NotPermitted, InvalidBody, NotThere, Conflict, StreamAway."""
    actor.require(_role_of(verb), f"{verb} a ramp")
    given = checked(body_of(verb), body)
    full = isinstance(given, RampOverride | RampPromotion) and given.full
    kept = given.without if isinstance(given, RampPromotion) else ()
    command = RampCommand(verb, actor.name, given.reason, full, kept)
    pace = _pace(admin, experiment)
    record = await on_stream(admin, lambda corridor: give_command(corridor, experiment, command, pace, admin.clock))
    return _output(await _resumed_alone(admin, actor, command, experiment) if record is None else record)


async def _resumed_alone(admin: Admin, actor: Actor, command: RampCommand, experiment: str) -> RampRecord:
    """The record of a plan without a ramp after its stop for harm, which has shadows and no step."""
    now = admin.clock()
    state = (await on_stream(admin, lambda corridor: corridor.state.plans()))[experiment]
    after = {"after": "harm", "reason": command.reason}
    row = AuditRow(now, actor.name, actor.role, "resume", "experiment", experiment, None, after)
    await admin.store.run(lambda connection: add_audit(connection, row))
    return started(experiment, state.plan.hash, RampChange(now, actor.name, command.reason))


def _output(record: RampRecord) -> RampOutput:
    return {
        "experiment": record.experiment,
        **_fields(record),
        "at": rfc3339(record.at),
        "since": rfc3339(record.since),
        "cooling_until": moment(record.cooling_until or None),
    }


async def on_stream(admin: Admin, work: Callable[[Corridor], Awaitable[T]]) -> T:
    """Runs work on ramps on the stream server. Raises NotThere, Conflict, InvalidBody, StreamAway."""
    if admin.corridor is None:
        raise StreamAway("this console has no stream server")
    try:
        return await work(admin.corridor)
    except StreamDown as error:
        raise StreamAway(f"the stream server does not answer: {error}") from None
    except NoRamp as error:
        raise NotThere(str(error)) from None
    except (RampRefused, CannotRun) as error:
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
        "resume": "Let a paused ramp continue, or begin again after a rollback; end a stop for harm.",
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
    history = history_operation(path, changes, _history)
    commands = (
        Operation(
            "POST", f"{path}/{verb}", about[verb], _role_of(verb), commanding(change_ramp, verb), "ramp", body_of(verb)
        )
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


ReadEvents = Callable[[int | None, int], Awaitable[list[RampChangeOutput]]]


async def history_page(call: AdminCall, read: ReadEvents) -> AdminAnswer:
    """A page of the changes of a ramp. read: takes the version before which they are, and how many."""
    before, limit = call.query.get("before"), limit_of(call.query)
    if before is not None and not (before.isascii() and before.isdigit() and len(before) < 19):
        raise InvalidBody(f"before: expected the `next` of a page, got {before[:20]!r}")
    rows = await read(None if before is None else int(before), limit + 1)
    shown = rows[:limit]
    following = str(shown[-1]["version"]) if len(rows) > limit else None
    return AdminAnswer({"data": shown, "next": following})


def history_operation(path: str, about: str, handler: Handler) -> Operation:
    url, query = f"{path}/history", (BEFORE, LIMIT)
    return Operation("GET", url, about, "viewer", handler, "ramp_history", query=query, errors=(400, 404))


V = TypeVar("V", bound=str)
ChangeRamp = Callable[[Admin, Actor, str, V, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Gives a command: the name of what the ramp promotes, the verb, the body."""


def commanding(change: ChangeRamp[V], verb: V) -> Handler:
    async def handler(call: AdminCall) -> AdminAnswer:
        return AdminAnswer(await change(call.admin, call.actor, call.path["id"], verb, call.body))

    return handler


def _schemas(models: Mapping[str, Schema]) -> dict[str, Schema]:
    found = typed_schemas(ramp=RampOutput, ramp_change=RampChangeOutput, gate=RampGateOutput)
    return found | {"ramp_history": page_schema(reference("ramp_change"))}


OPERATIONS = AdminOperations(_operations(), _schemas)
