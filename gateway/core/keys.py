"""Keys, people, teams and organizations as records. Those that the admin API writes are published through the stream
server, and read by every gateway. Pure.

A key's secret is never part of a record, only its SHA-256. Those of gateway.yaml become records too, so that a gateway
treats both alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from ipaddress import ip_network
from typing import Any, Literal

import orjson

from gateway.core.call_scopes import CallScopes, call_scopes_of
from gateway.core.limits import LimitScope, ScopeKind, limits_of, window_start
from gateway.core.traffic_class import CLASSES, TrafficClass

_OF_CALLS = frozenset({"models", "tags", "per_user", "per_run"})
"""Members of limits that hold for some calls only."""
KEY_PREFIX = "sk-assay-"
"""Every dynamic key begins with it, so that secret scanners recognize one."""


@dataclass(frozen=True, slots=True)
class OrganizationRecord:
    """An organization: the outermost scope."""

    id: str
    limits: Mapping[str, Any]
    """Limits as in gateway.yaml, validated; {}: no limit."""
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """A person of gateway.yaml. The limits are shared by all of the person's keys, whatever their teams."""

    id: str
    limits: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TeamRecord:
    """A team. Its limits are shared by all of its keys."""

    id: str
    limits: Mapping[str, Any]
    organization: str | None = None
    models: tuple[str, ...] | None = None
    """The models that its keys may use; None: all. A key may narrow them, never widen."""
    tags: tuple[str, ...] = ()
    disabled: bool = False
    networks: tuple[str, ...] | None = None
    """Networks from which its keys may be used; None: all. A key may narrow them."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key. During a rotation two digests belong to one key."""

    id: str
    """Stable; the name of a static key, `key_…` of a dynamic one."""
    name: str
    """The caller's name in logs, records and metrics."""
    digests: tuple[tuple[str, float | None], ...]
    """SHA-256 (hexadecimal) of each secret that opens it, and the Unix time at which that ends; None if it does not."""
    limits: Mapping[str, Any]
    team: str | None = None
    models: tuple[str, ...] | None = None
    allow: tuple[str, ...] = ()
    """Rights of its requests: some of sample, target and passthrough."""
    sample: Literal["rules", "never"] = "rules"
    content: Literal["full", "redacted", "metadata"] | None = None
    tags: tuple[str, ...] = ()
    expires: float | None = None
    """Unix time; None: never."""
    disabled: bool = False
    end_streams: bool = False
    """A disabled key's answers in flight are cut off, too."""
    networks: tuple[str, ...] | None = None
    """Networks from which it may be used; None: all."""
    traffic_class: TrafficClass = "normal"
    """The order in which its calls are served where they have to wait."""
    paths: tuple[str, ...] | None = None
    """Paths outside the routed endpoints that it may use, if it may use any; None: all."""
    person: str | None = None
    """The person whose limits it shares; of a token, its caller."""


AnyRecord = OrganizationRecord | TeamRecord | KeyRecord
LimitedRecord = AnyRecord | PersonRecord
_KINDS: dict[str, type[OrganizationRecord] | type[TeamRecord] | type[KeyRecord]] = {
    "organization": OrganizationRecord,
    "team": TeamRecord,
    "key": KeyRecord,
}


_FIELDS = {kind: frozenset(each.name for each in fields(record)) for kind, record in _KINDS.items()}
_KIND_NAMES: Mapping[type[LimitedRecord], ScopeKind] = {
    OrganizationRecord: "organization",
    TeamRecord: "team",
    PersonRecord: "person",
    KeyRecord: "key",
}


def record_kind(record: LimitedRecord) -> ScopeKind:
    return _KIND_NAMES[type(record)]


def record_to_json(record: AnyRecord) -> bytes:
    return b'{"v":1,"kind":"%b",%b' % (record_kind(record).encode(), orjson.dumps(record)[1:])


def record_from_json(raw: bytes) -> AnyRecord:
    """Raises ValueError for what is not such a record; fields that this version does not know are left out.

    Ten thousand of them are read at a gateway's start, so this is quick and shares what is equal.
    """
    try:
        value = orjson.loads(raw)
        known = _FIELDS[value["kind"]]
        values = {name: _frozen(v) if type(v) is list else v for name, v in value.items() if name in known}
        values["limits"] = _shared_limits(tuple((n, _hashable(v)) for n, v in values["limits"].items()))
        return _checked(_KINDS[value["kind"]](**values))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a key, team or organization: {type(error).__name__}: {error}") from None


_DIGEST = re.compile(r"[0-9a-f]{64}")


def _checked(record: AnyRecord) -> AnyRecord:
    """The record, if each of its fields has the type that a gateway relies on. Raises ValueError, TypeError."""
    _demand(type(record.id) is str and record.id != "", "id")
    _demand(type(record.disabled) is bool, "disabled")
    if isinstance(record, OrganizationRecord):
        return record
    _demand(record.models is None or _are_texts(record.models), "models")
    _demand(_are_texts(record.tags), "tags")
    _demand(record.networks is None or _are_networks(record.networks), "networks")
    if isinstance(record, TeamRecord):
        _demand(record.organization is None or type(record.organization) is str, "organization")
        return record
    _demand(type(record.name) is str and record.name != "", "name")
    _demand(record.team is None or type(record.team) is str, "team")
    _demand(record.person is None or type(record.person) is str, "person")
    _demand(_are_texts(record.allow), "allow")
    _demand(record.sample in ("rules", "never"), "sample")
    _demand(record.content in (None, "full", "redacted", "metadata"), "content")
    _demand(_is_moment(record.expires), "expires")
    _demand(record.traffic_class in CLASSES, "traffic_class")
    _demand(record.paths is None or _are_texts(record.paths), "paths")
    _demand(type(record.end_streams) is bool, "end_streams")
    for digest, ends in record.digests:
        _demand(_DIGEST.fullmatch(digest) is not None and _is_moment(ends), "digests")
    return record


def _demand(holds: bool, name: str) -> None:
    if not holds:
        raise ValueError(f"{name} is malformed")


def _are_texts(values: Any) -> bool:
    return type(values) is tuple and (not values or all(type(each) is str for each in values))


def _are_networks(values: Any) -> bool:
    """ValueError for text that is none."""
    return _are_texts(values) and all(ip_network(each) for each in values)


def _is_moment(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value))


@lru_cache(maxsize=4096)
def _shared_limits(settings: tuple[tuple[str, Any], ...]) -> Mapping[str, Any]:
    """The settings as a mapping that all records with equal ones share. Raises ValueError, KeyError, TypeError."""
    found = {name: _mapping(value) for name, value in settings}
    for limit in limits_of(found):
        _demand(math.isfinite(limit.carried) and limit.carried >= 0, f"limits.carried.{limit.name}")
        _demand(math.isfinite(limit.amount) and limit.amount > 0, f"limits.{limit.name}")
        _demand(limit.on_outage in ("bounded", "closed"), "limits.on_outage")
        if limit.window is not None:
            window_start("day", limit.zone, 0.0)  # KeyError, ValueError: no such time zone
    return found


def _hashable(value: Any) -> Any:
    return tuple((name, _hashable(inner)) for name, inner in value.items()) if type(value) is dict else value


def _mapping(value: Any) -> Any:
    """The inverse of _hashable."""
    return {name: _mapping(inner) for name, inner in value} if type(value) is tuple else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Directory:
    """Snapshot of all keys, people, teams and organizations at one version, by id."""

    version: int = 0
    organizations: Mapping[str, OrganizationRecord] = field(default_factory=dict)
    teams: Mapping[str, TeamRecord] = field(default_factory=dict)
    keys: Mapping[str, KeyRecord] = field(default_factory=dict)
    default_limits: Mapping[str, Any] = field(default_factory=dict)
    """Limits of keys that do not set them (`budgets.default_limits`)."""
    people: Mapping[str, PersonRecord] = field(default_factory=dict)


def organization_of(directory: Directory, key: KeyRecord) -> str | None:
    """The id of the organization of the key's team; None if it has none."""
    team = directory.teams.get(key.team or "")
    return None if team is None else team.organization


def scopes_of(directory: Directory, key: KeyRecord) -> CallScopes:
    """The scopes whose limits a call of this key must pass: key, person, team, organization, and those of their models,
    tags and end users. Those without limits are left out."""
    organization = directory.organizations.get(organization_of(directory, key) or "")
    records: tuple[LimitedRecord | None, ...] = (
        with_defaults(directory, key),
        directory.people.get(key.person or ""),
        directory.teams.get(key.team or ""),
        organization,
    )
    there = [(record_kind(record), record) for record in records if record is not None]
    found = [LimitScope(kind, record.id, limits_of(record.limits), shown_name(record)) for kind, record in there]
    scopes = CallScopes(tuple(scope for scope in found if scope.limits))
    for scope, (_, record) in zip(found, there, strict=True):
        if not _OF_CALLS.isdisjoint(record.limits):
            scopes = call_scopes_of(scope, record.limits, scopes)
    return scopes


def shown_name(record: LimitedRecord) -> str:
    """The name of a key whose id says nothing to people; "" if the id is the name."""
    return record.name if isinstance(record, KeyRecord) and record.name != record.id else ""


def with_defaults(directory: Directory, key: KeyRecord) -> KeyRecord:
    """The key with the limits that it does not set itself."""
    return replace(key, limits={**directory.default_limits, **key.limits}) if directory.default_limits else key
