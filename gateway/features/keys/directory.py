"""Operations of the console on keys, teams and organizations: plain functions that the admin API and pages call alike.

Each change is one transaction with its audit row, and is published before the answer if the stream server answers.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from gateway.config.checks.limits import unknown_limit_models, unknown_limit_tags
from gateway.config.derive import directory_of, limit_settings
from gateway.config.limits import LimitsConfig
from gateway.config.reserved_names import caller_prefix
from gateway.console.access import Actor
from gateway.console.admin import Admin
from gateway.console.errors import Conflict, InvalidBody, NotThere
from gateway.core.did_you_mean import did_you_mean
from gateway.core.exchange import new_id
from gateway.core.keys import KEY_PREFIX, AnyRecord, KeyRecord, OrganizationRecord, TeamRecord, record_kind
from gateway.core.time_span import InvalidDuration
from gateway.core.wildcards import is_unknown
from gateway.features.keys.scoped_rights import ScopedChange, check_kind
from gateway.features.keys.settings import (
    SETTINGS,
    NewKey,
    NewOrganization,
    NewTeam,
    Rotation,
    TeamBounds,
    bounds_left,
    checked,
    patched,
    record_of,
    settings_of,
    view_of,
    widened,
)
from gateway.features.usage import summary as usage
from gateway.features.usage.summary import UsageReport
from gateway.store.directory import (
    Action,
    AuditRow,
    DirectoryPage,
    DirectoryRow,
    Kind,
    add_audit,
    begin_change,
    count_members,
    find_row,
    key_named,
    key_with_digest,
    list_audit,
    list_rows,
    save_row,
)
from gateway.store.engine import Transaction
from gateway.store.usage import DIMENSIONS
from gateway.store.where import QueryError

Settings = Mapping[str, Any]
_MAX_SECRETS = 8
_RESERVED = ("open", "up", "evals")
"""Names of callers that gateways make themselves."""


@dataclass(frozen=True, slots=True)
class Changed:
    row: DirectoryRow
    published: bool
    """Gateways can read it now, and do so within a second; False if the stream server does not answer, and the change
    comes into force once it does."""
    secret: str | None = field(default=None, repr=False)
    """The secret of a key that was just made or rotated: shown once, stored nowhere."""

    def view(self) -> dict[str, Any]:
        secret = {} if self.secret is None else {"secret": self.secret}
        return view_of(self.row) | {"published": self.published} | secret


async def get_record(admin: Admin, kind: Kind, id: str) -> DirectoryRow:
    """The record, also if it has been deleted. Raises NotThere."""
    row = await admin.store.read(lambda c: find_row(c, kind, id))
    if row is None:
        raise _not_there(admin, kind, id)
    return row


async def read_audit(admin: Admin, before: str | None, limit: int, subject: str | None) -> list[AuditRow]:
    return await admin.store.read(lambda c: list_audit(c, before, limit, subject))


async def read_usage_report(
    admin: Admin, by: Sequence[str], since: str | None, until: str | None, filters: Mapping[str, str]
) -> UsageReport:
    """Sums usage. since, until: days such as 2026-11-01, or 7d. Raises InvalidBody for an unknown dimension or day."""
    unknown = [name for name in filters if name not in DIMENSIONS]
    if unknown:
        hint = did_you_mean(unknown[0], DIMENSIONS) or f"; expected one of {', '.join(DIMENSIONS)}"
        raise InvalidBody(f'where: usage has no dimension "{unknown[0][:50]}"{hint}')
    try:
        first, last = usage.days(since, until, datetime.fromtimestamp(admin.clock(), UTC))
        return await admin.store.read(lambda c: usage.report(c, tuple(by), first, last, dict(filters)))
    except (QueryError, InvalidDuration) as error:
        raise InvalidBody(str(error)) from None


async def create_record(admin: Admin, actor: Actor, kind: Kind, body: Settings) -> Changed:
    """Makes a key, a team or an organization. The result for a key has its secret, which cannot be read again, unless
    its callers have one already."""
    actor.require("operator" if kind == "key" else "owner", f"make {kind}s")
    check_kind(actor, kind)
    body = _in_scope(actor, kind, body)
    if kind != "key":
        model: type[NewTeam | NewOrganization] = NewTeam if kind == "team" else NewOrganization
        settings = checked(model, body)
        return await _create(admin, actor, record_of(settings.id, settings))
    key, id = checked(NewKey, body), f"key_{new_id().replace('-', '')}"
    if key.sha256 is not None:
        actor.require_everywhere("owner", "make a key from the SHA-256 of its secret")
        return await _create(admin, actor, record_of(id, key, ((key.sha256, None),)))
    secret = new_secret()
    return replace(await _create(admin, actor, record_of(id, key, ((_digest(secret), None),))), secret=secret)


def _in_scope(actor: Actor, kind: Kind, body: Settings) -> Settings:
    """The body with the team or the organization that it leaves out, where the actor has but one."""
    scope = actor.scope
    of: Kind = "team" if kind == "key" else "organization"
    return body if scope is None or scope.kind != of or body.get(of) is not None else {**body, of: scope.id}


async def change_record(admin: Admin, actor: Actor, kind: Kind, id: str, patch: Settings) -> Changed:
    """Changes the settings of a record by a JSON merge patch."""
    kill_switch = set(patch) == {"disabled"}  # all that an operator may use of a team or an organization
    actor.require("operator" if kind == "key" or kill_switch else "owner", f"change {kind}s")
    check_kind(actor, kind)

    def made(old: AnyRecord) -> AnyRecord:
        digests = old.digests if isinstance(old, KeyRecord) else ()
        return record_of(id, checked(SETTINGS[kind], patched(settings_of(old), patch)), digests)

    return await _change(admin, actor, kind, id, "change", made)


async def rotate_key(admin: Admin, actor: Actor, id: str, body: Settings) -> Changed:
    """Gives a key a new secret, which is in the result; the present ones open it until the overlap ends."""
    actor.require("operator", "rotate keys")
    overlap_s = checked(Rotation, body).overlap_s
    secret = new_secret()

    def made(old: AnyRecord) -> AnyRecord:
        assert isinstance(old, KeyRecord)  # noqa: S101 - rows of this kind hold nothing else
        now = admin.clock()
        still = [(d, min(ends or now + overlap_s, now + overlap_s)) for d, ends in old.digests]
        kept = [(digest, ends) for digest, ends in still if ends > now][: _MAX_SECRETS - 1]
        return replace(old, digests=((_digest(secret), None), *kept))

    return replace(await _change(admin, actor, "key", id, "rotate", made), secret=secret)


async def revoke_key(admin: Admin, actor: Actor, id: str, *, end_streams: bool | None) -> Changed:
    """Refuses the key permanently. end_streams: whether its answers in flight end; None: as the key says."""
    actor.require("operator", "revoke keys")

    def made(old: AnyRecord) -> AnyRecord:
        assert isinstance(old, KeyRecord)  # noqa: S101 - rows of this kind hold nothing else
        return old if end_streams is None else replace(old, end_streams=end_streams)

    return await _change(admin, actor, "key", id, "delete", made)


async def delete_record(admin: Admin, actor: Actor, kind: Kind, id: str) -> Changed:
    """Deletes a team or an organization. Raises Conflict while keys or teams belong to it."""
    actor.require("owner", f"delete {kind}s")
    check_kind(actor, kind)
    return await _change(admin, actor, kind, id, "delete", lambda old: old)


async def _create(admin: Admin, actor: Actor, record: AnyRecord) -> Changed:
    kind, whole = _kind(record), admin.whole or admin

    def creating(connection: Transaction) -> DirectoryRow:
        version, now = begin_change(connection), admin.clock()
        before = find_row(connection, kind, record.id)
        if (scoped := _scoped(whole, connection, actor)) is not None:
            scoped.check(None, record)
        if before is not None and before.deleted is None:
            raise Conflict(f'{kind} "{record.id}" exists already; PATCH changes it')
        _check_new(whole, connection, None, record)
        _check_rights(actor, None, record)
        row = DirectoryRow(record, now, now, version)
        save_row(connection, row)
        add_audit(connection, _audit(actor, "create", now, None, row))
        return row

    return await published(admin, await whole.store.run(creating))


async def _change(
    admin: Admin, actor: Actor, kind: Kind, id: str, action: Action, made: Callable[[AnyRecord], AnyRecord]
) -> Changed:
    whole = admin.whole or admin

    def changing(connection: Transaction) -> DirectoryRow:
        version, now = begin_change(connection), admin.clock()
        before = find_row(connection, kind, id)
        scoped = _scoped(whole, connection, actor)
        if before is not None and scoped is not None and not scoped.covers(before.record):
            before = None  # for them it does not exist
        if before is None or before.deleted is not None:
            raise _not_there(admin, kind, id, deleted=before is not None)
        record = made(before.record)
        if scoped is not None:
            scoped.check(before.record, record)
        if action == "delete":
            _check_members(connection, kind, id)
        else:
            _check_new(whole, connection, before.record, record)
            _check_rights(actor, before.record, record, action)
            _check_bounds_left(whole, connection, actor, (before.record, record))
        row = replace(before, record=record, updated=now, version=version, deleted=now if action == "delete" else None)
        save_row(connection, row)
        add_audit(connection, _audit(actor, action, now, before, row))
        return row

    return await published(admin, await whole.store.run(changing))


def _scoped(whole: Admin, connection: Transaction, actor: Actor) -> ScopedChange | None:
    """The checks of a change by somebody with limited rights; None if theirs have no limits."""
    return None if actor.scope is None else ScopedChange(connection, whole.config(), actor.scope)


async def published(admin: Admin, row: DirectoryRow) -> Changed:
    """A change that was stored, once gateways can read it or cannot for now."""
    return Changed(row, await admin.publisher.reached(row.version))


def _audit(actor: Actor, action: Action, now: float, before: DirectoryRow | None, after: DirectoryRow) -> AuditRow:
    kind, id = _kind(after.record), after.record.id
    old = None if before is None else view_of(before)
    return AuditRow(now, actor.name, actor.title, action, kind, id, old, view_of(after))


def _check_rights(actor: Actor, old: AnyRecord | None, new: AnyRecord, action: Action = "create") -> None:
    """Lets only an owner make a key that may use `passthrough`, read a secret of one, or let it do more: it reaches
    all that an upstream's credential reaches."""
    if not isinstance(new, KeyRecord) or "passthrough" not in new.allow:
        return
    if not isinstance(old, KeyRecord) or "passthrough" not in old.allow:
        actor.require_everywhere("owner", "allow a key `passthrough`")
    elif action == "rotate":
        actor.require_everywhere("owner", "rotate a key that may use `passthrough`")
    elif wider := widened(old, new):
        actor.require_everywhere("owner", f"widen {', '.join(wider)} of a key that may use `passthrough`")


