"""`gateway models`: the models in use."""

from __future__ import annotations

import typer

from gateway.cli.options import AsJson, ConfigOptions, example, grouped, show

verbs = typer.Typer()


@verbs.command(epilog=example("gateway models"))
@grouped
def models(options: ConfigOptions, as_json: AsJson = False) -> None:
    """Show the models in use: since when, what their answers name, the last change, cost, cache and retirement.

    Also names calls that pay for a prompt again which the provider has in its cache.
    """
    import time

    from gateway.core.sanitize import to_json
    from gateway.features.models.report import models_in_use, to_dict, to_terminal
    from gateway.store.query import reading

    of, now = options.load(), time.time()
    with reading(of.store) as connection:
        found = models_in_use(connection, of.config, now)
    show(to_json(to_dict(found)) if as_json else to_terminal(found, now))
