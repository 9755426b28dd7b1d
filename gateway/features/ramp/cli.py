"""The verbs of `gateway ab` that steer a ramp. They write the record that every gateway polls, and its audit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gateway.cli.options import (
    AsJson,
    ConfigOptions,
    Deployment,
    example,
    grouped,
    inconclusive_on_error,
    note,
    show,
)

if TYPE_CHECKING:
    from gateway.core.ramp import RampEvent
    from gateway.features.ramp.gate import RampGateOutput
    from gateway.ramps.commands import RampVerb
    from gateway.stream import Corridor

Name = Annotated[str, typer.Argument(help="Name of the experiment in gateway.yaml.")]
Reason = Annotated[str, typer.Option("--reason", help="Reason, which the audit and the reports keep.")]
T = TypeVar("T")
ramp = typer.Typer()


@ramp.command(epilog=example('gateway ab pause swap --reason "the upstream is being moved"'))
@grouped
def pause(name: Name, reason: Reason, options: ConfigOptions) -> None:
    """Keep a ramp at its present share. Alarms still roll it back."""
    _give("pause", name, reason, options)


@ramp.command(epilog=example('gateway ab resume swap --reason "moved"'))
@grouped
def resume(name: Name, reason: Reason, options: ConfigOptions) -> None:
    """Let a paused ramp, or what was stopped for harm, continue; after a rollback, begin again with shadows only."""
    _give("resume", name, reason, options)


@ramp.command(epilog=example('gateway ab rollback swap --reason "customers complain"'))
@grouped
def rollback(name: Name, reason: Reason, options: ConfigOptions) -> None:
    """Give all traffic back to the control, on every gateway within a second."""
    _give("rollback", name, reason, options)


@ramp.command(epilog=example('gateway ab promote swap --reason "agreed in the review"'))
@grouped
def promote(
    name: Name,
    reason: Reason,
    options: ConfigOptions,
    full: Annotated[bool, typer.Option("--full", help="End the holdout of a promoted candidate.")] = False,
    kept: Annotated[
        list[str] | None,
        typer.Option("--except", help="Segment that stays with the control, as tools=yes; repeatable."),
    ] = None,
) -> None:
    """Take the step that waits for a person (`mode: advise`). Refused while the evidence does not allow it.

    With --except the named segments stay with the control, and the candidate takes over the rest.
    """
    _give("promote", name, reason, options, full=full, kept=tuple(kept or ()))


@ramp.command(epilog=example('gateway ab override swap --reason "the old engine is switched off tonight"'))
@grouped
def override(
    name: Name,
    reason: Reason,
    options: ConfigOptions,
    full: Annotated[bool, typer.Option("--full", help="Go to all traffic at once (default: one step).")] = False,
) -> None:
    """Continue without the evidence. Every report shows it, with its reason."""
    _give("override", name, reason, options, full=full)


@ramp.command(epilog=example("gateway ab history swap"))
@grouped
def history(name: Name, options: ConfigOptions, as_json: AsJson = False) -> None:
    """List every change of a ramp: when, who, why; with --json also the evidence of that moment."""
    show_history(name, name, options.load(), as_json=as_json)


def show_history(ramp: str, name: str, of: Deployment, *, as_json: bool) -> None:
    """Prints the changes of a ramp. name: what people call its subject."""
    from gateway.core.sanitize import to_json
    from gateway.features.ramp.operations import event_view, history_line

    events, waiting = _events(of.store, ramp), of.on_stream(lambda c: c.ramps.waiting())
    known = {each.id for each in events}
    late = [each for each in waiting.events if each.record.experiment == ramp and each.id not in known]
    if late:
        note(f"{len(late)} changes are in force and not in the store yet: is a consumer running?")
    if as_json:
        show(to_json([event_view(each) for each in (*events, *late)]))
    else:
        show("\n".join(map(history_line, (*events, *late))) or f"{name}: no ramp has begun")


@ramp.command(epilog=example("gateway ab gate swap"))
@grouped
def gate(name: Name, options: ConfigOptions, as_json: AsJson = False) -> None:
    """Say whether a ramp may continue. Exit code 0: success; 1: failure; 2: inconclusive, or it cannot be read."""
    import time

    from gateway.config.derive import paces_of
    from gateway.core.ramp import RampPace
    from gateway.core.sanitize import to_json
    from gateway.features.ramp.gate import gate_of
    from gateway.ramps.commands import read_ramp

    with inconclusive_on_error():
        of = options.load()
        view = on_ramp(of, lambda corridor: read_ramp(corridor, name))
        found = gate_of(view, paces_of(of.config).get(name, RampPace()), time.time())
        show(
            to_json(found) if as_json else "\n".join([f"{found['experiment']}: {found['status']}", *gate_lines(found)])
        )
    raise typer.Exit({"success": 0, "failure": 1, "inconclusive": 2}[found["status"]])


def gate_lines(found: RampGateOutput) -> Iterator[str]:
    """Lines on the state of a ramp and its reason; found: from gate_of."""
    step = f", step {found['step'] + 1} of {len(found['steps'])}" if found["step"] >= 0 else ""
    yield f"  ramp      {found['state']}{step}: {found['share']:.3g} of the units" + (", paused" * found["paused"])
    if found.get("kept"):
        yield f"  control   keeps {', '.join(found['kept'])}"
    yield f"  reason    {found['reason']}"
    yield from (f"  also      {each}" for each in found["also"])


def _give(
    verb: RampVerb, name: str, reason: str, options: ConfigOptions, *, full: bool = False, kept: tuple[str, ...] = ()
) -> None:
    import getpass

    from gateway.config.derive import paces_of
    from gateway.core.ramp import RampPace, described
    from gateway.features.experiments.start.resume import give_command
    from gateway.ramps.commands import RampCommand

    of, command = options.load(), RampCommand(verb, getpass.getuser(), reason, full, kept)
    pace = paces_of(of.config).get(name, RampPace())
    record = on_ramp(of, lambda corridor: give_command(corridor, name, command, pace))
    if record is None:
        show(f"{name} goes on: it was stopped for harm")
        return
    step = f" {record.step + 1}" if record.state == "ramp" else ""
    stays = f"; {', '.join(record.kept)} stay{'s' * (len(record.kept) == 1)} with the control" if record.kept else ""
    show(f"{name} is {described(record.state)}{step}" + (", paused" if record.paused else "") + stays)


def on_ramp(of: Deployment, work: Callable[[Corridor], Awaitable[T]]) -> T:
    """Runs work on a ramp. Raises BadParameter if there is no such ramp, CannotRun if it refuses."""
    from gateway.core.errors import CannotRun
    from gateway.core.ramp import RampRefused
    from gateway.ramps.commands import NoRamp

    try:
        return of.on_stream(work)
    except NoRamp as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None
    except RampRefused as error:
        raise CannotRun(str(error)) from None


def _events(url: str, name: str) -> list[RampEvent]:
    """Events from the store; none if there is no store yet."""
    from gateway.store.engine import StoreUnavailable
    from gateway.store.query import reading
    from gateway.store.ramp_events import stored_ramp_events

    try:
        with reading(url) as connection:
            return stored_ramp_events(connection, name)
    except StoreUnavailable:
        return []