def _check_bounds_left(
    admin: Admin, connection: Transaction, actor: Actor, change: tuple[AnyRecord, AnyRecord]
) -> None:
    """Lets only an owner take a key from a team or a person, as only owners change their bounds. change: old and new
    record."""
    old, new = change
    if not isinstance(old, KeyRecord) or not isinstance(new, KeyRecord):
        return
    person = admin.config().people.get(old.person or "")
    if old.person != new.person and person is not None and limit_settings(person.limits):
        actor.require("owner", f"take a key from the limits of the person {old.person}")
    if old.team == new.team:
        return
    left = bounds_left(_team_bounds(admin, connection, old.team), _team_bounds(admin, connection, new.team))
    if left:
        actor.require("owner", f"take a key out of {', '.join(left)}")


def _team_bounds(admin: Admin, connection: Transaction, id: str | None) -> TeamBounds:
    """Returns the bounds of the team with this id, in gateway.yaml or the store."""
    static = directory_of(admin.config())
    team = static.teams.get(id or "") or _stored(connection, "team", id)
    if not isinstance(team, TeamRecord):
        return TeamBounds()
    above = static.organizations.get(team.organization or "") or _stored(connection, "organization", team.organization)
    return TeamBounds(team, above if isinstance(above, OrganizationRecord) else None)


