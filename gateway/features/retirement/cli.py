"""`gateway ab draft`: writes the experiment that compares a retiring model with its successor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gateway.cli.options import ConfigOptions, example, grouped, note, show

if TYPE_CHECKING:
    from gateway.config.config import Config
    from gateway.features.retirement.draft import ExperimentDraft, ReplacedTarget
    from gateway.features.retirement.traffic import DailyCalls

drafts = typer.Typer()


@drafts.command(epilog=example("gateway ab draft gpt-5.4-mini --successor gpt-6.1-terra"))
@grouped
def draft(
    options: ConfigOptions,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL|ALIAS",
            help="UPSTREAM/MODEL, the upstream's name for a model, or a model name of clients (default: the model that "
            "retires, if there is one).",
        ),
    ] = None,
    successor: Annotated[
        str | None, typer.Option(help="MODEL of the same upstream, or UPSTREAM/MODEL (default: the listed one).")
    ] = None,
    as_: Annotated[
        Literal["decision"] | None,
        typer.Option("--as", help="`decision`: find aliases whose calls are decisions, and ask a decision model."),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Add it to the file of experiments next to gateway.yaml.")
    ] = False,
) -> None:
    """Write the experiment that compares a model with its successor, for the alias with the most calls.

    Prints YAML for gateway.yaml, with a share of shadow requests that decides within a week and within half of the days
    that are left. `gateway ab start` starts it. With `--as decision`, lists the aliases whose calls of the last day are
    decisions, and with `--successor` drafts the experiment with a decision model.
    """
    from gateway.features.retirement.draft import NoDraft, control_of, draft_of

    of = options.load()
    if as_ is not None:
        _draft_decision(of.config, of.store, of.path, name, successor, write=write)
        return
    traffic = _traffic(of.store)
    try:
        chosen, others = _chosen(of.config, name, successor, traffic)
        made = draft_of(of.config, chosen, traffic.of(chosen.alias, chosen.target))
    except NoDraft as why:
        raise typer.BadParameter(str(why)) from why
    for line in _notes(made, chosen, others):
        note(line)
    _deliver(of.path, made, made.section(control_of(of.config, made)), write=write)


def _draft_decision(
    config: Config, store: str, path: Path, alias: str | None, successor: str | None, *, write: bool
) -> None:
    import time

    from gateway.config.derive import target_of
    from gateway.core.errors import CannotRun
    from gateway.features.retirement.decisions.draft import deciding_aliases, decision_target, draft_of_decisions
    from gateway.features.retirement.draft import NoDraft, control_of
    from gateway.store.query import reading

    if alias is not None and alias not in config.models:
        raise typer.BadParameter(f'no alias "{alias}" in the config', param_hint="ALIAS")
    try:
        candidate = None if successor is None else decision_target(config, successor)
        with reading(store) as connection:
            deciding = deciding_aliases(connection, config, time.time(), alias)
        if not deciding:
            raise CannotRun("no alias has decisions among the recorded calls of the last day")
        target = None if candidate is None else target_of(candidate)
        for one in deciding:
            note(one.line(config, target))
        if candidate is None:
            note("name a decision model: --successor UPSTREAM/MODEL")
            return
        made = draft_of_decisions(config, deciding[0], candidate)
    except NoDraft as why:
        raise typer.BadParameter(str(why)) from why
    _deliver(path, made, made.section(control_of(config, made)), write=write)


def _traffic(store: str) -> DailyCalls:
    import time

    from gateway.config.retirements import day_of
    from gateway.features.retirement.notices import read_daily_calls
    from gateway.features.retirement.traffic import DailyCalls

    return read_daily_calls(store, day_of(time.time())) or DailyCalls()


def _chosen(
    config: Config, name: str | None, successor: str | None, traffic: DailyCalls
) -> tuple[ReplacedTarget, list[str]]:
    """The target to replace, and the other aliases that have it. Raises BadParameter."""
    import time

    from gateway.config.retirements import day_of
    from gateway.core.did_you_mean import did_you_mean
    from gateway.features.retirement.choice import replaceable

    found = replaceable(config, day_of(time.time()))
    groups = found.named(name)
    if name is not None and not groups:
        hint = did_you_mean(name, found.names)
        raise typer.BadParameter(f'no model and no alias "{name}" in the config{hint}', param_hint="MODEL or ALIAS")
    if len(groups) != 1:
        listed = ", ".join(groups) or "none with a date"
        raise typer.BadParameter(f"name the model to replace; there are: {listed}", param_hint="MODEL or ALIAS")
    [targets] = groups.values()
    best = max(targets, key=lambda each: (each.served, traffic.of(each.alias, each.target)))
    others = sorted({each.alias for each in targets if each.served} - {best.alias})
    return replace(best, successor=successor or best.successor), others


def _notes(made: ExperimentDraft, chosen: ReplacedTarget, others: list[str]) -> list[str]:
    from gateway.features.retirement.draft import ERRORS

    lines = [made.summary.replace("Draft the experiment", "The experiment")]
    if made.days is not None and chosen.days_left is not None and made.days > chosen.days_left:
        lines.append(f"that is later than {chosen.name} retires: widen `margin`, or decide on fewer guardrails")
    if made.primary == ERRORS:
        lines.append("no judge is configured, so errors alone decide: see docs/scorers.md, and set `primary`")
    if others:
        lines.append(f"{chosen.name} also serves {', '.join(others)}: gateway ab draft ALIAS")
    return lines


def _deliver(config: Path, made: ExperimentDraft, section: dict[str, Any], *, write: bool) -> None:
    """Prints or writes the draft, after the whole config was checked with it. section: with expanded values."""
    from gateway.config.loading import load_for_consumer
    from gateway.config.made_experiments import read_made
    from gateway.config.yaml_text import read_config_text
    from gateway.core.errors import CannotRun
    from gateway.features.retirement.draft import yaml_of

    file = read_made(config).with_experiment(made.name, section)
    load_for_consumer(config, file)
    written = made.as_written(read_config_text(config))
    if not write:
        show(yaml_of(made.name, written).rstrip("\n"))
        return
    if written != section:
        raise CannotRun(
            f"the target of {made.alias} has values of the form ${{NAME}}, which {file.path.name} cannot have; leave "
            "--write out, and copy the draft into gateway.yaml"
        )
    try:
        file.write()
    except OSError as error:
        raise CannotRun(f"{file.path} cannot be written ({error.strerror}); leave --write out") from error
    show(f"{made.name} is in {file.path}; start it: gateway ab start {made.name}")
