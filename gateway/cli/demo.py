"""`gateway demo`: a verdict while one watches, without a model or a key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import Port, example, note

verbs = typer.Typer()


@verbs.command(epilog=example("gateway demo"))
def demo(
    port: Port = 8000,
    fast: Annotated[bool, typer.Option("--fast", help="For CI: send calls faster, end with the verdict.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Folder for its config and data (default: one that is removed at the end).")
    ] = None,
) -> None:
    """Watch a verdict: two scripted models, no key.

    Starts everything with a model and one that costs a tenth, sends traffic of made-up users, and comes to a verdict
    within two minutes. The cheaper model then takes over step by step, until Ctrl-C. With --fast it ends with the
    verdict; exit code 1: it does not ship.
    """
    import asyncio
    import tempfile

    from gateway.cli.up import own_command
    from gateway.demo.demo import DemoOptions
    from gateway.demo.demo import demo as run
    from gateway.verdict.decision import SHIPS

    with tempfile.TemporaryDirectory(prefix="assay-demo-", ignore_cleanup_errors=True) as temporary:
        report = asyncio.run(run(DemoOptions(folder or Path(temporary), port, fast, own_command()), note))
    if fast and (report is None or report.verdict not in SHIPS):
        raise typer.Exit(1)
