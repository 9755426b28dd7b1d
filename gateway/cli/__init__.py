"""The command line: thin verbs. Results go to stdout, notes to stderr. Each verb imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli import fetch, import_config, migrate, packaged_files, processes, schema, up
from gateway.consumer import cli as score
from gateway.features.calls.cli import erase, export, follow, samples
from gateway.features.experiments import cli as ab
from gateway.features.experiments import report_cli as report
from gateway.features.keys.cli import keys, teams
from gateway.features.labels.cli import judge, label
from gateway.features.learned import cli as learn
from gateway.features.replay import cli as replay
from gateway.features.status.cli import dead, status
from gateway.features.usage import cli as usage

app = typer.Typer(
    help="An OpenAI-compatible gateway that scores the traffic it carries.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes 0.15 s to draw a frame around the help
    context_settings={"help_option_names": ["--help", "-h"]},
)
for verbs in (
    up,
    processes,
    schema,
    samples,
    usage,
    report,
    ab,
    replay,
    score,
    label,
    judge,
    learn,
    export,
    follow,
    fetch,
    migrate,
    import_config,
    packaged_files,
    status,
    dead,
    erase,
    keys,
    teams,
):
    app.add_typer(verbs.verbs)


def _print_version(asked: bool) -> None:
    if asked:
        from gateway import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """An OpenAI-compatible gateway that scores the traffic it carries."""
