"""`gateway status` and `gateway dead`: the state of the whole system, and dead letters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gateway.cli.options import AsJson, StoreOptions, example, grouped, note, on_corridor, progress, show
from gateway.core.chunked import chunked

if TYPE_CHECKING:
    from gateway.store.reader_config import ReaderConfig
    from gateway.stream import Corridor, DeadLetter

verbs = typer.Typer()
T = TypeVar("T")


@verbs.command(epilog=example("gateway status --watch"))
@grouped
def status(
    store: StoreOptions,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between refreshes, with --watch.")] = 2.0,
    process: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Process to ask at /health while the stream server is away; may be repeated "
            "(default: http://127.0.0.1:8000 and http://127.0.0.1:9101).",
        ),
    ] = None,
) -> None:
    """Show what fails now, or that all is well.

    It shows upstreams, configs, rates, lag, losses, consumers, dead letters, budgets, and who is near theirs.
    Reads the stream server and the store, and lists problems first. While the stream server is away, it asks the
    processes themselves. Exit code 0: no problems; 1: at least one problem; 2: unknown, because the stream server or
    the config cannot be read.
    """
    import asyncio
    from contextlib import suppress

    from gateway.core.sanitize import to_json
    from gateway.features.status.report import look, to_terminal

    around = store.whole_or_usual()
    around = replace(
        around if around.unreadable else _with_config(around, store.config), processes=tuple(process or ())
    )
    if watch:
        refreshing = _lines if as_json else _screen
        with suppress(KeyboardInterrupt):
            asyncio.run(on_corridor(around.stream, around.url, lambda corridor: refreshing(around, corridor, every)))
        return
    found = asyncio.run(on_corridor(around.stream, around.url, lambda corridor: look(around, corridor)))
    show(to_json(found.to_dict()) if as_json else to_terminal(found))
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def _with_config(around: ReaderConfig, path: Path | None) -> ReaderConfig:
    """Adds the problems of the config: the models that retire. A config with mistakes adds none."""
    from gateway.config.loading import load_for_consumer
    from gateway.core.errors import ConfigError

    path = path or Path("gateway.yaml")
    try:
        return replace(around, served=load_for_consumer(path))
    except ConfigError:
        return around


async def _lines(around: ReaderConfig, corridor: Corridor, every_s: float) -> None:
    """Prints one line of JSON per refresh."""
    import asyncio

    import orjson

    from gateway.features.status.report import look

    while True:
        typer.echo(orjson.dumps((await look(around, corridor)).to_dict()).decode())
        await asyncio.sleep(every_s)


async def _screen(around: ReaderConfig, corridor: Corridor, every_s: float) -> None:
    import asyncio

    from rich.console import Console
    from rich.live import Live

    from gateway.features.status.report import look, to_terminal

    console = Console(highlight=False)
    first = to_terminal(await look(around, corridor))
    with Live(first, console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(every_s)
            live.update(to_terminal(await look(around, corridor)), refresh=True)


dead = typer.Typer(
    epilog=example("gateway dead list --reason unreadable"),
    no_args_is_help=True,
    help="List, replay and purge dead letters: records that could not be scored.",
)
verbs.add_typer(dead, name="dead")

Reason = Annotated[
    str | None, typer.Option(help="Dead letters with this reason: unreadable, refused, too_many_deliveries.")
]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The dead letters that are meant."""

    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]…", help="Ids of dead letters, from `gateway dead list`.")
    ] = None
    reason: Reason = None
    everyone: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False

    async def read(self, corridor: Corridor) -> list[DeadLetter]:
        """Reads them without their content: there may be many."""
        from gateway.features.status.dead_letters import oldest_letters

        if bool(self.ids) + (self.reason is not None) + self.everyone != 1:
            raise typer.BadParameter("give ids, or --reason, or --all", param_hint="ID")
        if self.ids:
            return await _named(corridor, self.ids)
        return [replace(each, fields={}) async for each in oldest_letters(corridor, self.reason, None)]


