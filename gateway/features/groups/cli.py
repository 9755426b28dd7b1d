"""`gateway groups`: which kinds of calls fail."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import Alias, AsJson, Since, StoreOptions, example, grouped, note, show, usage_errors

verbs = typer.Typer()


@dataclass(frozen=True, slots=True)
class _GroupsOutput:
    as_json: AsJson = False
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Also write the report to this HTML file.")] = None


@verbs.command(epilog=example("gateway groups helpful --since 7d"))
@grouped
def groups(
    output: _GroupsOutput,
    store: StoreOptions,
    scorer: Annotated[
        str | None, typer.Argument(help="A scorer with bounds (default: all that found failures).")
    ] = None,
    since: Since = "7d",
    alias: Alias = None,
    cut: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="A score below it, rescaled to 0 … 1, is a failure.")
    ] = 0.5,
    imported: Annotated[
        bool, typer.Option("--imported", help="Calls of `gateway ingest`, instead of served ones.")
    ] = False,
) -> None:
    """Show which kinds of calls fail, in rules that can be read, with their share, since when, and examples.

    A small tree over the request, the answer, the model, the key and the words of the judge's reasons is grown on half
    of the newest 5 000 calls; shares and intervals are of the other half.
    """
    from gateway.core.complete_file import write_private
    from gateway.core.sanitize import to_json
    from gateway.core.time_span import seconds_of
    from gateway.features.groups.report import look, to_dict, to_html, to_terminal
    from gateway.features.groups.rows import CallChoice, scorers_with_failures
    from gateway.store.query import reading

    with usage_errors(), reading(store.location().store) as connection:
        after = time.time() - seconds_of(since or "7d")
        names = [scorer] if scorer else scorers_with_failures(connection, after, cut)
        found = [look(connection, CallChoice(name, after, alias, imported), cut) for name in names]
    if output.html is not None:
        write_private(output.html, to_html(found))
        note(f"wrote {output.html}")
    if not found:
        note(f"no scorer gave a call of the last {since} less than {cut:g}")
    show(to_json(to_dict(found)) if output.as_json else to_terminal(found))
