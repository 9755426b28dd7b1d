"""`gateway erase`: deletes what is recorded of one caller, one end user or one call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import AsJson, Data, MaybeConfig, command_line, example, note, show, whole_to_read

if TYPE_CHECKING:
    from gateway.features.calls.erasure import ErasureResult
    from gateway.features.calls.rows.erase import ErasureRequest
    from gateway.store.reader_config import ReaderConfig

verbs = typer.Typer()


@verbs.command(epilog=example("gateway erase --user alice --yes"))
def erase(
    caller: Annotated[str | None, typer.Option(help="All calls of the key, or token, with this name.")] = None,
    user: Annotated[
        str | None, typer.Option(help="All calls for this end user (`x-gateway-user`, or `user` in the body).")
    ] = None,
    exchange: Annotated[str | None, typer.Option(help="The call with this id, its answer's x-request-id.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Erase; without it, only counts are shown.")] = False,
    as_json: AsJson = False,
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """Erase what is recorded of one caller, one end user or one call.

    Calls are deleted with their shadows, scores, feedback and labels, from the store, the stream and the dead letters.
    A call that an experiment depends on, or that is less than an hour old, keeps its numbers only. Exports, backups and
    providers' own logs are not reached. Exit code 1: further calls arrived meanwhile; run it again.
    """
    import asyncio

    from gateway.core.sanitize import to_json

    request = _request(caller, user, exchange)
    result = asyncio.run(_erase(whole_to_read(config, data), request, yes=yes))
    counts = {what: n for what, n in result.counts.items() if n}
    if as_json:
        show(to_json({"erased": yes, "counts": counts, "audit": result.audit, "arrived": result.arrived}))
    else:
        typer.echo(", ".join(f"{n} {what}" for what, n in counts.items()) or "nothing is recorded")
    if not yes:
        note("dry run: nothing was erased; give --yes to erase")
        return
    note(f"erased {request.of} {request.digest} (a digest); audit line {result.audit}")
    for line in _left_in_the_stream_server(result.rewriting):
        note(line)
    note("not reached: files of `gateway export` and reports, backups, an OpenTelemetry collector, providers' own logs")
    if result.arrived:
        note(f"{result.arrived} calls arrived meanwhile; run the same command again")
        raise typer.Exit(1)


def _left_in_the_stream_server(rewriting: bool | None) -> Iterator[str]:
    if rewriting:
        yield "the stream server rewrites its append-only file now, which holds erased words until that is done"
    elif rewriting is not None:
        yield (
            "the stream server's append-only file holds erased words until it is rewritten, which the server refuses "
            "or had begun before: run BGREWRITEAOF there, or this command again in a minute"
        )


def _request(caller: str | None, user: str | None, exchange: str | None) -> ErasureRequest:
    from gateway.features.calls.rows.erase import ErasureRequest

    given = [(of, value) for of, value in (("caller", caller), ("user", user), ("exchange", exchange)) if value]
    if len(given) != 1:
        raise typer.BadParameter("give one of --caller, --user and --exchange", param_hint="--caller")
    of, value = given[0]
    return ErasureRequest(of, value)  # type: ignore[arg-type]


async def _erase(where: ReaderConfig, request: ErasureRequest, *, yes: bool) -> ErasureResult:
    """Raises CannotRun if the store or the stream server cannot be reached."""
    from gateway.core.errors import CannotRun, StreamDown
    from gateway.features.calls import erasure
    from gateway.features.calls.cli.export import progress
    from gateway.store.store import Store, StoreDown
    from gateway.stream import Corridor

    corridor = Corridor.of(where.stream, where.url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(corridor.aclose)
        try:
            if not yes:
                return await erasure.preview(where.store, corridor, request)
            store = await stack.enter_async_context(Store(where.store))
            with progress("erase") as watch:
                return await erasure.run(store, where.store, corridor, request, command_line(), watch)
        except (StreamDown, StoreDown) as error:
            raise CannotRun(f"{error}; nothing more was erased, and the same command continues") from error
