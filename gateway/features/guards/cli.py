"""`gateway guards`: the guards' actions, and their mistakes. `gateway guard`: the ramp of one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.options import (
    AsJson,
    Data,
    File,
    Since,
    StoreOptions,
    example,
    grouped,
    note,
    on_stream,
    show,
    usage_errors,
)

if TYPE_CHECKING:
    from gateway.config.config import Config as GatewayConfig
    from gateway.config.guard_ramps import PromotedAction
    from gateway.features.guards.ramp_commands import GuardRampVerb, GuardRampView

verbs = typer.Typer()
guard = typer.Typer(no_args_is_help=True, help="Promote guards by steps, and take them back.", rich_markup_mode=None)
verbs.add_typer(guard, name="guard", epilog=example("gateway guard status"))
_SPAN = "30d"
Name = Annotated[str, typer.Argument(help="Name of the guard in gateway.yaml.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; the audit and the reports keep it.")]
Config = Annotated[Path, File]


@verbs.command(epilog=example("gateway guards secrets --since 7d"))
@grouped
def guards(
    store: StoreOptions,
    guard: Annotated[
        str | None, typer.Argument(help="One guard, also by key and with its labels (default: all that decided).")
    ] = None,
    since: Since = _SPAN,
    as_json: AsJson = False,
) -> None:
    """Show how often guards have a hit, by key, and how often they are wrong by people's labels.

    Shares are of all calls, weighted by the probability with which each was recorded. Precision and recall come from
    `gateway label next --guard NAME`.
    """
    from gateway.core.sanitize import to_json
    from gateway.features.calls.samples import seconds_of
    from gateway.features.guards.evidence import evidence_of
    from gateway.features.guards.report import to_dict, to_terminal
    from gateway.features.guards.rows import guards_since
    from gateway.store.query import reading

    with usage_errors(), reading(store.location().store) as connection:
        now = time.time()
        after = now - seconds_of(since or _SPAN)
        names = [guard] if guard else guards_since(connection, after)
        found = [evidence_of(connection, name, after, now) for name in names]
    if not found:
        note(f"no guard decided on a recorded call of the last {since}; `guards` of gateway.yaml has them")
    if as_json:
        show(to_json(to_dict(after, found)))
    elif found:
        show(to_terminal(found, whole=guard is not None))


@guard.command(epilog=example('gateway guard promote injection --reason "0.4 % of calls, 28 of 30 labelled right"'))
def promote(
    name: Name,
    reason: Reason,
    to: Annotated[
        str | None, typer.Option("--to", help="flag, redact or block (default: ramp.to of the guard).")
    ] = None,
    steps: Annotated[
        str | None, typer.Option("--steps", help="Shares of the units, as 0.05,0.25,1 (default: ramp.steps).")
    ] = None,
    config: Config = Path("gateway.yaml"),
    data: Data = None,
) -> None:
    """Begin the ramp of a guard: flag every unit, then act on a rising share of them.

    Where `ramp.mode` is advise, it also takes the step that waits. Refused while the evidence does not allow it.
    """
    _give("promote", name, reason, config, data, to=_action(to), steps=_shares(steps))


@guard.command(epilog=example('gateway guard pause injection --reason "a new client is rolled out"'))
def pause(name: Name, reason: Reason, config: Config = Path("gateway.yaml"), data: Data = None) -> None:
    """Keep a guard at its present step. Alarms still take it back."""
    _give("pause", name, reason, config, data)


@guard.command(epilog=example('gateway guard resume injection --reason "rolled out"'))
def resume(name: Name, reason: Reason, config: Config = Path("gateway.yaml"), data: Data = None) -> None:
    """Let a paused ramp continue; after a rollback, begin again."""
    _give("resume", name, reason, config, data)


@guard.command(epilog=example('gateway guard rollback injection --reason "it refuses invoices"'))
def rollback(name: Name, reason: Reason, config: Config = Path("gateway.yaml"), data: Data = None) -> None:
    """Give every unit the action in gateway.yaml again, on every gateway within a second."""
    _give("rollback", name, reason, config, data)


@guard.command(epilog=example("gateway guard status injection"))
def status(
    name: Annotated[str | None, typer.Argument(help="One guard (default: all of gateway.yaml).")] = None,
    as_json: AsJson = False,
    config: Config = Path("gateway.yaml"),
    data: Data = None,
) -> None:
    """Show how far guards are promoted, and what the next step waits for."""
    from gateway.config.loading import load_for_consumer
    from gateway.core.sanitize import to_json
    from gateway.features.guards.ramp_commands import guard_ramp_output, read_guard_ramp
    from gateway.features.guards.report import ramp_lines

    read = load_for_consumer(config)
    names = [name] if name else list(read.guards)
    views = [_on_stream(read, data, lambda c, each=each: read_guard_ramp(c, read, each)) for each in names]
    found = [guard_ramp_output(view) for view in views]
    if not found:
        note("the config has no guards; `guards` of gateway.yaml has them")
    if as_json:
        show(to_json({"guards": found}))
    elif found:
        show("\n".join(line for each in found for line in ramp_lines(each)))


@guard.command(epilog=example("gateway guard history injection"))
def history(name: Name, as_json: AsJson = False, config: Config = Path("gateway.yaml"), data: Data = None) -> None:
    """List every change of a guard's ramp: when, who, why; with --json also the evidence of that moment."""
    from gateway.core.guard_ramp import ramp_name
    from gateway.features.ramp.cli import show_history

    show_history(ramp_name(name), name, config, data, as_json=as_json)


def _give(
    verb: GuardRampVerb,
    name: str,
    reason: str,
    config: Path,
    data: Path | None,
    *,
    to: PromotedAction | None = None,
    steps: tuple[float, ...] | None = None,
) -> None:
    import getpass

    from gateway.config.loading import load_for_consumer
    from gateway.core.errors import CannotRun
    from gateway.core.ramp import RampRefused
    from gateway.features.guards.ramp_commands import GuardRampCommand, command_guard_ramp, guard_ramp_output
    from gateway.features.guards.report import ramp_line

    read = load_for_consumer(config)
    command = GuardRampCommand(verb, getpass.getuser(), reason, to, steps)
    try:
        view = _on_stream(read, data, lambda corridor: command_guard_ramp(corridor, read, name, command))
    except RampRefused as error:
        raise CannotRun(str(error)) from None
    show(ramp_line(guard_ramp_output(view)))


def _on_stream(config: GatewayConfig, data: Path | None, work: Any) -> GuardRampView:
    from gateway.features.guards.ramp_commands import NoGuard

    try:
        found: GuardRampView = on_stream(config, data, work)
    except NoGuard as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None
    return found


def _action(text: str | None) -> PromotedAction | None:
    known: Mapping[str, PromotedAction] = {"flag": "flag", "redact": "redact", "block": "block"}
    if text is not None and text not in known:
        raise typer.BadParameter(f"{text!r}: expected flag, redact or block", param_hint="--to")
    return None if text is None else known[text]


def _shares(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(share) for share in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected shares, as 0.05,0.25,1", param_hint="--steps") from None
