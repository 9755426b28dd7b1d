"""Operations of the console and the admin API on ramps: plain functions, like those of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from gateway.config.derive import paces_of
from gateway.config.types import Section
from gateway.console.access import Actor
from gateway.console.errors import Conflict, InvalidBody, NotThere, StreamAway
from gateway.core.errors import StreamDown
from gateway.core.ramp import RampEvent, RampPace, RampRefused
from gateway.features.keys.directory import Admin
from gateway.features.keys.settings import checked, moment
from gateway.features.ramp.commands import MAX_REASON, NoRamp, RampCommand, RampVerb, command_ramp, read_ramp
from gateway.features.ramp.gate import gate_of
from gateway.features.ramp.rows import stored_ramp_events
from gateway.stream import Corridor


def event_view(event: RampEvent) -> dict[str, Any]:
    """JSON-able: one change with its evidence."""
    r = event.record
    return {
        "id": event.id,
        "at": datetime.fromtimestamp(r.at, UTC).isoformat(timespec="milliseconds"),
        "kind": event.kind,
        "version": r.version,
        "plan": r.plan,
        "before": None if event.before is None else {"state": event.before[0], "step": event.before[1]},
        "state": r.state,
        "step": r.step,
        "paused": r.paused,
        "overridden": r.overridden,
        "by": r.by,
        "reason": r.reason,
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
    """Why a ramp is changed."""

    reason: Reason
    """Kept in the audit and shown in every report."""


class RampPromotion(RampReason):
    """Why a ramp takes the step that waits, or ends its holdout."""

    full: bool = False
    """End the holdout of a promoted candidate. Default: take the step that waits."""


class RampOverride(RampReason):
    """Why a ramp goes on without the evidence."""

    full: bool = False
    """Go to all traffic at once. Default: one step."""


class FlaggerCall(Section):
    """What Flagger posts to a webhook. Nothing of it is used."""

    model_config = ConfigDict(extra="allow")
    name: str | None = None
    """The canary."""
    namespace: str | None = None
    """Its namespace."""
    phase: str | None = None
    """Where it is."""


def body_of(verb: RampVerb) -> type[RampReason]:
    """Everything that a command needs."""
    return {"override": RampOverride, "promote": RampPromotion}.get(verb, RampReason)


async def read_gate(admin: Admin, experiment: str) -> dict[str, Any]:
    """Raises NotThere, StreamAway."""
    view = await _on_stream(admin, lambda corridor: read_ramp(corridor, experiment))
    return gate_of(view, _pace(admin, experiment), admin.clock())


async def require_gate(admin: Admin, experiment: str, expected: str) -> dict[str, Any]:
    """The gate. Raises Conflict if its status is another one than `expected`."""
    gate = await read_gate(admin, experiment)
    if gate["status"] != expected:
        raise Conflict(f"{experiment}: {gate['status']}: {gate['reason']}")
    return gate


async def read_history(admin: Admin, experiment: str, before: int | None, limit: int) -> list[dict[str, Any]]:
    """The changes of a ramp, newest first. before: a version. Raises NotThere where nobody has seen one."""
    events = await admin.store.read(lambda connection: stored_ramp_events(connection, experiment))
    if not events:
        await _on_stream(admin, lambda corridor: read_ramp(corridor, experiment))  # it exists, and has not begun
    found = [e for e in reversed(events) if before is None or e.record.version < before]
    return [event_view(each) for each in found[:limit]]


async def change_ramp(
    admin: Admin, actor: Actor, experiment: str, verb: RampVerb, body: Mapping[str, Any]
) -> dict[str, Any]:
    """Gives a command. Raises NotPermitted, InvalidBody, NotThere, Conflict, StreamAway."""
    actor.require("owner" if verb == "override" else "operator", f"{verb} a ramp")
    given = checked(body_of(verb), body)
    full = isinstance(given, RampOverride | RampPromotion) and given.full
    command = RampCommand(verb, actor.name, given.reason, full)
    pace = _pace(admin, experiment)
    record = await _on_stream(admin, lambda corridor: command_ramp(corridor, experiment, command, pace, admin.clock))
    return {
        "experiment": record.experiment, "plan": record.plan, "version": record.version, "state": record.state,
        "step": record.step, "paused": record.paused, "overridden": record.overridden, "by": record.by,
        "reason": record.reason, "at": moment(record.at), "since": moment(record.since),
        "cooling_until": moment(record.cooling_until or None),
    }  # fmt: skip


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
    """As gateway.yaml says; the default for an experiment that it does not have."""
    return paces_of(admin.config()).get(experiment, RampPace())
