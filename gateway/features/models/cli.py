"""`gateway models`: the models in use, and their probes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import AsJson, ConfigOptions, StoreOptions, example, grouped, note, show

models = typer.Typer(help="Show the models in use: since when, the last change, cost, cache, retirement and probes.")
verbs = typer.Typer()
verbs.add_typer(models, name="models", epilog=example("gateway models"))


@models.callback(invoke_without_command=True)
@grouped
def listed(context: typer.Context, store: StoreOptions, as_json: AsJson = False) -> None:
    """Show the models in use: since when, what their answers name, the last change, cost, cache and retirement.

    Also names calls that pay for a prompt again which the provider has in its cache.
    """
    if context.invoked_subcommand is not None:
        return
    import time

    from gateway.core.sanitize import to_json
    from gateway.features.models.report import models_in_use, to_dict, to_terminal
    from gateway.store.query import reading

    of, now = ConfigOptions(store.config or Path("gateway.yaml"), store.data).load(), time.time()
    with reading(of.store) as connection:
        found = models_in_use(connection, of.config, now)
    show(to_json(to_dict(found)) if as_json else to_terminal(found, now))


@models.command(epilog=example("gateway models probe --dry-run"))
@grouped
def probe(
    options: ConfigOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the price, and ask nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask the probes of every target now, and compare the answers with earlier ones. Exit code 1: a model changed.

    Prints the price first. The requests and the budget are in the section `watch`.
    """
    import asyncio

    from gateway.config.environment import data_directory, resolve_evals
    from gateway.core.errors import CannotRun
    from gateway.core.sanitize import to_json
    from gateway.features.models.probes.check import estimate
    from gateway.features.models.probes.report import rounds_table, to_dicts
    from gateway.features.models.probes.work import ask_all, probes_of
    from gateway.store.query import reading

    of = options.load()
    probes = probes_of(of.config)
    if probes is None:
        raise CannotRun("no probes are configured; set `watch: {probes: packaged}` in gateway.yaml")
    with reading(of.store) as connection:
        note(estimate(probes, connection).sentence(probes))
    if dry_run:
        return
    evals = resolve_evals(of.config.evals, data_directory(of.data))
    done = asyncio.run(ask_all(probes, evals, of.store, note))
    show(to_json(to_dicts(done)) if as_json else rounds_table(done))
    if any(each.result == "changed" for each in done):
        raise typer.Exit(1)


@models.command(epilog=example("gateway models update prices.json --dry-run"))
@grouped
def update(
    source: Annotated[str, typer.Argument(metavar="FILE|URL", help="A list of prices, of retirements, or both.")],
    options: ConfigOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what changes, and write nothing.")] = False,
) -> None:
    """Renew the lists of prices and retirements from a file or a URL of your choice.

    Prints what changes. The lists are written next to gateway.yaml; `prices` and `retires` in it still win.
    """
    import time

    from gateway.config.retirements import day_of
    from gateway.features.models.list_update import differences, fetched, new_lists, write

    of = options.load()
    found = new_lists(fetched(source, of.config), source, of.config, day_of(time.time()))
    for line in differences(found, of.config):
        show(line)
    if dry_run:
        note("nothing is written: leave --dry-run out")
        return
    for path in write(found, of.path):
        note(f"{path} is written; a running gateway reads it at once. Delete it to return to the list that ships")
