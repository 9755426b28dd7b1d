"""What every verb of the command line uses: its options, notes and results, and where the store is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gateway.evals.reader_config import ReaderConfig
    from gateway.evals.reader_config import StoreLocation as Sources

File = typer.Option(exists=True, dir_okay=False, help="The gateway.yaml.")
Config = Annotated[Path, File]
MaybeConfig = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="The gateway.yaml, where not here.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Data = Annotated[Path | None, typer.Option(help="The data directory: $GATEWAY_DATA, else ./.gateway.")]
Alias = Annotated[str | None, typer.Option(help="Only this model name.")]
Since = Annotated[str | None, typer.Option(help="Only so far back: 30m, 2h, 1d.")]
Where = Annotated[str | None, typer.Option(help="Only what meets this: 'scorer=valid_json value<1'.")]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")]


def note(text: str) -> None:
    typer.echo(text, err=True)


def example(line: str) -> str:
    return f"Example: {line}"


@contextmanager
def asked_wrong() -> Iterator[None]:
    """What --since or --where says cannot be read: a mistake of whoever asks."""
    from gateway.evals.reports.samples import InvalidDuration
    from gateway.evals.store.where import QueryError

    try:
        yield
    except QueryError as error:
        raise typer.BadParameter(str(error), param_hint="--where") from error
    except InvalidDuration as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error


def where_to_read(config: Path | None, data: Path | None) -> Sources:
    from gateway.config.loading import data_directory
    from gateway.evals.reader_config import where

    usual = Path("gateway.yaml")
    return where(config or (usual if usual.exists() else None), data_directory(data))


def whole_to_read(config: Path | None, data: Path | None) -> ReaderConfig:
    """The store and the stream server."""
    from gateway.config.loading import data_directory
    from gateway.evals.reader_config import whole

    usual = Path("gateway.yaml")
    return whole(config or (usual if usual.exists() else None), data_directory(data))


def show(result: Any) -> None:
    """A text, or what rich draws: as wide as the terminal, and unfolded into a pipe."""
    if isinstance(result, str):
        typer.echo(result)
        return
    import sys

    from rich.console import Console

    Console(highlight=False, width=None if sys.stdout.isatty() else 240).print(result)
