"""`gateway usage`: what calls have used and cost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.cli.options import AsJson, StoreOptions, example, grouped, show

verbs = typer.Typer()

_BY = "source, organization, team, person, key, tag, alias, upstream, model, experiment, arm, scorer, day, month"


@verbs.command(epilog=example("gateway usage --by team,day --since 2026-11-01 --csv > november.csv"))
@grouped
def usage(
    store: StoreOptions,
    by: Annotated[str, typer.Option(help=f"What to sum by, with commas between: {_BY}.")] = "source,team",
    where: Annotated[
        list[str] | None, typer.Option(help="Only usage of this, such as team=search or key=NAME; may be repeated.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="First day: 2026-11-01, or 7d before today (default: this month's first).")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Last day (default: today).")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show tokens and costs by key, team, person, model or day.

    All calls count, not only the recorded ones. Days are UTC. Experiments' shadow requests and scorers' calls are
    sources of their own. Calls whose cost is unknown are counted as such, never as free.
    """
    from gateway.core.sanitize import to_json
    from gateway.core.time_span import InvalidDuration
    from gateway.features.usage import summary as reports
    from gateway.store.query import reading
    from gateway.store.where import QueryError

    if as_csv and as_json:
        raise typer.BadParameter("give --csv or --json, not both", param_hint="--csv")
    names = tuple(dict.fromkeys(name.strip() for name in by.split(",") if name.strip()))
    try:
        first, last = reports.days(since, until, datetime.now(UTC))
        with reading(store.location().store) as connection:
            filters = reports.resolved_filters(connection, _filters(where or []))
            found = reports.report(connection, names, first, last, filters)
    except QueryError as error:
        raise typer.BadParameter(str(error), param_hint="--by or --where") from error
    except InvalidDuration as error:
        raise typer.BadParameter(str(error), param_hint="--since or --until") from error
    if as_json:
        show(to_json(reports.as_json(found)))
    elif as_csv:
        typer.echo(reports.as_csv(found), nl=False)
    else:
        show(reports.table(found))


def _filters(where: list[str]) -> dict[str, str]:
    found = {}
    for each in where:
        name, separator, value = each.partition("=")
        if not separator:
            raise typer.BadParameter(f'"{each}" is not a condition; write team=search', param_hint="--where")
        found[name.strip()] = value.strip()
    return found
