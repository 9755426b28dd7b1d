"""A key's own view: what it has used and what is left, and a new secret; for the holder of its secret.

No role is involved: the secret opens its own key, and nothing else of the console. A secret is looked up by digest.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from gateway.config.admin import SelfService
from gateway.config.config import Config
from gateway.config.derive import directory_of
from gateway.config.reserved_names import KEY_ACTOR
from gateway.console.admin import Admin
from gateway.console.errors import Conflict, NoToken, NotPermitted, NotThere
from gateway.core.errors import StreamDown
from gateway.core.keys import AnyRecord, Directory, KeyRecord, OrganizationRecord, TeamRecord, scopes_of
from gateway.core.limits import LimitScope
from gateway.core.networks import networks, within
from gateway.features.keys.directory import Changed, new_secret, published
from gateway.features.keys.limits_used import UsedLimit, used_limits
from gateway.features.keys.settings import moment, view_of
from gateway.features.usage import summary
from gateway.features.usage.summary import UsageReport
from gateway.store.directory import (
    AuditRow,
    DirectoryRow,
    Kind,
    add_audit,
    begin_change,
    find_row,
    key_with_digest,
    save_row,
)
from gateway.store.engine import Transaction

log = logging.getLogger(__name__)

_UNKNOWN = "this is not the secret of a key in force here"


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Somebody who has shown the secret of a key in force."""

    key: KeyRecord
    digest: str = field(repr=False)
    """SHA-256 of the secret."""
    stored: bool
    """Whether the key is in the store, and not in gateway.yaml."""
    directory: Directory = field(repr=False)
    """The key, its person, its team and its organization."""

    @property
    def ends(self) -> float | None:
        """Unix time at which the secret stops opening the key; None if it is the newest one."""
        return next(ends for digest, ends in self.key.digests if digest == self.digest)

    @property
    def scopes(self) -> tuple[LimitScope, ...]:
        """Scopes whose limits its calls share: all but those of single end users."""
        found = scopes_of(self.directory, self.key)
        return (*found.base, *(scope for _, scope in (*found.models, *found.tags)))


def digest_of(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def self_service(admin: Admin) -> SelfService:
    """The section in force. Raises NotThere where it is off."""
    section = admin.config().admin
    found = SelfService(enabled=False) if section is None else section.self_service
    if not found.enabled:
        raise NotThere("callers have no page here: admin.self_service.enabled is false")
    return found


async def holder_by_secret(admin: Admin, secret: str, address: str) -> KeyHolder:
    """Finds the holder of this secret; attempts with unknown ones are bounded. Raises as `holder_of`, and
    TooManyFailures."""
    self_service(admin)
    admin.failed_keys.check(address)
    try:
        return await holder_of(admin, digest_of(secret), address)
    except NoToken:
        admin.failed_keys.note(address)
        log.warning("admin: an unknown key came from %s", address)
        raise


async def holder_of(admin: Admin, digest: str, address: str) -> KeyHolder:
    """Finds the holder of the secret with this SHA-256. Raises NoToken for an unknown one; NotPermitted for a key that
    is out of force, or may not be used from this address."""
    self_service(admin)
    static = directory_of(admin.config())
    of_file = next((k for k in static.keys.values() if any(digest == known for known, _ in k.digests)), None)
    holder = _held(static, of_file, digest) if of_file is not None else await _stored(admin, static, digest)
    _check_in_force(holder, admin.clock())
    _check_address(holder, admin.config(), address)
    return holder


async def _stored(admin: Admin, static: Directory, digest: str) -> KeyHolder:
    def read(connection: Transaction) -> KeyHolder:
        row = key_with_digest(connection, digest)
        if row is None or row.deleted is not None or not isinstance(row.record, KeyRecord):
            raise NoToken(_UNKNOWN)
        found = _held(static, row.record, digest, stored=True)
        team = found.directory.teams.get(row.record.team or "") or _row(connection, "team", row.record.team)
        above = team.organization if isinstance(team, TeamRecord) else None
        outer = static.organizations.get(above or "") or _row(connection, "organization", above)
        teams = {team.id: team} if isinstance(team, TeamRecord) else {}
        organizations = {outer.id: outer} if isinstance(outer, OrganizationRecord) else {}
        return replace(found, directory=replace(found.directory, teams=teams, organizations=organizations))

    return await admin.store.read(read)


def _row(connection: Transaction, kind: Kind, id: str | None) -> AnyRecord | None:
    row = None if id is None else find_row(connection, kind, id)
    return None if row is None or row.deleted is not None else row.record


def _held(static: Directory, key: KeyRecord, digest: str, *, stored: bool = False) -> KeyHolder:
    return KeyHolder(key, digest, stored, replace(static, keys={key.id: key}))


def _check_in_force(holder: KeyHolder, now: float) -> None:
    """Raises NoToken for a secret whose overlap is over, NotPermitted for a key that is refused."""
    key, directory = holder.key, holder.directory
    if holder.ends is not None and holder.ends <= now:
        raise NoToken(_UNKNOWN)
    team = directory.teams.get(key.team or "")
    organization = directory.organizations.get((team.organization if team else None) or "")
    off = [each for each in (key, team, organization) if each is not None and each.disabled]
    nowhere = key.person is not None and key.person not in directory.people
    if off or nowhere or (key.team is not None and team is None):
        raise NotPermitted("this key, its team or its organization is disabled: ask the person who gave you the key")
    if key.expires is not None and key.expires <= now:
        raise NotPermitted(f"this key has expired ({moment(key.expires)}): ask the person who gave you the key")


def _check_address(holder: KeyHolder, config: Config, address: str) -> None:
    """A key is used nowhere else than for calls."""
    team = holder.directory.teams.get(holder.key.team or "")
    allowed = (config.networks, holder.key.networks, None if team is None else team.networks)
    for each in allowed:
        if each is not None and not within(address, networks(each)):
            raise NotPermitted(f"this key may not be used from {address}")


@dataclass(frozen=True, slots=True)
class OwnKey:
    """Facts that a key's holder sees of it."""

    holder: KeyHolder
    used: UsageReport
    """Usage of this month, by day and model name."""
    limits: list[UsedLimit]
    """The limits that its calls must pass, the most used first."""
    trouble: str
    """Reason why the limits are unknown; "" if they are known."""
    rotates: bool
    """The holder may replace the secret now."""

    def to_dict(self) -> dict[str, Any]:
        key, directory = self.holder.key, self.holder.directory
        team = directory.teams.get(key.team or "")
        return {
            "id": key.id,
            "name": key.name,
            "team": key.team,
            "organization": None if team is None else team.organization,
            "person": key.person,
            "models": None if key.models is None else list(key.models),
            "tags": list(key.tags),
            "expires": moment(key.expires),
            "secret_ends": moment(self.holder.ends),
            "rotates": self.rotates,
            "limits": [_limit(each) for each in self.limits],
            "limits_known": not self.trouble,
            "usage": summary.as_json(self.used),
        }


def _limit(used: UsedLimit) -> dict[str, Any]:
    """The members that GET /v1/key of the gateway has, too."""
    return {
        "scope": str(used.scope),
        "limit": used.limit.name,
        "amount": used.limit.amount,
        "used": used.spent + used.held,
        "spent": used.spent,
        "reserved": used.held,
        "remaining": used.left,
        "reset": moment(used.resets_at),
    }


async def read_own_key(admin: Admin, holder: KeyHolder) -> OwnKey:
    since, until = summary.days(None, None, datetime.fromtimestamp(admin.clock(), UTC))
    filters = {"key": holder.key.id}
    used = await admin.store.read(lambda c: summary.report(c, ("day", "alias"), since, until, filters))
    limits, trouble = list[UsedLimit](), ""
    if admin.corridor is None:
        trouble = "this console has no stream server, so nobody knows what has been used of a limit"
    else:
        try:
            limits = await used_limits(admin.corridor, holder.scopes, admin.clock())
        except StreamDown as error:
            trouble = f"{error}; what has been used of limits is unknown"
    rotates = not why_not_rotated(admin, holder, holder.key)
    return OwnKey(holder, used, limits, trouble, rotates)


def why_not_rotated(admin: Admin, holder: KeyHolder, key: KeyRecord) -> str:
    """Reason why the holder does not get a new secret; "" if they do. key: as it is now.

    Only the newest secret replaces itself, and not while an earlier one is in its grace: a person who has found an old
    secret, or a new one, cannot lock the others out.
    """
    if not self_service(admin).rotate:
        return "callers do not rotate keys here (admin.self_service.rotate); ask the person who gave you the key"
    if not holder.stored:
        return "this key is in gateway.yaml, and is replaced there"
    now = admin.clock()
    live = [(digest, ends) for digest, ends in key.digests if ends is None or ends > now]
    newest = next((digest for digest, ends in live if ends is None), None)
    if newest != holder.digest:
        return "this secret was replaced; only the newest one rotates the key"
    earlier = [ends for digest, ends in live if digest != newest and ends is not None]
    if earlier:
        return f"an earlier secret opens this key until {moment(max(earlier))}; it can be rotated again after that"
    return ""


async def rotate_own_key(admin: Admin, holder: KeyHolder) -> Changed:
    """Gives the key a new secret, which is in the result; the present one stays for the grace. Raises NotPermitted,
    Conflict."""
    service, secret = self_service(admin), new_secret()
    if trouble := why_not_rotated(admin, holder, holder.key):
        raise Conflict(trouble) if service.rotate else NotPermitted(trouble)

    def changing(connection: Transaction) -> DirectoryRow:
        version, now = begin_change(connection), admin.clock()
        row = find_row(connection, "key", holder.key.id)
        if row is None or row.deleted is not None or not isinstance(row.record, KeyRecord) or row.record.disabled:
            raise Conflict("this key was revoked or disabled meanwhile")
        if trouble := why_not_rotated(admin, holder, row.record):
            raise Conflict(trouble)
        grace_s = service.grace_h * 3600
        digests = ((digest_of(secret), None), (holder.digest, now + grace_s))
        made = replace(row, record=replace(row.record, digests=digests), updated=now, version=version)
        save_row(connection, made)
        actor = f"{KEY_ACTOR}{row.record.name}"
        add_audit(connection, AuditRow(now, actor, "key", "rotate", "key", row.record.id, view_of(row), view_of(made)))
        return made

    return replace(await published(admin, await admin.store.run(changing)), secret=secret)


def rotated_view(changed: Changed) -> Mapping[str, Any]:
    """The answer to a rotation: the new secret, and until when the previous one opens the key."""
    record = changed.row.record
    ends = [ends for _, ends in record.digests if ends is not None] if isinstance(record, KeyRecord) else []
    return {
        "id": record.id,
        "name": getattr(record, "name", ""),
        "secret": changed.secret,
        "earlier_secret_ends": moment(max(ends)) if ends else None,
        "published": changed.published,
    }
