"""`gateway score`: scores stored exchanges with scorers that did not run when they arrived."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import Alias, Data, File, Since, Where, example, note, progress, usage_errors

if TYPE_CHECKING:
    from gateway.consumer.backfill import BackfillProgress

verbs = typer.Typer()


@verbs.command(epilog=example("gateway score --scorers helpful,exact --since 7d"))
def score(
    scorers: Annotated[str, typer.Option(help="Comma-separated names of scorers in gateway.yaml.")],
    since: Since = None,
    where: Where = None,
    alias: Alias = None,
    limit: Annotated[int, typer.Option(min=0, help="At most this many calls, oldest first; 0: all.")] = 0,
    gateway: Annotated[
        str | None, typer.Option(help="URL of a running gateway for judges (default: the config's, else start one).")
    ] = None,
    config: Annotated[Path, File] = Path("gateway.yaml"),
    data: Data = None,
) -> None:
    """Score recorded calls with scorers that did not run when the calls arrived.

    Calls that a scorer has scored under the same version and options are skipped; errors and timeouts are tried again.
    After an interruption the same command continues. `gateway evaluate` may run at the same time. A judge's budget is
    the same as its budget in `gateway evaluate`. Exit code 1: some calls are left.
    """
    import asyncio

    from gateway.config.environment import data_directory
    from gateway.config.loading import load
    from gateway.consumer.backfill import ScoreRequest, score_stored
    from gateway.features.gateway_choice import GatewayLocation
    from gateway.observability.logging import to_file
    from gateway.store.query import filter_of

    names = tuple(dict.fromkeys(word.strip() for word in scorers.split(",") if word.strip()))
    if not names:
        raise typer.BadParameter("give at least one scorer", param_hint="--scorers")
    place = GatewayLocation(config, load(config), data_directory(data), gateway)
    with usage_errors(), to_file(place.data / "score.log"), progress("score") as show:
        request = ScoreRequest(names, filter_of(limit, alias, since, where))
        done = asyncio.run(score_stored(request, place, note, lambda state: show(state.done, state.total)))
    _report(done)
    if not done.complete:
        raise typer.Exit(1)


def _report(done: BackfillProgress) -> None:
    by_scorer: dict[str, list[str]] = {}
    for (name, status), n in sorted(done.stored.items()):
        by_scorer.setdefault(name, []).append(f"{n} {status.replace('_', ' ')}")
    for name, counts in by_scorer.items():
        typer.echo(f"{name}: {', '.join(counts)}")
    note(f"{done.done} of {done.total} calls{f', ${done.usd:.4f}' if done.usd else ''}")
    if done.without_bodies:
        note(f"{done.without_bodies} calls cannot be scored: retention has deleted their texts")
    for name, reason in done.set_aside.items():
        note(f"{name} stopped: {reason}; the same command continues with the calls that are left")
    if done.stopped:
        note("stopped; the same command continues with the calls that are left")
