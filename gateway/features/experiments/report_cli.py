"""`gateway report`: the result of an experiment, on the terminal, as JSON or as HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import AsJson, Data, MaybeConfig, example, note, show, where_to_read

verbs = typer.Typer()


@verbs.command(epilog=example("gateway report swap --html swap.html"))
def report(
    experiment: Annotated[str, typer.Argument(help="Name of the experiment in gateway.yaml.")],
    candidate: Annotated[
        str | None, typer.Option(help="Arm of the candidate, if there are several (default: the first).")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show all the evidence.")] = False,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Also write the report to this HTML file.")] = None,
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """Report whether a candidate may replace the control.

    The verdict is ship, reject or hold, with its evidence. Every interval is valid at all times, so you may look as
    often as you like.
    """
    from gateway.features.calls.export import write_private
    from gateway.features.experiments.report import build as made
    from gateway.features.experiments.report.as_json import to_json
    from gateway.features.experiments.report.html import to_html
    from gateway.features.experiments.report.terminal import to_terminal

    where = where_to_read(config, data)
    found = made.read(where, experiment, candidate)
    if html is not None:
        write_private(html, to_html(found, made.read_all(where, experiment)))
        note(f"wrote {html}")
    show(to_json(found) if as_json else to_terminal(found, full=full))
