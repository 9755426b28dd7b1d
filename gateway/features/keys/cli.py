"""`gateway keys`, `teams` and `organizations`: what the console manages, changed while the gateways run.

The verbs call the admin API, as every other client does: roles and audit hold for them, too. The verbs of the three
kinds are rows of KINDS; which settings a kind has is declared once, by its options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.options import AsJson, Data, StoreOptions, example, grouped, note, show

if TYPE_CHECKING:
    from gateway.console.client import AdminClient

verbs = typer.Typer()
Verb = Callable[..., None]

Limits = Annotated[
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
Key = Annotated[str, typer.Argument(metavar="key", help="The key's id or name.")]
KeyName = Annotated[str, typer.Argument(metavar="name", help="The caller's name in logs, records and metrics.")]
Id = Annotated[str, typer.Argument(metavar="id", help="Its id: letters, digits, `.`, `_` and `-`.")]
All = Annotated[bool, typer.Option("--all", help="List what was deleted, too.")]


@dataclass(frozen=True, slots=True)
class Output:
    """The form of the result, and the data directory with the console's token."""

    as_json: AsJson = False
    data: Data = None


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """The settings of a key, named as the admin API names them."""

    team: Annotated[str | None, typer.Option(help="The team whose limits it shares.")] = None
    person: Annotated[
        str | None, typer.Option(help="The person, in `people` of gateway.yaml, whose limits it shares.")
    ] = None
    limits: Limits = None
    models: Models = None
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="sample, target or passthrough; may be repeated (default: none)."),
    ] = None
    tags: Tags = None
    content: Annotated[str | None, typer.Option(help="Recorded content of its calls: full, redacted or metadata.")] = (
        None
    )
    expires: Annotated[
        str | None, typer.Option(help="When it expires, such as 2027-01-01T00:00:00Z (default: never).")
    ] = None
    networks: Networks = None
    paths: Annotated[
        list[str] | None,
        typer.Option("--path", help="With passthrough: a path it may use, such as '/v1/files*'; may be repeated."),
    ] = None
    class_: Annotated[
        str | None,
        typer.Option("--class", help="Class of traffic, served in this order: interactive, normal or batch."),
    ] = None


@dataclass(frozen=True, slots=True)
class TeamOptions:
    organization: Annotated[str | None, typer.Option(help="The organization whose limits it shares.")] = None
    limits: Limits = None
    models: Models = None
    tags: Tags = None
    networks: Networks = None


@dataclass(frozen=True, slots=True)
class OrganizationOptions:
    limits: Limits = None


@dataclass(frozen=True, slots=True)
class NewName:
    name: Annotated[str | None, typer.Option(help="A new name.")] = None


@dataclass(frozen=True, slots=True)
class EndStreams:
    end_streams: Annotated[bool, typer.Option("--end-streams", help="End its answers in flight, too.")] = False


@dataclass(frozen=True, slots=True)
class RotationOptions:
    overlap: Annotated[int, typer.Option(min=0, help="Seconds for which the present secret opens the key, too.")] = (
        86_400
    )


@dataclass(frozen=True, slots=True)
class NoOptions:
    pass


@dataclass(frozen=True, slots=True)
class ListedKeys:
    team: Annotated[str | None, typer.Option(help="Only keys of this team.")] = None
    person: Annotated[str | None, typer.Option(help="Only keys of this person.")] = None
    deleted: Annotated[bool, typer.Option("--all", help="List revoked keys, too.")] = False


@dataclass(frozen=True, slots=True)
class ListedTeams:
    organization: Annotated[str | None, typer.Option(help="Only teams of this organization.")] = None
    deleted: All = False


@dataclass(frozen=True, slots=True)
class ListedOrganizations:
    deleted: All = False


