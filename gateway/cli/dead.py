"""`gateway dead`: the entries that were given up: looked at, put back, thrown away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.options import AsJson, Data, MaybeConfig, example, note, show
from gateway.core.chunked import chunked

if TYPE_CHECKING:
    from gateway.stream import Corridor, DeadLetter

verbs = typer.Typer()
dead = typer.Typer(
    epilog=example("gateway dead list --reason unreadable"),
    no_args_is_help=True,
    help="Entries that were given up: look at them, put them back, throw them away.",
)
verbs.add_typer(dead, name="dead")

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]…", help="Of letters, as `gateway dead list` shows them.")
]
Reason = Annotated[str | None, typer.Option(help="Those given up for this: unreadable, refused, too_many_deliveries.")]
Everyone = Annotated[bool, typer.Option("--all", help="All of them.")]


@dead.command("list", epilog=example("gateway dead list --reason unreadable"))
def list_(
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, oldest first.")] = 50,
    as_json: AsJson = False,
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """List dead letters, with their number by reason."""
    from gateway.core.sanitize import to_json
    from gateway.evals.reports import dead_letters

    async def look(corridor: Corridor) -> tuple[list[DeadLetter], dict[str, int]]:
        return [each async for each in _first(corridor, reason, limit)], await corridor.dead_letters.by_reason()

    found, reasons = _run(look, config, data)
    if as_json:
        show(to_json({"reasons": reasons, "letters": [dead_letters.to_dict(each, complete=False) for each in found]}))
    else:
        show(dead_letters.table(found, reasons))


@dead.command("show", epilog=example("gateway dead show 1795571598872-0"))
def show_(
    letter: Annotated[str, typer.Argument(metavar="ID", help="Of the letter.")],
    as_json: AsJson = False,
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """Show one dead letter whole: why it was given up, and what stood in it."""
    from gateway.core.sanitize import to_json
    from gateway.evals.reports import dead_letters

    (found,) = _run(lambda corridor: _named(corridor, [letter]), config, data)
    show(to_json(dead_letters.to_dict(found, complete=True)) if as_json else dead_letters.to_terminal(found))


@dead.command(epilog=example("gateway dead replay --reason too_many_deliveries"))
def replay(
    ids: Ids = None, reason: Reason = None, everyone: Everyone = False, config: MaybeConfig = None, data: Data = None
) -> None:
    """Put dead letters back at the stream's end, to be judged again.

    What was stored meanwhile is counted once all the same.
    """

    async def put_back(corridor: Corridor) -> tuple[int, int]:
        chosen = await _chosen(corridor, ids, reason, everyone)
        done = 0
        with _bar("putting back", len(chosen)) as advance:
            for each in chosen:
                letter = await corridor.dead_letters.get(each.id)
                done += letter is not None and await corridor.dead_letters.replay(letter) is not None
                advance(1)
        return done, len(chosen)

    done, chosen = _run(put_back, config, data)
    typer.echo(f"{done} of {chosen} put back" + ("" if done == chosen else "; the others were no longer there"))


@dead.command(epilog=example("gateway dead purge --reason unreadable --yes"))
def purge(
    ids: Ids = None, reason: Reason = None, everyone: Everyone = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: MaybeConfig = None, data: Data = None,
) -> None:  # fmt: skip
    """Throw dead letters away, for ever. The ledger keeps their number."""
    chosen = _run(lambda corridor: _chosen(corridor, ids, reason, everyone), config, data)
    if not chosen:
        typer.echo("none to throw away")
        return
    if not yes:
        typer.confirm(f"throw {len(chosen)} dead letters away for ever?", abort=True, err=True)

    async def throw(corridor: Corridor) -> int:
        gone = 0
        with _bar("throwing away", len(chosen)) as advance:
            for chunk in chunked(chosen, 100):
                gone += await corridor.dead_letters.purge(chunk)
                advance(len(chunk))
        return gone

    typer.echo(f"{_run(throw, config, data)} thrown away")


def _run(work: Callable[[Corridor], Coroutine[Any, Any, Any]], config: Path | None, data: Path | None) -> Any:
    import asyncio

    async def run() -> Any:
        async with _opened(config, data) as corridor:
            return await work(corridor)

    return asyncio.run(run())


@asynccontextmanager
async def _opened(config: Path | None, data: Path | None) -> AsyncIterator[Corridor]:
    """Raises CannotRun where there is no stream server."""
    from gateway.cli.options import whole_to_read
    from gateway.core.errors import CannotRun, StreamDown
    from gateway.stream import Corridor

    around = whole_to_read(config, data)
    corridor = Corridor.of(around.stream, around.url)
    try:
        yield corridor
    except StreamDown as error:
        raise CannotRun(f"{error}; dead letters lie in the stream server") from error
    finally:
        await corridor.aclose()


async def _first(corridor: Corridor, reason: str | None, limit: int) -> AsyncIterator[DeadLetter]:
    async for each in corridor.dead_letters.all():
        if reason in (None, each.reason):
            yield each
            limit -= 1
            if not limit:
                return


async def _named(corridor: Corridor, ids: list[str]) -> list[DeadLetter]:
    from gateway.core.errors import CannotRun

    found = []
    for each in ids:
        letter = await corridor.dead_letters.get(each) if each.replace("@", "").replace("-", "").isdigit() else None
        if letter is None:
            raise CannotRun(f"no dead letter {each}; `gateway dead list` shows those there are")
        found.append(letter)
    return found


async def _chosen(corridor: Corridor, ids: list[str] | None, reason: str | None, everyone: bool) -> list[DeadLetter]:
    """Without what stands in them: there may be many."""
    from dataclasses import replace

    if bool(ids) + (reason is not None) + everyone != 1:
        raise typer.BadParameter("give letters' ids, or --reason, or --all", param_hint="ID")
    if ids:
        return await _named(corridor, ids)
    return [replace(each, fields={}) async for each in _first(corridor, reason, -1)]


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, and else one line."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    if not sys.stderr.isatty():
        note(f"{what} {total}")
        yield lambda n: None
        return
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda n: progress.advance(task, n)
