"""The verbs of the command line and those of the features, by name and by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import typer
from typer.main import get_group

from gateway.features import FEATURES
from gateway.features.manifest import HelpGroup, Verb, in_order, load

_OWN = (
    Verb("up", "gateway.cli.up:verbs", 10, "Run", on_first_screen=True),
    Verb("serve", "gateway.cli.processes:verbs", 20, "Run", on_first_screen=True),
    Verb("evaluate", "gateway.cli.processes:verbs", 21, "Run", on_first_screen=True),
    Verb("demo", "gateway.cli.demo:verbs", 22, "Run", on_first_screen=True),
    Verb("console", "gateway.cli.processes:verbs", 23, "Run"),
    Verb("check", "gateway.cli.check:verbs", 24, "Run"),
    Verb("fake", "gateway.cli.processes:verbs", 25, "Run"),
    Verb("engine", "gateway.cli.processes:verbs", 26, "Run"),
    Verb("version", "gateway.cli.installation:verbs", 27, "Run"),
    Verb("schema", "gateway.cli.installation:verbs", 30, "Run"),
    Verb("score", "gateway.consumer.cli:verbs", 90, "Decide"),
    Verb("fetch", "gateway.cli.installation:verbs", 150, "Run"),
    Verb("migrate", "gateway.cli.installation:verbs", 160, "Run"),
    Verb("dashboards", "gateway.cli.installation:verbs", 180, "Run"),
    Verb("alerts", "gateway.cli.installation:verbs", 181, "Run"),
    Verb("deploy", "gateway.cli.installation:verbs", 182, "Run"),
    Verb("skill", "gateway.cli.installation:verbs", 183, "Run"),
    Verb("help", "gateway.cli.screens:verbs", 190, "Run"),
)


class VerbTable(Mapping[str, Any]):
    """The command of each verb by name, in the order of the help. Looking one up imports its module."""

    def __init__(self) -> None:
        self._verbs = in_order((*_OWN, *(verb for feature in FEATURES for verb in feature.verbs)))
        self._entries = {verb.name: verb.entry for verb in self._verbs}

    def in_groups(self, *, first_screen: bool) -> dict[HelpGroup, list[str]]:
        """The names of the verbs that the first screen lists, or of all, by group."""
        listed = [verb for verb in self._verbs if verb.on_first_screen or not first_screen]
        return {group: [verb.name for verb in listed if verb.group == group] for group in get_args(HelpGroup)}

    def __getitem__(self, name: str) -> Any:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.add_typer(load(self._entries[name]))
        return get_group(app).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