@dataclass(frozen=True, slots=True)
class ManagedKind:
    """Keys, teams or organizations, as their verbs need them."""

    name: str
    """The name in paths of the admin API, without the plural's s."""
    about: str
    example: str
    subject: Any
    """The type of the argument of verbs on an existing one."""
    created: Any
    """The type of the argument of `create`."""
    named_by: str
    """The setting that the argument of `create` gives."""
    settings: type[Any]
    """The options of `create` and `change`."""
    renaming: type[Any]
    """Type of the options that only `change` has."""
    refusing: type[Any]
    """The options of `disable` and of the verb that deletes."""
    listed: type[Any]
    """The options of `list`: query parameters of the admin API."""
    columns: tuple[str, ...]
    """The columns of `list`, before the state."""
    verbs: Mapping[str, tuple[str, str]]
    """The help and the example of each verb."""

    def path(self, client: AdminClient, subject: str, *more: str) -> str:
        id = client.key_id(subject) if self.name == "key" else subject
        return "/".join((f"/{self.name}s", quote(id, safe=""), *more))

    def label(self, found: Mapping[str, Any]) -> str:
        return f"key {found['name']} ({found['id']})" if self.name == "key" else f"{self.name} {found['id']}"


_CHANGE = "Change the given settings, and leave all others as they are."
KEY = ManagedKind(
    name="key",
    about="Make, list, change and revoke API keys, without a reload.",
    example="gateway keys create web --team search --limit usd_per_month=50",
    subject=Key,
    created=KeyName,
    named_by="name",
    settings=KeyOptions,
    renaming=NewName,
    refusing=EndStreams,
    listed=ListedKeys,
    columns=("name", "id", "team", "person", "limits", "models", "expires"),
    verbs={
        "create": (
            "Make a key and print its secret, which cannot be shown again.",
            "gateway keys create web --team search --limit requests_per_minute=60",
        ),
        "list": (
            "List the keys that the console manages; those of gateway.yaml are listed by `gateway check`.",
            "gateway keys list --team search",
        ),
        "show": (
            "Show one key: its settings, and when its secrets end. The secrets themselves are stored nowhere.",
            "gateway keys show web",
        ),
        "change": (_CHANGE, "gateway keys change web --limit usd_per_month=100 --limit concurrency="),
        "rotate": (
            "Give a key a new secret and print it; it cannot be shown again.",
            "gateway keys rotate web --overlap 3600",
        ),
        "disable": ("Refuse a key until it is enabled again.", "gateway keys disable web --end-streams"),
        "enable": ("Accept a disabled key again.", "gateway keys enable web"),
        "revoke": (
            "Refuse a key permanently. Its name is free again; its usage stays.",
            "gateway keys revoke web --end-streams",
        ),
    },
)


def _group_verbs(group: str, members: str, example: str) -> dict[str, tuple[str, str]]:
    """The verbs of groups of keys. group: such as "a team". example: with {} for the verb."""
    kind = group.partition(" ")[2]
    of_file = "those of gateway.yaml are listed by `gateway check`"
    return {
        "create": (f"Make {group}.", example.format("create") + " --limit usd_per_month=500"),
        "list": (f"List the {kind}s that the console manages; {of_file}.", f"gateway {kind}s list"),
        "show": (f"Show {group}.", example.format("show")),
        "change": (_CHANGE, example.format("change") + " --limit usd_per_month=800"),
        "disable": ("Refuse all calls of its keys until it is enabled again.", example.format("disable")),
        "enable": ("Accept the calls of its keys again.", example.format("enable")),
        "delete": (f"Delete {group} without {members}.", example.format("delete")),
    }


TEAM = ManagedKind(
    name="team",
    about="Make, list, change and delete teams, which share limits.",
    example="gateway teams create search --limit usd_per_month=500 --model chat",
    subject=Id,
    created=Id,
    named_by="id",
    settings=TeamOptions,
    renaming=NoOptions,
    refusing=NoOptions,
    listed=ListedTeams,
    columns=("id", "organization", "limits", "models", "tags"),
    verbs=_group_verbs("a team", "keys", "gateway teams {} search"),
)
ORGANIZATION = replace(
    TEAM,
    name="organization",
    about="Make, list, change and delete organizations, whose teams share limits.",
    example="gateway organizations create acme --limit usd_per_month=5000",
    settings=OrganizationOptions,
    listed=ListedOrganizations,
    columns=("id", "limits"),
    verbs=_group_verbs("an organization", "teams", "gateway organizations {} acme"),
)


def _create(kind: ManagedKind) -> Verb:
    def create(subject: Any, settings: Any, output: Output) -> None:
        body = {kind.named_by: subject} | settings_of(settings)
        found = admin_client(output.data).call("POST", f"/{kind.name}s", body)
        if "secret" not in found:
            show_changed(found, f"made {kind.label(found)}", as_json=output.as_json)
            return
        if not output.as_json:
            note(f"{kind.label(found)}; its secret is shown only now:")
        show_changed(found, found["secret"], as_json=output.as_json)

    return typed(create, subject=kind.created, settings=kind.settings)


