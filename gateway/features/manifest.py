"""Additions of a feature to the programs. Each feature's `__init__.py` declares them, and the shells read them.

Code is named by entries, "module:name", and imported when a shell uses it: `gateway serve` imports no feature, and
`gateway --help` only the modules of the verbs that it lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol, TypeVar

from gateway.core.extras import Extra

HelpGroup = Literal["Run", "Look", "Decide", "People and money"]


@dataclass(frozen=True, slots=True)
class Verb:
    """A command below `gateway`."""

    name: str
    entry: str
    """The Typer application that has the command."""
    place: int
    """Verbs of a group are listed by this number."""
    group: HelpGroup
    on_first_screen: bool = False
    """Whether `gateway` alone lists it; `gateway help all` lists every verb."""


@dataclass(frozen=True, slots=True)
class JsonOutput:
    """The form of what a verb prints with `--json`; `gateway schema --output VERB` prints it as a JSON Schema."""

    verb: str
    """Words of the verb, as in "ab status"."""
    entry: str = ""
    """A dataclass or a typed dictionary, or a function without arguments that returns a schema; "": see `admin`."""
    admin: str = ""
    """The name of a schema in the description of the admin API, whose answer it prints."""
    listed: bool = False
    """Whether it prints a list of these."""
    when: str = ""
    """The options with which it has this form, for readers; "" if it has no other."""


@dataclass(frozen=True, slots=True)
class ConsolePage:
    """A page of the console, or several below one title of the navigation."""

    entry: str
    """A console.frame.Page."""
    place: int
    """Titles of a group are listed by this number in the navigation."""
    group: HelpGroup = "Look"
    """The group of the navigation; none is in `Run`."""


@dataclass(frozen=True, slots=True)
class AdminPaths:
    """Operations of the admin API."""

    entry: str
    """A console.api.AdminOperations."""
    place: int
    """The description of the API lists them by this number."""


@dataclass(frozen=True, slots=True)
class ConsumerTask:
    """Work that every consumer does next to scoring, as long as it runs."""

    name: str
    """Name of the task in logs."""
    entry: str
    """A features.task.TaskMaker."""


@dataclass(frozen=True, slots=True)
class ConfigFindings:
    """Findings of a feature on a config, for `gateway check`."""

    refusals: tuple[str, ...] = ()
    """Mistakes: the check fails."""
    cautions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigCheck:
    """A check of `gateway check`, imported only for a config that it has something to say about."""

    entry: str
    """A function (Config, BuiltScorers, URL of the store) → ConfigFindings."""
    section: str = ""
    """The section of gateway.yaml that it checks; "" if it looks at more than one."""
    reads_store: bool = False
    """Whether all that it finds comes from the store."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One feature, as the shells see it."""

    name: str
    """The name of its folder."""
    verbs: tuple[Verb, ...] = ()
    outputs: tuple[JsonOutput, ...] = ()
    """One or several for each verb that has `--json`."""
    pages: tuple[ConsolePage, ...] = ()
    operations: tuple[AdminPaths, ...] = ()
    tasks: tuple[ConsumerTask, ...] = ()
    hooks: str = ""
    """Entry of a features.hooks.HookMaker: its part in a consumer's turns; "" if it has none."""
    after_step: tuple[str, ...] = ()
    """Entries of functions (TaskContext) → features.task.AfterStep: called after each step of the experiments."""
    notices: tuple[str, ...] = ()
    """Entries of functions that make a features.task.NoticeSource: the notices for people."""
    check: ConfigCheck | None = None
    extras: tuple[Extra, ...] = ()
    templates: bool = False
    """Whether it has a folder `templates` for its pages and reports."""


class Placed(Protocol):
    """An addition with a number that orders it among the additions of all features."""

    @property
    def place(self) -> int: ...


P = TypeVar("P", bound=Placed)


def in_order(additions: Iterable[P]) -> tuple[P, ...]:
    return tuple(sorted(additions, key=lambda addition: addition.place))


def load(entry: str) -> Any:
    """The object that an entry names."""
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)
