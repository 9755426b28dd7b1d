"""`gateway status`: the state of the whole system, on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import AsJson, Data, MaybeConfig, example, note, show, whole_to_read

if TYPE_CHECKING:
    from gateway.features.status.report import Status
    from gateway.store.reader_config import ReaderConfig
    from gateway.stream import Corridor

verbs = typer.Typer()


@verbs.command(epilog=example("gateway status --watch"))
def status(
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between refreshes, with --watch.")] = 2.0,
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """Show failures, upstreams, configs, rates, lag, losses, consumers, dead letters and budgets.

    Reads the stream server and the store, and lists problems first. Exit code 0: no problems; 1: at least one problem;
    2: unknown, because the stream server or the config cannot be read.
    """
    import asyncio
    from contextlib import suppress

    from gateway.core.errors import ConfigError
    from gateway.core.sanitize import to_json
    from gateway.features.status.report import to_terminal

    try:
        around = whole_to_read(config, data)
    except ConfigError as error:
        note(str(error))
        raise typer.Exit(2) from error
    if watch:
        with suppress(KeyboardInterrupt):
            asyncio.run(_watch(around, every, as_json))
        return
    found = asyncio.run(_once(around))
    show(to_json(found.to_dict()) if as_json else to_terminal(found))
    if found.exit_code:
        raise typer.Exit(found.exit_code)


async def _once(around: ReaderConfig) -> Status:
    from gateway.features.status.report import look
    from gateway.stream import Corridor

    corridor = Corridor.of(around.stream, around.url)
    try:
        return await look(around, corridor)
    finally:
        await corridor.aclose()


async def _watch(around: ReaderConfig, every_s: float, as_json: bool) -> None:
    from gateway.stream import Corridor

    corridor = Corridor.of(around.stream, around.url)
    try:
        await (_lines(around, corridor, every_s) if as_json else _screen(around, corridor, every_s))
    finally:
        await corridor.aclose()


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
    with Live(
        to_terminal(await look(around, corridor)), console=console, screen=console.is_terminal, auto_refresh=False
    ) as live:
        while True:
            await asyncio.sleep(every_s)
            live.update(to_terminal(await look(around, corridor)), refresh=True)
