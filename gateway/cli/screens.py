"""`gateway`, with the verbs that most people need, and `gateway help`, with all of them or one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from gateway.cli.options import example
from gateway.cli.verb_table import VerbTable

verbs = typer.Typer()

MORE = "More: gateway help all · gateway VERB --help · gateway --version"


@verbs.command("help", epilog=example("gateway help all"))
def show_help(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[all | VERB…]", help="Every verb, or the help of one.")
    ] = None,
) -> None:
    """Show the verbs that most people need; with "all" every verb, with a verb its options."""
    root = ctx.find_root()
    if words == ["all"]:
        typer.echo("\n".join(lines(root.make_formatter().width, first_screen=False)))
        return
    program: Any = root.command
    program.main([*(words or ()), "--help"], prog_name=root.info_name)


def lines(width: int, *, first_screen: bool) -> Iterator[str]:
    """One line for each verb that is not hidden, below the title of its group."""
    table = VerbTable()
    groups = table.in_groups(first_screen=first_screen)
    column = max(len(name) for names in groups.values() for name in names) + 4
    for title, names in groups.items():
        yield title
        for name, command in ((name, table[name]) for name in names):
            if not command.hidden:
                yield f"  {name:{column - 2}}{command.get_short_help_str(width - column)}"
