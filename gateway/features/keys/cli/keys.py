"""`gateway keys`: API keys that are made, changed and revoked while the gateways run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.options import AsJson, Data, example, note
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
keys = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
verbs.add_typer(
    keys,
    name="keys",
    help="Make, list, change and revoke API keys through the console, without a reload.",
    epilog=example("gateway keys create web --team search --limit usd_per_month=50"),
)

Key = Annotated[str, typer.Argument(help="The key's id or name.")]
Team = Annotated[str | None, typer.Option(help="The team whose limits it shares.")]
Allow = Annotated[
    list[str] | None, typer.Option("--allow", help="sample, target or passthrough; may be repeated (default: none).")
]
Content = Annotated[str | None, typer.Option(help="What of its calls is recorded: full, redacted or metadata.")]
Expires = Annotated[str | None, typer.Option(help="When it expires, such as 2027-01-01T00:00:00Z (default: never).")]
EndStreams = Annotated[bool, typer.Option("--end-streams", help="End its answers in flight, too.")]


@keys.command(epilog=example("gateway keys create web --team search --limit requests_per_minute=60"))
def create(
    name: Annotated[str, typer.Argument(help="The caller's name in logs, records and metrics.")],
    team: Team = None,
    limit: LimitOptions = None,
    model: Models = None,
    allow: Allow = None,
    tag: Tags = None,
    content: Content = None,
    expires: Expires = None,
    network: Networks = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Make a key and print its secret, which cannot be shown again."""
    body = {"name": name, "limits": limits_of_options(limit)} | given(
        team=team, models=model, allow=allow, tags=tag, content=content, expires=expires, networks=network
    )
    found = admin_client(data).call("POST", "/keys", body)
    if not as_json:
        note(f"key {found['name']} ({found['id']}); its secret is shown only now:")
    show_changed(found, found["secret"], as_json=as_json)


@keys.command("list", epilog=example("gateway keys list --team search"))
def list_(
    team: Annotated[str | None, typer.Option(help="Only keys of this team.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="List revoked keys, too.")] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """List the keys that the console manages; those of gateway.yaml are listed by `gateway check`."""
    rows = list(admin_client(data).all_of("/keys", given(team=team, deleted=everything or None)))
    if as_json:
        show_json(rows)
        return
    columns = ("name", "id", "team", "limits", "models", "expires", "state")
    show_table(columns, ([worded(r[name]) for name in columns[:-1]] + [state_of(r)] for r in rows))


@keys.command(epilog=example("gateway keys show web"))
def show(key: Key, as_json: AsJson = False, data: Data = None) -> None:
    """Show one key: its settings, and when its secrets end. The secrets themselves are stored nowhere."""
    client = admin_client(data)
    found = client.call("GET", _path(client.key_id(key)))
    show_json(found) if as_json else show_record(found)


@keys.command(epilog=example("gateway keys change web --limit usd_per_month=100 --limit concurrency="))
def change(
    key: Key,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    team: Team = None,
    limit: LimitOptions = None,
    model: Models = None,
    allow: Allow = None,
    tag: Tags = None,
    content: Content = None,
    expires: Expires = None,
    network: Networks = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Change what is given, and leave everything else as it is."""
    patch = given(
        name=name, team=team, models=model, allow=allow, tags=tag, content=content, expires=expires, networks=network
    )
    limits = limits_of_options(limit)
    _patch(key, patch | ({"limits": limits} if limits else {}), "changed", as_json, data)


@keys.command(epilog=example("gateway keys rotate web --overlap 3600"))
def rotate(
    key: Key,
    overlap: Annotated[
        int, typer.Option(min=0, help="Seconds for which the present secret opens the key, too.")
    ] = 86_400,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Give a key a new secret and print it; it cannot be shown again."""
    client = admin_client(data)
    found = client.call("POST", _path(client.key_id(key), "rotate"), {"overlap_s": overlap})
    if not as_json:
        note(
            f"key {found['name']} ({found['id']}); its new secret is shown only now, the others end after {overlap} s:"
        )
    show_changed(found, found["secret"], as_json=as_json)


@keys.command(epilog=example("gateway keys disable web --end-streams"))
def disable(key: Key, end_streams: EndStreams = False, as_json: AsJson = False, data: Data = None) -> None:
    """Refuse a key until it is enabled again."""
    _patch(key, {"disabled": True} | ({"end_streams": True} if end_streams else {}), "disabled", as_json, data)


@keys.command(epilog=example("gateway keys enable web"))
def enable(key: Key, as_json: AsJson = False, data: Data = None) -> None:
    """Accept a disabled key again."""
    _patch(key, {"disabled": False}, "enabled", as_json, data)


@keys.command(epilog=example("gateway keys revoke web --end-streams"))
def revoke(key: Key, end_streams: EndStreams = False, as_json: AsJson = False, data: Data = None) -> None:
    """Refuse a key for good. Its name is free again; its usage stays."""
    client = admin_client(data)
    query = {"end_streams": True} if end_streams else {}
    found = client.call("DELETE", _path(client.key_id(key)), query=query)
    show_changed(found, f"revoked key {found['name']} ({found['id']})", as_json=as_json)


def _patch(key: str, patch: dict[str, Any], done: str, as_json: bool, data: Any) -> None:
    client = admin_client(data)
    found = client.call("PATCH", _path(client.key_id(key)), patch)
    show_changed(found, f"{done} key {found['name']} ({found['id']})", as_json=as_json)


def _path(id: str, *more: str) -> str:
    from gateway.console.client import path_of

    return path_of("key", id, *more)
