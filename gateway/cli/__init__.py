"""The command line. Results go to stdout, notes to stderr.

Only the module of the verb that runs is imported, and each verb imports what it needs when it runs.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gateway.cli.verb_table import VerbTable


class VerbGroup(TyperGroup):
    """`gateway` itself."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": VerbTable()})

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from gateway.cli.screens import MORE, lines

        formatter.write("\n".join((f"{self.help}\n", *lines(formatter.width, first_screen=True), f"\n{MORE}\n")))

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def get_help_option(self, ctx: Any) -> Any:
        """Gives the option a value that typer need not convert: a conversion would import pydantic for every verb."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option


app = typer.Typer(
    cls=VerbGroup,
    help="An OpenAI-compatible gateway that scores the traffic it carries.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes 0.15 s to draw a frame around the help
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from gateway.core.project import version_line

        typer.echo(version_line())
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version, with commit and date."
        ),
    ] = False,
) -> None:
    """An OpenAI-compatible gateway that scores the traffic it carries."""