@dead.command("list", epilog=example("gateway dead list --reason unreadable"))
@grouped
def list_(
    store: StoreOptions,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, oldest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, with counts by reason."""
    from gateway.core.sanitize import to_json
    from gateway.features.status import dead_letters

    async def look(corridor: Corridor) -> tuple[list[DeadLetter], dict[str, int]]:
        letters = [each async for each in dead_letters.oldest_letters(corridor, reason, limit)]
        return letters, await corridor.dead_letters.by_reason()

    found, reasons = _run(look, store)
    if as_json:
        show(to_json({"reasons": reasons, "letters": [dead_letters.to_dict(each, complete=False) for each in found]}))
    else:
        show(dead_letters.table(found, reasons))


@dead.command("show", epilog=example("gateway dead show 1795571598872-0"))
@grouped
def show_(
    letter: Annotated[str, typer.Argument(metavar="ID", help="Id of the dead letter.")],
    store: StoreOptions,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter in full, with the reason and its content."""
    from gateway.core.sanitize import to_json
    from gateway.features.status import dead_letters

    (found,) = _run(lambda corridor: _named(corridor, [letter]), store)
    show(to_json(dead_letters.to_dict(found, complete=True)) if as_json else dead_letters.to_terminal(found))


@dead.command(epilog=example("gateway dead replay --reason too_many_deliveries"))
@grouped
def replay(letters: _Chosen, store: StoreOptions) -> None:
    """Append dead letters to the stream again, to be scored.

    A record that is in the store already is not counted twice.
    """

    async def put_back(corridor: Corridor) -> tuple[int, int]:
        chosen = await letters.read(corridor)
        done = 0
        note(f"replaying {len(chosen)}")
        with progress("replaying") as show:
            for n, each in enumerate(chosen, start=1):
                letter = await corridor.dead_letters.get(each.id)
                done += letter is not None and await corridor.dead_letters.replay(letter) is not None
                show(n, len(chosen))
        return done, len(chosen)

    done, chosen = _run(put_back, store)
    typer.echo(f"{done} of {chosen} replayed" + ("" if done == chosen else "; the others had been removed meanwhile"))


@dead.command(epilog=example("gateway dead purge --reason unreadable --yes"))
@grouped
def purge(
    letters: _Chosen,
    store: StoreOptions,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete dead letters for good. The loss accounting keeps their number."""
    chosen = _run(letters.read, store)
    if not chosen:
        typer.echo("no dead letter to delete")
        return
    if not yes:
        typer.confirm(f"delete {len(chosen)} dead letters for good?", abort=True, err=True)

    async def delete(corridor: Corridor) -> int:
        deleted = done = 0
        note(f"deleting {len(chosen)}")
        with progress("deleting") as show:
            for chunk in chunked(chosen, 100):
                deleted += await corridor.dead_letters.purge(chunk)
                done += len(chunk)
                show(done, len(chosen))
        return deleted

    typer.echo(f"{_run(delete, store)} deleted")


def _run(work: Callable[[Corridor], Awaitable[T]], store: StoreOptions) -> T:
    """Raises CannotRun if the stream server cannot be reached."""
    import asyncio

    from gateway.core.errors import CannotRun, StreamDown

    around = store.whole()
    try:
        return asyncio.run(on_corridor(around.stream, around.url, work))
    except StreamDown as error:
        raise CannotRun(f"{error}; dead letters are in the stream server") from error


async def _named(corridor: Corridor, ids: list[str]) -> list[DeadLetter]:
    from gateway.core.errors import CannotRun

    found = []
    for each in ids:
        letter = await corridor.dead_letters.get(each) if each.replace("@", "").replace("-", "").isdigit() else None
        if letter is None:
            raise CannotRun(f"no dead letter {each}; `gateway dead list` lists them")
        found.append(letter)
    return found
