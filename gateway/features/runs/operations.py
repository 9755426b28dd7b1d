"""Changes of live runs by a person, with the audit's line: a stop, and the original amount once more."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.console.admin import Admin
from gateway.console.errors import Conflict, NotThere, StreamAway
from gateway.core.errors import CannotRun, StreamDown
from gateway.features.runs.live import (
    RunCeilingUse,
    ceilings_of,
    ended_ceilings,
    extend_run,
    grown_text,
    live_ceilings,
    stop_run,
)
from gateway.store.directory import AuditRow, add_audit
from gateway.store.query import writing
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
    await _audited(admin, stop_row(admin.clock(), by, run_id))


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
    await _audited(admin, grown_row(admin.clock(), by, grown))
    return may_use(grown)


def may_use(grown: Sequence[RunCeilingUse]) -> str:
    """The amounts that a run may use now."""
    return ", ".join(map(grown_text, grown))


def stop_row(at: float, by: tuple[str, str], run_id: str) -> AuditRow:
    """The audit's line of a stop. by: name and role."""
    return AuditRow(at, *by, "stop", "run", run_id, None, {})


def grown_row(at: float, by: tuple[str, str], grown: Sequence[RunCeilingUse]) -> AuditRow:
    """The audit's line of ceilings that have grown. by: name and role."""
    after = {"run": grown[0].run, "may_use": may_use(grown)}
    return AuditRow(at, *by, "change", "run", grown[0].run_id, None, after)


def write_audit(store: str, row: AuditRow, done: str) -> None:
    """Writes the line of a change that a command line has made. store: its URL. done: the change, for the error.

    Raises CannotRun if the store cannot be written: the change holds all the same.
    """
    try:
        with writing(store) as connection:
            add_audit(connection, row)
    except (CannotRun, OSError) as error:
        raise CannotRun(f"{done}; the audit has no line of it: {error}") from error


async def _audited(admin: Admin, row: AuditRow) -> None:
    await admin.store.run(lambda connection: add_audit(connection, row))


def _corridor(admin: Admin) -> Corridor:
    if admin.corridor is None:
        raise NotThere("this console has no stream server, where ceilings of runs are counted")
    return admin.corridor


def _away(error: StreamDown) -> StreamAway:
    return StreamAway(f"{error}; ceilings of runs are counted there", retry_after_s=2)
