"""`gateway export`: recorded calls, for other programs."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from gateway.cli.options import Alias, Data, MaybeConfig, Since, Where, example, note, usage_errors, where_to_read

verbs = typer.Typer()
FORMS = ("jsonl", "openai-chat", "openai-evals", "dpo", "csv", "parquet")


@verbs.command(epilog=example("gateway export --format parquet --since 7d --out chats.parquet"))
def export(
    form: Annotated[
        str | None, typer.Option("--format", help=f"{', '.join(FORMS)}; default: by the name of --out, else jsonl.")
    ] = None,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Output file (default: stdout).")] = None,
    where: Where = None,
    since: Since = None,
    alias: Alias = None,
    limit: Annotated[int, typer.Option(min=0, help="At most this many calls, oldest first; 0: all.")] = 0,
    by: Annotated[
        str | None,
        typer.Option(help="dpo: what decides: correction, label, judges, scorers (default: the first three)."),
    ] = None,
    gap: Annotated[float, typer.Option(min=0, help="dpo: the smallest difference of two scores.")] = 0.0,
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep writing what arrives into files in --to, until stopped.")
    ] = False,
    to: Annotated[Path | None, typer.Option(file_okay=False, help="--follow: the directory.")] = None,
    rotate_mb: Annotated[int, typer.Option(min=1, help="--follow: a file is complete at this size.")] = 128,
    rotate_s: Annotated[float, typer.Option(min=1, help="--follow: a file is complete at this age, in seconds.")] = 300,
    settle_s: Annotated[
        float, typer.Option(min=0, help="--follow, PostgreSQL: by how much the consumers' clocks may differ.")
    ] = 30,
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """Write recorded calls, with their scores, to a file.

    jsonl, csv and parquet have the columns messages, response, score_NAME, … and pi, the probability with which a call
    was recorded: weight by 1 / pi. openai-chat is for fine-tuning, openai-evals for evals; both use a person's
    correction instead of the answer, if there is one. dpo has the answers of a pair as prompt, chosen and rejected.
    --follow writes jsonl or parquet files into --to as calls arrive, each call once, and continues where it stopped.
    """
    if follow or to is not None:
        if not follow or to is None or out is not None or limit:
            raise typer.BadParameter("--follow goes with --to, and without --out and --limit", param_hint="--follow")
        filtered = (alias, since, where)
        return _followed(
            form or "jsonl", to, (rotate_mb, rotate_s, settle_s), filtered, where_to_read(config, data).store
        )
    from gateway.evals.reports.export.export import complete_file, form_of
    from gateway.evals.reports.export.export import export as exported
    from gateway.evals.reports.export.forms import FORMS as KNOWN
    from gateway.evals.reports.samples import filter_of
    from gateway.evals.store.preferences import DEFAULT, PreferenceRule

    chosen = form_of(out) if form is None else next((known for known in KNOWN if known == form), None)
    if chosen is None:
        raise typer.BadParameter(f'no form "{form}"; expected one of {", ".join(FORMS)}', param_hint="--format")
    if chosen == "parquet" and out is None:
        raise typer.BadParameter("parquet is binary: give a file", param_hint="--out")
    if (by or gap) and chosen != "dpo":
        raise typer.BadParameter("only the form dpo compares answers", param_hint="--by" if by else "--gap")
    rule = PreferenceRule(tuple(word.strip() for word in by.split(",")) if by else DEFAULT, gap)
    store = where_to_read(config, data).store
    with usage_errors(), progress() as show:
        options = filter_of(limit, alias, since, where)
        if out is None:
            done = exported(store, options, chosen, sys.stdout.buffer, show, rule)
        else:
            with complete_file(out) as file:
                done = exported(store, options, chosen, file, show, rule)
    note(f"{done.written} {'preferences' if chosen == 'dpo' else 'exchanges'}{'' if out is None else f' in {out}'}")
    for reason, n in sorted(done.left_out.items()):
        note(f"{n} left out: {reason}")


def _followed(
    form: str,
    to: Path,
    rotation: tuple[int, float, float],
    filtered: tuple[str | None, str | None, str | None],
    store: str,
) -> None:
    """Until SIGINT or SIGTERM, which complete the file that is being written."""
    from gateway.evals.reports.export.follow import FileRotation
    from gateway.evals.reports.export.follow import follow as followed
    from gateway.evals.reports.samples import filter_of
    from gateway.evals.store.export import FollowSource

    if form not in ("jsonl", "parquet"):
        raise typer.BadParameter(f"--follow writes jsonl or parquet, not {form}", param_hint="--format")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with usage_errors():
        source = FollowSource(store, filter_of(0, *filtered), rotation[2])
        with closing(source):
            chosen: Literal["jsonl", "parquet"] = "parquet" if form == "parquet" else "jsonl"
            followed(source, to, chosen, FileRotation(rotation[0] * 1_000_000, rotation[1]), note, stop)


@contextmanager
def progress(name: str = "export") -> Iterator[Callable[[int, int], None]]:
    """A progress bar if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        task = drawn.add_task(name, total=None)
        yield lambda done, of: drawn.update(task, completed=done, total=of)
