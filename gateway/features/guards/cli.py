"""`gateway guards`: the guards' actions, and their mistakes. `gateway guard`: the ramp of one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import (
    AsJson,
    ConfigOptions,
    Since,
    StoreOptions,
    example,
    grouped,
    note,
    show,
    usage_errors,
)
from gateway.features.ramp.cli import Reason, on_ramp, show_history

if TYPE_CHECKING:
    from gateway.config.guard_ramps import PromotedAction
    from gateway.features.guards.ramp.commands import GuardRampVerb

verbs = typer.Typer()
guard = typer.Typer(no_args_is_help=True, help="Promote guards by steps, and take them back.", rich_markup_mode=None)
verbs.add_typer(guard, name="guard", epilog=example("gateway guard status"))
_SPAN = "30d"
Name = Annotated[str, typer.Argument(help="Name of the guard in gateway.yaml.")]


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
    from gateway.core.time_span import seconds_of
    from gateway.features.guards.evidence import evidence_of
    from gateway.features.guards.report import to_dict, to_terminal
    from gateway.features.guards.rows import guard_costs, guards_since
    from gateway.store.query import reading

    with usage_errors(), reading(store.location().store) as connection:
        now = time.time()
        after = now - seconds_of(since or _SPAN)
        names = [guard] if guard else guards_since(connection, after)
        found = [evidence_of(connection, name, after, now) for name in names]
        costs = guard_costs(connection, after, now)
    if not found:
        note(f"no guard decided on a recorded call of the last {since}; `guards` of gateway.yaml has them")
    if as_json:
        show(to_json(to_dict(after, found, costs)))
    elif found:
        show(to_terminal(found, costs, whole=guard is not None))


@guard.command(epilog=example('gateway guard promote injection --reason "0.4 % of calls, 28 of 30 labelled right"'))
@grouped
def promote(
    name: Name,
    reason: Reason,
    options: ConfigOptions,
    to: Annotated[
        str | None, typer.Option("--to", help="flag, redact or block (default: ramp.to of the guard).")
    ] = None,
    steps: Annotated[
        str | None, typer.Option("--steps", help="Shares of the units, such as 0.05,0.25,1 (default: ramp.steps).")
    ] = None,
) -> None:
    """Begin the ramp of a guard: flag every unit, then act on a rising share of them.

    Where `ramp.mode` is advise, it also takes the step that waits. Refused while the evidence does not allow it.
    """
    _give("promote", name, reason, options, to=_action(to), steps=_shares(steps))


@guard.command(epilog=example('gateway guard pause injection --reason "a new client is rolled out"'))
@grouped
def pause(name: Name, reason: Reason, options: ConfigOptions) -> None:
    """Keep a guard at its present step. Alarms still take it back."""
    _give("pause", name, reason, options)


@guard.command(epilog=example('gateway guard resume injection --reason "rolled out"'))
@grouped
def resume(name: Name, reason: Reason, options: ConfigOptions) -> None:
    """Let a paused ramp continue; after a rollback, begin again."""
    _give("resume", name, reason, options)


@guard.command(epilog=example('gateway guard rollback injection --reason "it refuses invoices"'))
@grouped
def rollback(name: Name, reason: Reason, options: ConfigOptions) -> None:
    """Give every unit the action in gateway.yaml again, on every gateway within a second."""
    _give("rollback", name, reason, options)


@guard.command(epilog=example("gateway guard status injection"))
@grouped
def status(
    options: ConfigOptions,
    name: Annotated[str | None, typer.Argument(help="One guard (default: all of gateway.yaml).")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how far guards are promoted, and what the next step waits for."""
    from gateway.core.sanitize import to_json
    from gateway.features.guards.ramp.commands import guard_ramp_output, read_guard_ramp
    from gateway.features.guards.report import ramp_lines

    of = options.load()
    names = [name] if name else list(of.config.guards)
    found = [guard_ramp_output(on_ramp(of, partial(read_guard_ramp, config=of.config, guard=each))) for each in names]
    if not found:
        note("the config has no guards; `guards` of gateway.yaml has them")
    if as_json:
        show(to_json({"guards": found}))
    elif found:
        show("\n".join(line for each in found for line in ramp_lines(each)))


@guard.command(epilog=example("gateway guard history injection"))
@grouped
def history(name: Name, options: ConfigOptions, as_json: AsJson = False) -> None:
    """List every change of a guard's ramp: when, who, why; with --json also the evidence of that moment."""
    from gateway.core.guard_ramp import ramp_name

    show_history(ramp_name(name), name, options.load(), as_json=as_json)


def _give(
    verb: GuardRampVerb,
    name: str,
    reason: str,
    options: ConfigOptions,
    *,
    to: PromotedAction | None = None,
    steps: tuple[float, ...] | None = None,
) -> None:
    import getpass

    from gateway.features.guards.ramp.commands import GuardRampCommand, command_guard_ramp, guard_ramp_output
    from gateway.features.guards.report import ramp_line

    of, command = options.load(), GuardRampCommand(verb, getpass.getuser(), reason, to, steps)
    view = on_ramp(of, lambda corridor: command_guard_ramp(corridor, of.config, name, command))
    show(ramp_line(guard_ramp_output(view)))


def _action(text: str | None) -> PromotedAction | None:
    known: Mapping[str, PromotedAction] = {"flag": "flag", "redact": "redact", "block": "block"}
    if text is not None and text not in known:
        raise typer.BadParameter(f"{text!r}: expected flag, redact or block", param_hint="--to")
    return None if text is None else known[text]


def _shares(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(share) for share in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected shares, such as 0.05,0.25,1", param_hint="--steps") from None
