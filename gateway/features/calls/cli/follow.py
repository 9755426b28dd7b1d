"""`gateway follow`: recorded calls, as they arrive, into files that a warehouse loads."""

from __future__ import annotations

import signal
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.option_groups import grouped
from gateway.cli.options import example, note, usage_errors, where_to_read
from gateway.features.calls.cli.export import SelectedCalls, StoreOptions

if TYPE_CHECKING:
    from gateway.features.calls.follow import FollowForm

verbs = typer.Typer()


@dataclass(frozen=True, slots=True)
class _Files:
    form: Annotated[str, typer.Option("--format", help="jsonl or parquet.")] = "jsonl"
    rotate_mb: Annotated[int, typer.Option(min=1, help="A file is complete at this size.")] = 128
    rotate_s: Annotated[float, typer.Option(min=1, help="A file is complete at this age, in seconds.")] = 300


@verbs.command(epilog=example("gateway follow /var/lib/gateway/export --format parquet"))
@grouped
def follow(
    directory: Annotated[Path, typer.Argument(file_okay=False, help="Directory for the files.")],
    files: _Files,
    selected: SelectedCalls,
    store: StoreOptions,
    settle_s: Annotated[
        float, typer.Option(min=0, help="PostgreSQL: by how much the consumers' clocks may differ.")
    ] = 30,
) -> None:
    """Write recorded calls to files in a directory as they arrive, until stopped.

    Each call is in exactly one complete file, with its scores and the columns of `gateway export`. Started again, it
    continues where it stopped. SIGINT and SIGTERM complete the file that is being written.
    """
    from gateway.features.calls.follow import FileRotation
    from gateway.features.calls.follow import follow as followed
    from gateway.features.calls.rows.export import FollowSource
    from gateway.features.calls.samples import filter_of

    form, url = _form(files.form), where_to_read(store.config, store.data).store
    rotation = FileRotation(files.rotate_mb * 1_000_000, files.rotate_s)
    with usage_errors():
        source = FollowSource(url, filter_of(0, selected.alias, selected.since, selected.where), settle_s)
        with closing(source):
            followed(source, directory, form, rotation, note, _stop_at_signals())


def _form(name: str) -> FollowForm:
    known: dict[str, FollowForm] = {"jsonl": "jsonl", "parquet": "parquet"}
    if name not in known:
        raise typer.BadParameter(f'no form "{name}"; expected {" or ".join(known)}', param_hint="--format")
    return known[name]


def _stop_at_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop
