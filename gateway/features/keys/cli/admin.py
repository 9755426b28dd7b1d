"""What the verbs that change keys, teams and organizations share. They call the admin API, as every other client does:
roles and audit hold for them, too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.options import note, show

if TYPE_CHECKING:
    from gateway.console.client import AdminClient

LimitOptions = Annotated[
    list[str] | None,
    typer.Option("--limit", help="A limit, such as usd_per_month=50; `NAME=` removes one. May be repeated."),
]
Models = Annotated[
    list[str] | None, typer.Option("--model", help="A model it may use; may be repeated (default: all).")
]
Networks = Annotated[
    list[str] | None,
    typer.Option("--network", help="A network from which it may be used, such as 10.0.0.0/8; may be repeated."),
]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A label of its usage; may be repeated.")]


def admin_client(data: Path | None) -> AdminClient:
    """Raises CannotRun without a token."""
    from gateway.config.environment import admin_access
    from gateway.config.loading import data_directory
    from gateway.console.client import AdminClient
    from gateway.core.errors import CannotRun

    url, token = admin_access(data_directory(data))
    if not token:
        raise CannotRun(
            "no admin token: set GATEWAY_ADMIN_TOKEN, and GATEWAY_ADMIN_URL if the console is not at "
            f"{url}; on the machine of `gateway up`, give its data directory with --data"
        )
    return AdminClient(url, token)


def limits_of_options(given: Iterable[str] | None) -> dict[str, Any]:
    """`usd_per_month=50` → {"usd_per_month": 50}; `usd_per_month=` → null, which removes it."""
    found: dict[str, Any] = {}
    for each in given or ():
        name, separator, value = each.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f'"{each}" is no limit; write usd_per_month=50', param_hint="--limit")
        found[name] = _number(value) if value else None
    return found


def _number(text: str) -> int | float | str:
    """Also a text, such as a time zone's name; the console says what it expects."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def given(**values: Any) -> dict[str, Any]:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def show_json(value: Any) -> None:
    from gateway.core.sanitize import to_json

    show(to_json(value))


def show_changed(found: Mapping[str, Any], what: str, *, as_json: bool) -> None:
    """Prints the result of a change, and notes if gateways cannot see it yet."""
    if not found.get("published", True):
        note("the stream server does not answer: the change is stored and comes into force once it does")
    if as_json:
        show_json(found)
    else:
        typer.echo(what)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from gateway.core.sanitize import plain

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(columns):
        drawn.add_column(name, no_wrap=i == 0)
    for row in rows:
        drawn.add_row(*(Text(plain(cell)) for cell in row))
    show(drawn)


def show_record(found: Mapping[str, Any]) -> None:
    """One line for each value that is set."""
    show_table(("", ""), [(name, worded(value)) for name, value in found.items() if value not in (None, [], {}, False)])


def worded(value: Any) -> str:
    """A value of a record, for people."""
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {each:g}" if isinstance(each, float) else f"{name} {each}" for name, each in value.items()
        )
    if isinstance(value, list):
        return ", ".join(worded(each) for each in value)
    return "yes" if value is True else "" if value in (None, False) else str(value)


def state_of(record: Mapping[str, Any]) -> str:
    if record["deleted"]:
        return "deleted"
    return "disabled" if record["disabled"] else "in force"