def _list(kind: ManagedKind) -> Verb:
    def list_(listed: Any, output: Output) -> None:
        query = {name: value for name, value in values_of(listed).items() if value}
        rows = list(admin_client(output.data).all_of(f"/{kind.name}s", query))
        if output.as_json:
            show_json(rows)
            return
        cells = ([worded(row[name]) for name in kind.columns] + [state_of(row)] for row in rows)
        show_table((*kind.columns, "state"), cells)

    return typed(list_, listed=kind.listed)


def _show(kind: ManagedKind) -> Verb:
    def show_(subject: Any, output: Output) -> None:
        client = admin_client(output.data)
        found = client.call("GET", kind.path(client, subject))
        if output.as_json:
            show_json(found)
        else:
            given = [(name, worded(value)) for name, value in found.items() if value not in (None, [], {}, False)]
            show_table(("", ""), given)

    return typed(show_, subject=kind.subject)


def _change(kind: ManagedKind) -> Verb:
    def change(subject: Any, renaming: Any, settings: Any, output: Output) -> None:
        _patch(kind, subject, settings_of(renaming) | settings_of(settings), "changed", output)

    return typed(change, subject=kind.subject, renaming=kind.renaming, settings=kind.settings)


def _disable(kind: ManagedKind) -> Verb:
    def disable(subject: Any, refusing: Any, output: Output) -> None:
        given = {name: True for name, value in values_of(refusing).items() if value}
        _patch(kind, subject, {"disabled": True} | given, "disabled", output)

    return typed(disable, subject=kind.subject, refusing=kind.refusing)


def _enable(kind: ManagedKind) -> Verb:
    def enable(subject: Any, output: Output) -> None:
        _patch(kind, subject, {"disabled": False}, "enabled", output)

    return typed(enable, subject=kind.subject)


def _delete(kind: ManagedKind) -> Verb:
    """Makes the verb `delete`, or `revoke` for keys."""

    def delete(subject: Any, refusing: Any, output: Output) -> None:
        client = admin_client(output.data)
        query = {name: True for name, value in values_of(refusing).items() if value}
        found = client.call("DELETE", kind.path(client, subject), query=query)
        done = "revoked" if kind.name == "key" else "deleted"
        show_changed(found, f"{done} {kind.label(found)}", as_json=output.as_json)

    return typed(delete, subject=kind.subject, refusing=kind.refusing)


def _rotate(kind: ManagedKind) -> Verb:
    def rotate(subject: Any, rotation: RotationOptions, output: Output) -> None:
        client = admin_client(output.data)
        found = client.call("POST", kind.path(client, subject, "rotate"), {"overlap_s": rotation.overlap})
        if not output.as_json:
            note(
                f"{kind.label(found)}; its new secret is shown only now; the others expire after {rotation.overlap} s:"
            )
        show_changed(found, found["secret"], as_json=output.as_json)

    return typed(rotate, subject=kind.subject)


def _patch(kind: ManagedKind, subject: str, patch: Mapping[str, Any], done: str, output: Output) -> None:
    client = admin_client(output.data)
    found = client.call("PATCH", kind.path(client, subject), patch)
    show_changed(found, f"{done} {kind.label(found)}", as_json=output.as_json)


def values_of(options: Any) -> dict[str, Any]:
    """The options that were given, by name."""
    values = {field.name.removesuffix("_"): getattr(options, field.name) for field in fields(options)}
    return {name: value for name, value in values.items() if value is not None}


def settings_of(options: Any) -> dict[str, Any]:
    """Options as a body of the admin API, which has only the settings that were given."""
    values = values_of(options)
    return values | ({"limits": limits_of_options(values["limits"])} if values.get("limits") else {})


def typed(verb: Verb, **types: Any) -> Verb:
    """The verb with these types of its parameters, from which its options are made."""
    verb.__annotations__.update(types)
    return verb