def _stored(connection: Transaction, kind: Kind, id: str | None) -> AnyRecord | None:
    row = None if id is None else find_row(connection, kind, id)
    return None if row is None or row.deleted is not None else row.record


def _check_new(admin: Admin, connection: Transaction, old: AnyRecord | None, new: AnyRecord) -> None:
    """Raises InvalidBody, Conflict. What has not changed is not checked again: the config may have."""
    config = admin.config()
    static = directory_of(config)
    if not isinstance(new, KeyRecord):
        known = static.teams if isinstance(new, TeamRecord) else static.organizations
        if new.id in known:
            raise Conflict(f'{record_kind(new)} "{new.id}" is in gateway.yaml; change it there, or choose another id')
    else:
        _check_key(admin, connection, old, new, static.keys)
    parents: Mapping[Kind, Mapping[str, AnyRecord]] = {"team": static.teams, "organization": static.organizations}
    for kind, of_file in parents.items():
        parent = getattr(new, kind, None)
        if parent is not None and parent != getattr(old, kind, None) and parent not in of_file:
            _check_parent(connection, kind, parent, list(of_file))
    if new.limits != getattr(old, "limits", None):
        limits = LimitsConfig.model_validate(new.limits)
        mistakes = list(unknown_limit_models("limits", limits, config.models))
        mistakes += unknown_limit_tags("limits", limits, config.tags.keys)
        if mistakes:
            raise _invalid(mistakes)
    models = getattr(new, "models", None)
    if models is not None and models != getattr(old, "models", None):
        unknown = [(i, alias) for i, alias in enumerate(models) if is_unknown(alias, config.models)]
        if unknown:
            raise _invalid([f'models[{i}]: no model "{m}"{did_you_mean(m, config.models)}' for i, m in unknown])


