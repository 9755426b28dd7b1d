"""The admin API's operations on the ramps of guards, and the functions behind them, which pages call as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from pydantic import Field

from gateway.config.admin import Role
from gateway.config.guard_ramps import PromotedAction, Steps
from gateway.config.types import Section
from gateway.console.access import Actor
from gateway.console.api import (
    BEFORE,
    LIMIT,
    AdminAnswer,
    AdminCall,
    AdminOperations,
    Handler,
    Operation,
    Schema,
    page_schema,
    reference,
)
from gateway.console.errors import Conflict, InvalidBody, NotThere, StreamAway
from gateway.core.errors import StreamDown
from gateway.core.guard_ramp import ramp_name
from gateway.core.ramp import RampRefused
from gateway.features.guards.ramp_commands import (
    GUARD_RAMP_VERBS,
    GuardRampCommand,
    GuardRampOutput,
    GuardRampVerb,
    NoGuard,
    command_guard_ramp,
    guard_ramp_output,
    read_guard_ramp,
)
from gateway.features.keys.directory import Admin
from gateway.features.keys.settings import checked
from gateway.features.ramp.operations import Reason, history_page, read_events
from gateway.reports.output_schema import schema_of
from gateway.stream import Corridor

ROLE: Role = "operator"
"""The role that changes how far a guard is promoted."""


class GuardRampReason(Section):
    """Reason for a change of a guard's ramp."""

    reason: Reason
    """Kept in the audit and shown in every report."""


class GuardPromotion(GuardRampReason):
    """Reason for which a guard's ramp begins, or takes the step that waits."""

    to: PromotedAction | None = None
    """The action in the end. Default: `guards.NAME.ramp.to`."""
    steps: Annotated[Steps, Field(max_length=50)] | None = None
    """Shares of the units with that action, rising to 1. Default: `guards.NAME.ramp.steps`."""


def body_of(verb: GuardRampVerb) -> type[GuardRampReason]:
    """The model of a command's body."""
    return GuardPromotion if verb == "promote" else GuardRampReason


async def list_guard_ramps(admin: Admin) -> list[GuardRampOutput]:
    """Every guard of the config. Raises StreamAway."""
    return [await read_guard(admin, name) for name in admin.config().guards]


async def read_guard(admin: Admin, guard: str) -> GuardRampOutput:
    """Raises NotThere, StreamAway."""
    config = admin.config()
    return guard_ramp_output(await _on_stream(admin, lambda corridor: read_guard_ramp(corridor, config, guard)))


async def change_guard_ramp(
    admin: Admin, actor: Actor, guard: str, verb: GuardRampVerb, body: Mapping[str, Any]
) -> GuardRampOutput:
    """Gives a command. Raises NotPermitted, InvalidBody, NotThere, Conflict, StreamAway."""
    actor.require(ROLE, f"{verb} a guard")
    given = checked(body_of(verb), body)
    to, steps = (given.to, given.steps) if isinstance(given, GuardPromotion) else (None, None)
    command, config = GuardRampCommand(verb, actor.name, given.reason, to, steps), admin.config()
    view = await _on_stream(admin, lambda corridor: command_guard_ramp(corridor, config, guard, command, admin.clock))
    return guard_ramp_output(view)


async def _on_stream(admin: Admin, work: Any) -> Any:
    corridor: Corridor | None = admin.corridor
    if corridor is None:
        raise StreamAway("this console has no stream server")
    try:
        return await work(corridor)
    except StreamDown as error:
        raise StreamAway(f"the stream server does not answer: {error}") from None
    except NoGuard as error:
        raise NotThere(str(error)) from None
    except RampRefused as error:
        raise Conflict(str(error)) from None
    except UnicodeError as error:
        raise InvalidBody(f"the reason is not text: {error}") from None


def _operations() -> tuple[Operation, ...]:
    path = "/admin/v1/guards"
    about: dict[GuardRampVerb, str] = {
        "promote": "Begin the ramp of a guard, or take the step that waits for a person. 409: it waits for evidence.",
        "pause": "Keep a guard at its step. Alarms still take it back.",
        "resume": "Let a paused ramp continue, or begin again after a rollback.",
        "rollback": "Give the action of the config back to every unit, within a second.",
    }
    changes = "The changes of a guard's ramp, newest first: who, when, why, on which evidence."
    listed = Operation("GET", path, "How far each guard is promoted.", "viewer", _list, "guard_ramps", errors=())
    one = Operation(
        "GET", f"{path}/{{id}}", "How far a guard is promoted, and why.", "viewer", _read, "guard_ramp", errors=(404,)
    )
    history = Operation(
        "GET",
        f"{path}/{{id}}/history",
        changes,
        "viewer",
        _history,
        "ramp_history",
        query=(BEFORE, LIMIT),
        errors=(400, 404),
    )
    commands = (
        Operation("POST", f"{path}/{{id}}/{verb}", about[verb], ROLE, _changing(verb), "guard_ramp", body_of(verb))
        for verb in GUARD_RAMP_VERBS
    )
    return (listed, one, history, *commands)


async def _list(call: AdminCall) -> AdminAnswer:
    return AdminAnswer({"data": await list_guard_ramps(call.admin), "next": None})


async def _read(call: AdminCall) -> AdminAnswer:
    return AdminAnswer(await read_guard(call.admin, call.path["id"]))


async def _history(call: AdminCall) -> AdminAnswer:
    guard = call.path["id"]

    async def read(before: int | None, limit: int) -> list[dict[str, Any]]:
        return await read_events(call.admin, ramp_name(guard), before, limit, lambda: read_guard(call.admin, guard))

    return await history_page(call, read)


def _changing(verb: GuardRampVerb) -> Handler:
    async def handler(call: AdminCall) -> AdminAnswer:
        return AdminAnswer(await change_guard_ramp(call.admin, call.actor, call.path["id"], verb, call.body))

    return handler


def _schemas(models: Mapping[str, Schema]) -> dict[str, Schema]:
    moved = orjson.dumps(schema_of(GuardRampOutput)).replace(b"#/$defs/", b"#/components/schemas/")
    made: Schema = orjson.loads(moved)
    parts: dict[str, Schema] = made.pop("$defs", {})
    del made["$schema"]
    return {"guard_ramp": made, "guard_ramps": page_schema(reference("guard_ramp")), **parts}


OPERATIONS = AdminOperations(_operations(), _schemas)
