"""Options, notes and results that the verbs share, and where they read from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gateway.store.reader_config import ReaderConfig, StoreLocation

File = typer.Option(exists=True, dir_okay=False, help="Path to gateway.yaml (default: ./gateway.yaml).")
Config = Annotated[Path, File]
MaybeConfig = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Path to gateway.yaml (default: ./gateway.yaml if it exists)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Data = Annotated[Path | None, typer.Option(help="Data directory (default: $GATEWAY_DATA, else ./.gateway).")]
Alias = Annotated[str | None, typer.Option(help="Only calls of this model.")]
Since = Annotated[str | None, typer.Option(help="Only calls of the last 30m, 2h, 1d, …")]
Where = Annotated[str | None, typer.Option(help="Only calls that match, such as 'scorer=valid_json value<1'.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]


def note(text: str) -> None:
    typer.echo(text, err=True)


def example(line: str) -> str:
    return f"Example: {line}"


def command_line() -> str:
    """Who types, as the audit names them."""
    import getpass

    from gateway.config.reserved_names import COMMAND_LINE

    try:
        return f"{COMMAND_LINE} ({getpass.getuser()})"
    except (KeyError, OSError):
        return COMMAND_LINE


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turns an unreadable --since or --where into a usage error (exit code 2)."""
    from gateway.features.calls.samples import InvalidDuration
    from gateway.store.where import QueryError

    try:
        yield
    except QueryError as error:
        raise typer.BadParameter(str(error), param_hint="--where") from error
    except InvalidDuration as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error


def where_to_read(config: Path | None, data: Path | None) -> StoreLocation:
    from gateway.config.loading import data_directory
    from gateway.store.reader_config import where

    usual = Path("gateway.yaml")
    return where(config or (usual if usual.exists() else None), data_directory(data))


def whole_to_read(config: Path | None, data: Path | None) -> ReaderConfig:
    """The store and the stream server, from the config and the data directory."""
    from gateway.config.loading import data_directory
    from gateway.store.reader_config import whole

    usual = Path("gateway.yaml")
    return whole(config or (usual if usual.exists() else None), data_directory(data))


def show(result: Any) -> None:
    """Prints text or a rich renderable: as wide as the terminal, and without line breaks into a pipe."""
    if isinstance(result, str):
        typer.echo(result)
        return
    import sys

    from rich.console import Console

    Console(highlight=False, width=None if sys.stdout.isatty() else 240).print(result)
