"""`gateway samples`: recorded calls and their scores."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.options import (
    Alias,
    AsJson,
    Data,
    MaybeConfig,
    Since,
    Where,
    example,
    show,
    usage_errors,
    where_to_read,
)

verbs = typer.Typer()


@verbs.command(epilog=example("gateway samples --where 'scorer=valid_json value<1' --since 1d"))
def samples(
    one: Annotated[str | None, typer.Option("--id", help="Show one exchange in full, by its x-request-id.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for --id to be scored.")] = 0.0,
    limit: Annotated[int, typer.Option(min=1, help="List at most this many, newest first.")] = 20,
    alias: Alias = None,
    since: Since = None,
    where: Where = None,
    as_json: AsJson = False,
    as_lines: Annotated[bool, typer.Option("--jsonl", help="Print one line of JSON for each exchange.")] = False,
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """Show recorded calls and their scores.

    Without --id, it prints a list. With --id, it prints the request, the response, the attempts, and every score with
    its reason. --where compares columns of exchanges (alias, model, outcome, status, total_s, text, …) and of scores
    (scorer, value, label, …) with = != < <= > >= and ~ (contains), joined by and, or, not and brackets.
    """
    from gateway.core.sanitize import to_json
    from gateway.features.calls import samples as found

    store = where_to_read(config, data).store
    if one is not None:
        exchange = found.find(store, one, wait)
        show(to_json(exchange) if as_json else found.to_terminal(exchange))
        return
    with usage_errors():
        exchanges = found.list_of(store, found.filter_of(limit, alias, since, where))
    if as_lines:
        for exchange in exchanges:
            typer.echo(to_json(exchange, indent=False))
        return
    show(to_json(exchanges) if as_json else found.table(exchanges))