def _check_key(
    admin: Admin, connection: Transaction, old: AnyRecord | None, new: KeyRecord, of_file: Mapping[str, KeyRecord]
) -> None:
    if not isinstance(old, KeyRecord) or old.name != new.name:
        other = key_named(connection, new.name)
        if other is not None and other.record.id != new.id:
            raise Conflict(f'name: key {other.record.id} has the name "{new.name}" already; choose another')
        if new.name in of_file or new.name in _RESERVED:
            where = "in gateway.yaml" if new.name in of_file else "of the gateway itself"
            raise Conflict(f'name: there is a key "{new.name}" {where}; choose another name')
        if prefix := caller_prefix(new.name, admin.config().jwt):
            raise Conflict(f'name: callers with tokens have names that begin with "{prefix}"; choose another name')
    if old is None:
        _check_digest(connection, new, of_file)
    person, people = new.person, admin.config().people
    if person is not None and person != getattr(old, "person", None) and person not in people:
        raise _invalid(
            [f'person: no person "{person}"{did_you_mean(person, people) or "; add it to `people` of gateway.yaml"}']
        )
    before = old.expires if isinstance(old, KeyRecord) else None
    if new.expires is not None and new.expires != before and new.expires <= admin.clock():
        raise _invalid(["expires: this time has passed; give a later one, or `disabled: true` to refuse the key"])


def _check_digest(connection: Transaction, new: KeyRecord, of_file: Mapping[str, KeyRecord]) -> None:
    """Refuses a secret that opens another key, or has opened one: a revoked secret stays revoked."""
    for digest, _ in new.digests:
        same = [key for key in of_file.values() if any(digest == known for known, _ in key.digests)]
        if same:
            raise Conflict(f'sha256: the key "{same[0].name}" in gateway.yaml has this secret')
        other = key_with_digest(connection, digest)
        if other is not None:
            state = "has" if other.deleted is None else "had, until it was revoked,"
            raise Conflict(f"sha256: key {other.record.id} {state} this secret")


def _check_parent(connection: Transaction, kind: Kind, id: str, of_file: list[str]) -> None:
    row = find_row(connection, kind, id)
    if row is None or row.deleted is not None:
        known = [each.record.id for each in list_rows(connection, kind, DirectoryPage(limit=1000))]
        hint = did_you_mean(id, [*known, *of_file]) or f"; make it first: POST /admin/v1/{kind}s"
        raise _invalid([f'{kind}: no {kind} "{id}"{hint}'])


def _check_members(connection: Transaction, kind: Kind, id: str) -> None:
    if kind == "key":
        return
    members = count_members(connection, kind, id)
    if members:
        of = "keys" if kind == "team" else "teams"
        raise Conflict(f'{kind} "{id}" has {members} {of} in force; delete or move them first, or set `disabled: true`')


def _invalid(mistakes: list[str]) -> InvalidBody:
    return InvalidBody(mistakes[0] if len(mistakes) == 1 else f"{len(mistakes)} mistakes", mistakes)


def _not_there(admin: Admin, kind: Kind, id: str, *, deleted: bool = False) -> NotThere | Conflict:
    if deleted:
        return NotThere(f'{kind} "{id[:200]}" has been deleted')
    static = directory_of(admin.config())
    of_file: Mapping[str, AnyRecord] = getattr(static, f"{kind}s")
    if id in of_file:
        return Conflict(f'{kind} "{id}" is in gateway.yaml, which the admin API does not change')
    return NotThere(f'there is no {kind} "{id[:200]}"')


def _kind(record: AnyRecord) -> Kind:
    kind: Kind = record_kind(record)  # type: ignore[assignment]
    return kind


def new_secret() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(32)


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
