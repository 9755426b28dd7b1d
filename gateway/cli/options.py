"""Options, notes and results that the verbs share, and the store and the stream server that they work on."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

if TYPE_CHECKING:
    from gateway.config.config import Config as GatewayConfig
    from gateway.config.stream import StreamConfig
    from gateway.reports.progress_bar import ShowProgress
    from gateway.store.reader_config import ReaderConfig, StoreLocation
    from gateway.stream import Corridor

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
TlsCert = Annotated[Path | None, typer.Option(help="PEM file of a certificate with its chain: serve HTTPS.")]
TlsKey = Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
INCONCLUSIVE = 2
T = TypeVar("T")
_CLI_ERROR: Any = typer.BadParameter.__mro__[2]  # click's ClickException, which typer exports under no name


@dataclass(frozen=True, slots=True)
class StoreOptions:
    config: MaybeConfig = None
    data: Data = None

    def location(self) -> StoreLocation:
        from gateway.config.environment import data_directory
        from gateway.store.reader_config import where

        return where(self._path, data_directory(self.data))

    def whole_or_usual(self) -> ReaderConfig:
        """Reads what `whole` reads; a config that cannot be read is named in the result."""
        from gateway.config.environment import data_directory
        from gateway.store.reader_config import whole_or_usual

        return whole_or_usual(self._path, data_directory(self.data))

    def whole(self) -> ReaderConfig:
        """The store and the stream server, from the config and the data directory."""
        from gateway.config.environment import data_directory
        from gateway.store.reader_config import whole

        return whole(self._path, data_directory(self.data))

    @property
    def _path(self) -> Path | None:
        usual = Path("gateway.yaml")
        return self.config or (usual if usual.exists() else None)


@dataclass(frozen=True, slots=True)
class ConfigOptions:
    config: Config = Path("gateway.yaml")
    data: Data = None

    def load(self) -> Deployment:
        from gateway.config.loading import load_for_consumer

        return Deployment(self.config, self.data, load_for_consumer(self.config))


@dataclass(frozen=True, slots=True)
class Deployment:
    """A config with the store and the stream server that it leads to."""

    path: Path
    """Path of the config."""
    data: Path | None
    """Data directory of the command line; None: the usual one."""
    config: GatewayConfig

    @property
    def store(self) -> str:
        """URL of the store."""
        from gateway.config.environment import data_directory
        from gateway.store.location import default_url

        return self.config.store.url or default_url(data_directory(self.data))

    def on_stream(self, work: Callable[[Corridor], Awaitable[T]]) -> T:
        """Runs work on the stream server. Raises CannotRun if it cannot be reached."""
        import asyncio

        from gateway.config.environment import data_directory
        from gateway.core.errors import CannotRun, StreamDown
        from gateway.runtime.embedded_socket import stream_url

        stream = self.config.stream
        url = stream_url(stream.address, data_directory(self.data))
        try:
            return asyncio.run(on_corridor(stream, url, work))
        except StreamDown as error:
            raise CannotRun(
                f"{error}. Is a gateway of this config running? The embedded server runs with it"
            ) from error


async def on_corridor(stream: StreamConfig, url: str, work: Callable[[Corridor], Awaitable[T]]) -> T:
    """Runs work on a stream server. Raises StreamDown."""
    from contextlib import aclosing

    from gateway.stream import Corridor

    async with aclosing(Corridor.of(stream, url)) as corridor:
        return await work(corridor)


def note(text: str) -> None:
    """Prints a line for people, without the control characters that a name in it may have."""
    from gateway.core.sanitize import plain

    typer.echo(plain(text), err=True)


def example(line: str) -> str:
    return f"Example: {line}"


def command_line() -> str:
    """The name of the person at this command line, for the audit."""
    import getpass

    from gateway.config.reserved_names import COMMAND_LINE

    try:
        return f"{COMMAND_LINE} ({getpass.getuser()})"
    except (KeyError, OSError):
        return COMMAND_LINE


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turns an unreadable --since or --where into a usage error (exit code 2)."""
    from gateway.core.time_span import InvalidDuration
    from gateway.store.where import QueryError

    try:
        yield
    except QueryError as error:
        raise typer.BadParameter(str(error), param_hint="--where") from error
    except InvalidDuration as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error


@contextmanager
def inconclusive_on_error() -> Iterator[None]:
    """Exits with 2 whatever goes wrong: the exit code 1 of a verb that gives a verdict means rejected, or failed."""
    from gateway.core.errors import line_for_the_user

    try:
        yield
    except (typer.Exit, typer.Abort, _CLI_ERROR):
        raise
    except Exception as error:
        note(line_for_the_user(error) or "".join(traceback.format_exception(error)).rstrip())
        raise typer.Exit(INCONCLUSIVE) from error


def show(result: Any) -> None:
    """Prints text or a rich renderable: as wide as the terminal, and without line breaks into a pipe."""
    if isinstance(result, str):
        typer.echo(result)
        return
    from rich.console import Console

    Console(highlight=False, width=None if sys.stdout.isatty() else 240).print(result)


@contextmanager
def progress(name: str) -> Iterator[ShowProgress]:
    """A progress bar if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, of, note="": None
        return
    from rich.console import Console

    from gateway.reports.progress_bar import progress_bar

    with progress_bar(name, Console(stderr=True)) as show:
        yield show


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """Expands each parameter of the verb whose type is a dataclass into one option per field.

    A field's Annotated type and its default define the option. Field names must differ between the groups of a verb.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}

    @functools.wraps(verb)
    def flat(**options: Any) -> None:
        built = {name: kind(**{f.name: options.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
        verb(**options, **built)

    parameters = [each for p in inspect.signature(verb).parameters.values() for each in _options(p, hints[p.name])]
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in parameters}
    return flat


def _options(parameter: inspect.Parameter, kind: Any) -> Iterator[inspect.Parameter]:
    if not is_dataclass(kind):
        yield parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY)
        return
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        kind_of = inspect.Parameter.KEYWORD_ONLY
        yield inspect.Parameter(field.name, kind_of, default=default, annotation=hints[field.name])
