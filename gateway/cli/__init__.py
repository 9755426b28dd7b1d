"""The command line. Results go to stdout, notes to stderr.

Only the module of the verb that runs is imported, and each verb imports what it needs when it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from gateway.features import FEATURES
from gateway.features.manifest import Verb, in_order, load

_OWN = (
    Verb("up", "gateway.cli.up:verbs", 10),
    Verb("serve", "gateway.cli.processes:verbs", 20),
    Verb("evaluate", "gateway.cli.processes:verbs", 21),
    Verb("console", "gateway.cli.processes:verbs", 22),
    Verb("check", "gateway.cli.check:verbs", 23),
    Verb("fake", "gateway.cli.processes:verbs", 24),
    Verb("engine", "gateway.cli.processes:verbs", 25),
    Verb("version", "gateway.cli.installation:verbs", 26),
    Verb("schema", "gateway.cli.installation:verbs", 30),
    Verb("score", "gateway.consumer.cli:verbs", 90),
    Verb("fetch", "gateway.cli.installation:verbs", 150),
    Verb("migrate", "gateway.cli.installation:verbs", 160),
    Verb("dashboards", "gateway.cli.installation:verbs", 180),
    Verb("alerts", "gateway.cli.installation:verbs", 181),
    Verb("deploy", "gateway.cli.installation:verbs", 182),
    Verb("skill", "gateway.cli.installation:verbs", 183),
)


class VerbTable(Mapping[str, Any]):
    """The command of each verb by name, in the order of the help. Looking one up imports its module."""

    def __init__(self) -> None:
        verbs = (*_OWN, *(verb for feature in FEATURES for verb in feature.verbs))
        self._entries = {verb.name: verb.entry for verb in in_order(verbs)}

    def __getitem__(self, name: str) -> Any:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.add_typer(load(self._entries[name]))
        return get_group(app).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class VerbGroup(TyperGroup):
    """`gateway` itself."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": VerbTable()})

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
        from gateway import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """An OpenAI-compatible gateway that scores the traffic it carries."""
