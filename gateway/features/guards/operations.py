"""The admin API's operations on the ramps of guards, and the functions behind them, which pages call as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from gateway.config.admin import Role
from gateway.config.guard_ramps import PromotedAction, Steps
from gateway.config.types import Section
from gateway.console.access import Actor
from gateway.console.admin import Admin
from gateway.console.api import (
    AdminAnswer,
    AdminCall,
    AdminOperations,
    Operation,
    Schema,
    page_schema,
    reference,
    typed_schemas,
)
from gateway.core.guard_ramp import ramp_name
from gateway.features.guards.ramp.commands import (
    GUARD_RAMP_VERBS,
    GuardRampCommand,
    GuardRampOutput,
    GuardRampVerb,
    command_guard_ramp,
    guard_ramp_output,
    read_guard_ramp,
)
from gateway.features.keys.settings import checked
from gateway.features.ramp.operations import (
    RampChangeOutput,
    Reason,
    commanding,
    history_operation,
    history_page,
    on_stream,
    read_events,
)

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
    return guard_ramp_output(await on_stream(admin, lambda corridor: read_guard_ramp(corridor, config, guard)))


async def change_guard_ramp(
    admin: Admin, actor: Actor, guard: str, verb: GuardRampVerb, body: Mapping[str, Any]
) -> GuardRampOutput:
    """Gives a command. Raises NotPermitted, InvalidBody, NotThere, Conflict, StreamAway."""
    actor.require(ROLE, f"{verb} a guard")
    given = checked(body_of(verb), body)
    to, steps = (given.to, given.steps) if isinstance(given, GuardPromotion) else (None, None)
    command, config = GuardRampCommand(verb, actor.name, given.reason, to, steps), admin.config()
    view = await on_stream(admin, lambda corridor: command_guard_ramp(corridor, config, guard, command, admin.clock))
    return guard_ramp_output(view)


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
    history = history_operation(f"{path}/{{id}}", changes, _history)
    commands = (
        Operation(
            "POST",
            f"{path}/{{id}}/{verb}",
            about[verb],
            ROLE,
            commanding(change_guard_ramp, verb),
            "guard_ramp",
            body_of(verb),
        )
        for verb in GUARD_RAMP_VERBS
    )
    return (listed, one, history, *commands)


async def _list(call: AdminCall) -> AdminAnswer:
    return AdminAnswer({"data": await list_guard_ramps(call.admin), "next": None})


async def _read(call: AdminCall) -> AdminAnswer:
    return AdminAnswer(await read_guard(call.admin, call.path["id"]))


async def _history(call: AdminCall) -> AdminAnswer:
    guard = call.path["id"]

    async def read(before: int | None, limit: int) -> list[RampChangeOutput]:
        return await read_events(call.admin, ramp_name(guard), before, limit, lambda: read_guard(call.admin, guard))

    return await history_page(call, read)


def _schemas(models: Mapping[str, Schema]) -> dict[str, Schema]:
    return {**typed_schemas(guard_ramp=GuardRampOutput), "guard_ramps": page_schema(reference("guard_ramp"))}


OPERATIONS = AdminOperations(_operations(), _schemas)
