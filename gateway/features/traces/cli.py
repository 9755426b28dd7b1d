"""`gateway ingest`: calls from the traces of other tools."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from gateway.cli.options import AsJson, StoreOptions, example, grouped, note, progress, show

if TYPE_CHECKING:
    from gateway.consumer.ingest import IngestResult, IngestTarget
    from gateway.features.traces.files import TraceFile
    from gateway.features.traces.survey import Survey

verbs = typer.Typer()


@verbs.command(epilog=example("gateway ingest traces.jsonl exports/"))
@grouped
def ingest(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Files, directories, or - for stdin; .gz is read.")
    ],
    store: StoreOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is in the files.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import calls from traces of OpenTelemetry, Langfuse or LiteLLM, and score them.

    Reads OTLP (JSON, lines of JSON, Protobuf), Langfuse observations (API pages, exports) and LiteLLM spend logs. The
    calls get the role `imported`: they are scored, searched, labelled and replayed, and count in no mean of served
    traffic. Reading a file again changes nothing. Nothing is stored before every file could be read. Exit code 1: some
    calls were left out.
    """
    from gateway.consumer.ingest import IngestTarget
    from gateway.core.errors import CannotRun
    from gateway.core.sanitize import to_json
    from gateway.features.traces.files import opened
    from gateway.features.traces.model import InvalidTrace
    from gateway.features.traces.survey import survey

    location = store.location()
    since = 0.0 if location.keep_days is None else time.time() - 86_400 * location.keep_days
    with ExitStack() as stack:
        try:
            files = stack.enter_context(opened(paths))
            found = survey(files, since)
        except (InvalidTrace, CannotRun) as error:
            raise typer.BadParameter(f"{error}. Nothing was stored", param_hint="PATH") from error
        result = None
        if not dry_run and found.calls:
            directory = Path() if store.config is None else store.config.parent
            result = _stored(files, found, IngestTarget(location.store, location.scorers, directory))
    if as_json:
        show(to_json(_as_dict(found, result)))
    else:
        _say(found, result)
    if found.left_out or (result is not None and result.stopped):
        raise typer.Exit(1)


def _stored(files: list[TraceFile], found: Survey, target: IngestTarget) -> IngestResult:
    import asyncio

    from gateway.consumer.ingest import ingest as stored
    from gateway.features.traces.survey import exchanges_in

    with progress("ingest") as bar:
        return asyncio.run(stored(exchanges_in(files, found), target, lambda done: bar(done, found.calls)))


def _say(found: Survey, result: IngestResult | None) -> None:
    from gateway.core.sanitize import line

    models = ", ".join(f"{line(model)} {n}" for model, n in found.models.most_common(10))
    typer.echo(f"{found.calls} calls in {found.spans} spans{f': {models}' if models else ''}")
    for why, out in found.left_out.items():
        note(f"{out.n} left out: {why} (the first: {line(out.first)})")
    if found.without_pi:
        note(f"{found.without_pi} calls: the probability with which their traces were kept is unknown (pi is null)")
    if result is None:
        note("nothing was stored" if found.calls else "there is no call to store")
        return
    typer.echo(f"{result.new} stored, {result.done - result.new} were stored before")
    if result.scored:
        typer.echo(f"scored: {', '.join(f'{name} {n}' for name, n in sorted(result.scored.items()))}")
    if result.waiting:
        names = ",".join(result.waiting)
        note(f"not yet scored by a model: gateway score --scorers {names} --where 'role=imported'")
    if result.stopped:
        note("stopped; the same command continues")
        return
    note("gateway samples --where 'role=imported' lists them")


class LeftOutOutput(TypedDict):
    reason: str
    n: int
    first: str
    """The first place with this reason."""


class IngestOutput(TypedDict):
    """Contents of the files, and the result of their import."""

    spans: int
    calls: int
    models: dict[str, int]
    """Calls by model."""
    pi_unknown: int
    """Calls for which the probability that their traces were kept is unknown."""
    left_out: list[LeftOutOutput]
    stored: int
    stored_before: int
    """Calls that were in the store already."""
    scored: dict[str, int]
    """Calls by scorer."""
    not_scored_yet: list[str]
    """Scorers that wait for a model: `gateway score` runs them."""
    stopped: bool
    """Whether it was stopped before its end; the same command continues."""


def _as_dict(found: Survey, result: IngestResult | None) -> IngestOutput:
    return {
        "spans": found.spans,
        "calls": found.calls,
        "models": dict(found.models),
        "pi_unknown": found.without_pi,
        "left_out": [{"reason": why, "n": out.n, "first": out.first} for why, out in found.left_out.items()],
        "stored": 0 if result is None else result.new,
        "stored_before": 0 if result is None else result.done - result.new,
        "scored": {} if result is None else dict(result.scored),
        "not_scored_yet": [] if result is None else list(result.waiting),
        "stopped": result is not None and result.stopped,
    }
