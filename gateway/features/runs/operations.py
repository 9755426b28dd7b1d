"""Changes of live runs by a person, with the audit's line: a stop, and the original amount once more."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.console.admin import Admin
from gateway.console.errors import Conflict, NotThere, StreamAway
from gateway.core.errors import StreamDown
from gateway.features.runs.live import (
    RunCeilingUse,
    ceilings_of,
    ended_ceilings,
    extend_run,
    grown_text,
    live_ceilings,
    stop_run,
)
from gateway.store.directory import Action, AuditRow, add_audit
from gateway.stream.corridor import Corridor


async def read_ceilings(corridor: Corridor, run_id: str) -> list[RunCeilingUse]:
    """The ceilings of a run. Raises StreamAway."""
    try:
        return await ceilings_of(corridor, run_id)
    except StreamDown as error:
        raise _away(error) from None


async def read_live(corridor: Corridor) -> list[RunCeilingUse]:
    """The ceilings of all live runs. Raises StreamAway."""
    try:
        return await live_ceilings(corridor)
    except StreamDown as error:
        raise _away(error) from None


async def read_asking(corridor: Corridor, caller: str) -> list[RunCeilingUse]:
    """The ceilings of a key's runs that wait for a person. caller: our id of the key. Raises StreamAway."""
    try:
        return [use for use in await ended_ceilings(corridor) if use.caller == caller and use.asks]
    except StreamDown as error:
        raise _away(error) from None


async def stop_by(admin: Admin, by: tuple[str, str], run_id: str) -> None:
    """Ends a run. by: name and role, for the audit. Raises StreamAway, NotThere."""
    try:
        await stop_run(_corridor(admin), run_id)
    except StreamDown as error:
        raise _away(error) from None
    await _audited(admin, by, "stop", run_id, {})


async def extend_by(admin: Admin, by: tuple[str, str], uses: Sequence[RunCeilingUse]) -> str:
    """Adds the original amounts to those ceilings of a run that can grow; returns what it may use now.

    by: name and role, for the audit. Raises Conflict if there is none, StreamAway, NotThere.
    """
    try:
        grown = [use for use in uses if use.can_grow and await extend_run(_corridor(admin), use)]
    except StreamDown as error:
        raise _away(error) from None
    if not grown:
        raise Conflict(
            "no ceiling of this run is nearly used up, or the amount was added before: that is possible once"
        )
    now = ", ".join(map(grown_text, grown))
    await _audited(admin, by, "change", grown[0].run_id, {"run": grown[0].run, "may_use": now})
    return now


async def _audited(admin: Admin, by: tuple[str, str], action: Action, run_id: str, after: dict[str, str]) -> None:
    row = AuditRow(admin.clock(), *by, action, "run", run_id, None, after)
    await admin.store.run(lambda connection: add_audit(connection, row))


def _corridor(admin: Admin) -> Corridor:
    if admin.corridor is None:
        raise NotThere("this console has no stream server, where ceilings of runs are counted")
    return admin.corridor


def _away(error: StreamDown) -> StreamAway:
    return StreamAway(f"{error}; ceilings of runs are counted there", retry_after_s=2)
