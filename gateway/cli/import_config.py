"""`gateway import`: a config of another gateway as a gateway.yaml."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import example, show

verbs = typer.Typer()
importing = typer.Typer(
    epilog=example("gateway import litellm config.yaml --out gateway.yaml"),
    no_args_is_help=True,
    help="Translate the config of another gateway.",
)
verbs.add_typer(importing, name="import")


@importing.command(epilog=example("gateway import litellm config.yaml --out gateway.yaml"))
def litellm(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", exists=True, dir_okay=False, help="LiteLLM's config.yaml.")
    ],
    out: Annotated[Path | None, typer.Option(help="Where to write; must not exist yet. Default: stdout.")] = None,
) -> None:
    """Translate the config of a LiteLLM proxy to a gateway.yaml.

    What has no equal is listed line by line on stderr, and at the top of the file. Exit code 1: the result needs to be
    mended before `gateway check` accepts it.
    """
    from datetime import date

    from gateway.config.import_litellm import from_litellm, read_litellm, remaining_mistakes, summary, to_yaml
    from gateway.core.errors import CannotRun

    done = from_litellm(read_litellm(config), date.today())
    if not done.translated:
        for note in done.notes:
            typer.echo(str(note), err=True)
        raise CannotRun(f"{config}: none of its {done.deployments} deployments can be translated")
    text = to_yaml(done, config.name)
    for note in done.notes:
        typer.echo(str(note), err=True)
    mistakes = remaining_mistakes(text)
    for mistake in mistakes:
        typer.echo(f"to be mended in the result: {mistake}", err=True)
    typer.echo(summary(done), err=True)
    if out is None:
        show(text)
    else:
        _write_private(out, text)
    if mistakes:
        raise typer.Exit(1)


def _write_private(out: Path, text: str) -> None:
    """A new file that its owner alone can read: the config may hold the keys of upstreams."""
    from gateway.core.errors import CannotRun

    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise CannotRun(f"{out} exists already; move it away, or give another --out") from None