def admin_client(data: Path | None) -> AdminClient:
    """Raises CannotRun without a token."""
    from gateway.config.environment import admin_access, data_directory
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
            raise typer.BadParameter(f'"{each}" is not a limit; write usd_per_month=50', param_hint="--limit")
        found[name] = _number(value) if value else None
    return found


def _number(text: str) -> int | float | str:
    """The value as a number, or the text itself, such as a time zone's name; the console reports what it expects."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


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
    from gateway.reports.terminal import plain_table, safe_text

    drawn = plain_table(columns, unbroken=columns[:1])
    for row in rows:
        drawn.add_row(*map(safe_text, row))
    show(drawn)


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


_VERBS: Mapping[str, Callable[[ManagedKind], Verb]] = {
    "create": _create,
    "list": _list,
    "show": _show,
    "change": _change,
    "rotate": _rotate,
    "disable": _disable,
    "enable": _enable,
    "delete": _delete,
    "revoke": _delete,
}


IfReachable = Annotated[
    bool,
    typer.Option("--if-reachable", help="Exit with 0 also if the store cannot be read, so that a pod starts."),
]


def snapshot(store: StoreOptions, if_reachable: IfReachable = False) -> None:
    """Write the keys of the store to the data directory: a gateway that starts without the stream server reads them.

    Once the stream server answers, the gateway reads the keys from there, and keeps the file up to date itself.
    """
    from gateway.config.environment import data_directory
    from gateway.core.errors import CannotRun
    from gateway.features.keys.directory_file import write_directory_file

    try:
        written = write_directory_file(store.location().store, data_directory(store.data))
    except CannotRun as error:
        if not if_reachable:
            raise
        note(f"no snapshot of the keys was written: {error}")
        return
    note(f"{written.records} records of version {written.version} in {written.path}")


def mine(
    rotate: Annotated[bool, typer.Option("--rotate", help="Replace the secret with a new one, and print it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what your own key has used and what is left of its limits; no admin token is needed.

    The secret of the key is read from $GATEWAY_KEY, and the console's address from $GATEWAY_ADMIN_URL.
    """
    from gateway.config.environment import own_key_access
    from gateway.console.client import AdminClient
    from gateway.core.errors import CannotRun

    url, secret = own_key_access()
    if not secret:
        raise CannotRun("no key: set GATEWAY_KEY to the secret of your key, and GATEWAY_ADMIN_URL to the console's URL")
    client = AdminClient(url, secret, "/me/v1")
    if not rotate:
        _show_own(client.call("GET", "/key"), as_json=as_json)
        return
    found = client.call("POST", "/key/rotate")
    if not as_json:
        note(f"key {found['name']}: its new secret is shown only now; the other ends {found['earlier_secret_ends']}:")
    show_changed(found, found["secret"], as_json=as_json)


def _show_own(found: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    ends = f"; this secret ends {found['secret_ends']}" if found["secret_ends"] else ""
    typer.echo(f"key {found['name']}, team {found['team'] or 'none'}{ends}")
    if not found["limits_known"]:
        note("the stream server does not answer, so the remaining amounts of limits are unknown")
    limits = [
        (each["scope"], each["limit"], f"{each['used']:g}", f"{each['remaining']:g}", each["reset"] or "")
        for each in found["limits"]
    ]
    if limits:
        show_table(("scope", "limit", "used", "remaining", "reset"), limits)
    rows = found["usage"]["rows"]
    used = [(row["day"], row["alias"], str(row["calls"]), _tokens(row), _usd(row["usd"])) for row in rows]
    show_table(("day", "model", "calls", "tokens", "USD"), used)


def _tokens(row: Mapping[str, Any]) -> str:
    return str(row["input_tokens"] + row["output_tokens"])


def _usd(usd: float | None) -> str:
    return "unknown" if usd is None else f"{usd:.4f}"


def _add(kind: ManagedKind) -> None:
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    for name, (about, line) in kind.verbs.items():
        app.command(name, help=about, epilog=example(line))(grouped(_VERBS[name](kind)))
    if kind is KEY:
        app.command(epilog=example("gateway keys snapshot --config gateway.yaml --data /data"))(grouped(snapshot))
        app.command(epilog=example("gateway keys mine"))(mine)
    verbs.add_typer(app, name=f"{kind.name}s", help=kind.about, epilog=example(kind.example))


for _kind in (KEY, TEAM, ORGANIZATION):
    _add(_kind)
