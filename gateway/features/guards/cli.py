"""`gateway guards`: the guards' actions, and their mistakes."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from gateway.cli.options import AsJson, Since, StoreOptions, example, grouped, note, show, usage_errors

verbs = typer.Typer()
_SPAN = "30d"


@verbs.command(epilog=example("gateway guards secrets --since 7d"))
@grouped
def guards(
    store: StoreOptions,
    guard: Annotated[
        str | None, typer.Argument(help="One guard, also by key and with its labels (default: all that decided).")
    ] = None,
    since: Since = _SPAN,
    as_json: AsJson = False,
) -> None:
    """Show how often guards have a hit, by key, and how often they are wrong by people's labels.

    Shares are of all calls, weighted by the probability with which each was recorded. Precision and recall come from
    `gateway label next --guard NAME`.
    """
    from gateway.core.sanitize import to_json
    from gateway.features.calls.samples import seconds_of
    from gateway.features.guards.evidence import evidence_of
    from gateway.features.guards.report import to_dict, to_terminal
    from gateway.features.guards.rows import guards_since
    from gateway.store.query import reading

    with usage_errors(), reading(store.location().store) as connection:
        now = time.time()
        after = now - seconds_of(since or _SPAN)
        names = [guard] if guard else guards_since(connection, after)
        found = [evidence_of(connection, name, after, now) for name in names]
    if not found:
        note(f"no guard decided on a recorded call of the last {since}; `guards` of gateway.yaml has them")
    if as_json:
        show(to_json(to_dict(after, found)))
    elif found:
        show(to_terminal(found, whole=guard is not None))
