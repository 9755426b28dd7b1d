"""`gateway migrate`: brings the store's tables up to date."""

from __future__ import annotations

import typer

from gateway.cli.options import Data, MaybeConfig, example, note, where_to_read

verbs = typer.Typer()


@verbs.command(epilog=example("gateway migrate"))
def migrate(config: MaybeConfig = None, data: Data = None) -> None:
    """Bring the store's tables up to date.

    `gateway evaluate` and `gateway up` do this when they start. Back up the store first: a migration cannot be undone.
    """
    from gateway.store.engine import head, migrate_store

    before = migrate_store(where_to_read(config, data).store)
    if before == head():
        note(f"the store has tables of version {head()} already")
    else:
        note(f"the store has tables of version {head()}" + ("" if before is None else f"; it had {before}"))
