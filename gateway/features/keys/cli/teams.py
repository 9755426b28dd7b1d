"""`gateway teams` and `gateway organizations`: the scopes whose limits keys share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.options import AsJson, Data, example
from gateway.features.keys.cli.admin import (
    LimitOptions,
    Models,
    Networks,
    Tags,
    admin_client,
    given,
    limits_of_options,
    show_changed,
    show_json,
    show_record,
    show_table,
    state_of,
    worded,
)

verbs = typer.Typer()
teams = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
organizations = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
verbs.add_typer(
    teams,
    name="teams",
    help="Make, list, change and delete teams, whose keys share limits and models.",
    epilog=example("gateway teams create search --limit usd_per_month=500 --model chat"),
)
verbs.add_typer(
    organizations,
    name="organizations",
    help="Make, list, change and delete organizations, whose teams share limits.",
    epilog=example("gateway organizations create acme --limit usd_per_month=5000"),
)

Id = Annotated[str, typer.Argument(help="Its id: letters, digits, `.`, `_` and `-`.")]
All = Annotated[bool, typer.Option("--all", help="List what was deleted, too.")]
Organization = Annotated[str | None, typer.Option(help="The organization whose limits it shares.")]


@teams.command("create", epilog=example("gateway teams create search --organization acme --limit usd_per_month=500"))
def create_team(
    id: Id,
    organization: Organization = None,
    limit: LimitOptions = None,
    model: Models = None,
    tag: Tags = None,
    network: Networks = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Make a team."""
    body = {"id": id, "limits": limits_of_options(limit)} | given(
        organization=organization, models=model, tags=tag, networks=network
    )
    _create("team", body, as_json, data)


@teams.command("list", epilog=example("gateway teams list"))
def list_teams(
    organization: Annotated[str | None, typer.Option(help="Only teams of this organization.")] = None,
    everything: All = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """List the teams that the console manages; those of gateway.yaml are listed by `gateway check`."""
    query = given(organization=organization, deleted=everything or None)
    _list("team", ("id", "organization", "limits", "models", "tags"), query, as_json, data)


@teams.command("show", epilog=example("gateway teams show search"))
def show_team(id: Id, as_json: AsJson = False, data: Data = None) -> None:
    """Show one team."""
    _show("team", id, as_json, data)


@teams.command("change", epilog=example("gateway teams change search --limit usd_per_month=800"))
def change_team(
    id: Id,
    organization: Organization = None,
    limit: LimitOptions = None,
    model: Models = None,
    tag: Tags = None,
    network: Networks = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Change what is given, and leave everything else as it is."""
    limits = limits_of_options(limit)
    patch = given(organization=organization, models=model, tags=tag, networks=network, limits=limits or None)
    _patch("team", id, patch, "changed", as_json, data)


@teams.command("disable", epilog=example("gateway teams disable search"))
def disable_team(id: Id, as_json: AsJson = False, data: Data = None) -> None:
    """Refuse all calls of its keys until it is enabled again."""
    _patch("team", id, {"disabled": True}, "disabled", as_json, data)


@teams.command("enable", epilog=example("gateway teams enable search"))
def enable_team(id: Id, as_json: AsJson = False, data: Data = None) -> None:
    """Accept the calls of its keys again."""
    _patch("team", id, {"disabled": False}, "enabled", as_json, data)


@teams.command("delete", epilog=example("gateway teams delete search"))
def delete_team(id: Id, as_json: AsJson = False, data: Data = None) -> None:
    """Delete a team without keys."""
    _delete("team", id, as_json, data)


@organizations.command("create", epilog=example("gateway organizations create acme --limit usd_per_month=5000"))
def create_organization(id: Id, limit: LimitOptions = None, as_json: AsJson = False, data: Data = None) -> None:
    """Make an organization."""
    _create("organization", {"id": id, "limits": limits_of_options(limit)}, as_json, data)


@organizations.command("list", epilog=example("gateway organizations list"))
def list_organizations(everything: All = False, as_json: AsJson = False, data: Data = None) -> None:
    """List the organizations that the console manages."""
    _list("organization", ("id", "limits"), given(deleted=everything or None), as_json, data)


@organizations.command("show", epilog=example("gateway organizations show acme"))
def show_organization(id: Id, as_json: AsJson = False, data: Data = None) -> None:
    """Show one organization."""
    _show("organization", id, as_json, data)


@organizations.command("change", epilog=example("gateway organizations change acme --limit usd_per_month=9000"))
def change_organization(id: Id, limit: LimitOptions = None, as_json: AsJson = False, data: Data = None) -> None:
    """Change limits, and leave everything else as it is."""
    _patch("organization", id, given(limits=limits_of_options(limit) or None), "changed", as_json, data)


@organizations.command("disable", epilog=example("gateway organizations disable acme"))
def disable_organization(id: Id, as_json: AsJson = False, data: Data = None) -> None:
    """Refuse all calls of its keys until it is enabled again."""
    _patch("organization", id, {"disabled": True}, "disabled", as_json, data)


@organizations.command("enable", epilog=example("gateway organizations enable acme"))
def enable_organization(id: Id, as_json: AsJson = False, data: Data = None) -> None:
    """Accept the calls of its keys again."""
    _patch("organization", id, {"disabled": False}, "enabled", as_json, data)


@organizations.command("delete", epilog=example("gateway organizations delete acme"))
def delete_organization(id: Id, as_json: AsJson = False, data: Data = None) -> None:
    """Delete an organization without teams."""
    _delete("organization", id, as_json, data)


def _create(kind: str, body: dict[str, Any], as_json: bool, data: Path | None) -> None:
    found = admin_client(data).call("POST", f"/{kind}s", body)
    show_changed(found, f"made {kind} {found['id']}", as_json=as_json)


def _list(kind: str, columns: tuple[str, ...], query: dict[str, Any], as_json: bool, data: Path | None) -> None:
    rows = list(admin_client(data).all_of(f"/{kind}s", query))
    if as_json:
        show_json(rows)
    else:
        show_table((*columns, "state"), ([worded(row[name]) for name in columns] + [state_of(row)] for row in rows))


def _show(kind: str, id: str, as_json: bool, data: Path | None) -> None:
    found = admin_client(data).call("GET", _path(kind, id))
    show_json(found) if as_json else show_record(found)


def _patch(kind: str, id: str, patch: dict[str, Any], done: str, as_json: bool, data: Path | None) -> None:
    found = admin_client(data).call("PATCH", _path(kind, id), patch)
    show_changed(found, f"{done} {kind} {id}", as_json=as_json)


def _delete(kind: str, id: str, as_json: bool, data: Path | None) -> None:
    found = admin_client(data).call("DELETE", _path(kind, id))
    show_changed(found, f"deleted {kind} {id}", as_json=as_json)


def _path(kind: str, id: str) -> str:
    from gateway.console.client import path_of

    return path_of(kind, id)
