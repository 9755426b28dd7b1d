"""`gateway report`: what an experiment has found, on the terminal, as JSON, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import AsJson, Data, MaybeConfig, example, note, show, where_to_read

verbs = typer.Typer()


@verbs.command(epilog=example("gateway report swap --html swap.html"))
def report(
    experiment: Annotated[str, typer.Argument(help="Its name in gateway.yaml.")],
    candidate: Annotated[
        str | None, typer.Option(help="Its arm, where there are several; left out: the first.")
    ] = None,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the report as a page.")] = None,
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """Say whether the candidate may take over, and what that rests on.

    One verdict: ship, reject or hold, with its numbers; every interval holds at every look, so look as often as you
    like.
    """
    from gateway.evals.reports.experiment import build as made
    from gateway.evals.reports.experiment.as_json import to_json
    from gateway.evals.reports.experiment.html import to_html
    from gateway.evals.reports.experiment.terminal import to_terminal

    found = made.read(where_to_read(config, data), experiment, candidate)
    if html is not None:
        html.write_text(to_html(found), encoding="utf-8")
        note(f"wrote {html}")
    show(to_json(found) if as_json else to_terminal(found))
