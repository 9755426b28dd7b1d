"""Keys, teams and organizations in the form of the admin API's requests and answers, and the rights that a change
widens. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AwareDatetime, Field, ValidationError

from gateway.config.checks.validation import validation_mistakes
from gateway.config.derive import limit_settings
from gateway.config.limits import LimitsConfig
from gateway.config.privacy import Content
from gateway.config.types import Digest, ForwardedPath, IpNetwork, Section
from gateway.console.errors import InvalidBody
from gateway.core.keys import AnyRecord, KeyRecord, OrganizationRecord, TeamRecord
from gateway.core.traffic_class import RANKS, TrafficClass
from gateway.reports.number_format import rfc3339
from gateway.store.directory import DirectoryRow, Kind

Models = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(max_length=1000)]
PlainName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f{}\"\\]+$")]
"""A name as in gateway.yaml, without control characters."""
Tags = Annotated[tuple[PlainName, ...], Field(max_length=50)]
Networks = Annotated[tuple[IpNetwork, ...], Field(max_length=100)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]
DAY_S = 86_400


class OrganizationSettings(Section):
    """An organization."""

    limits: LimitsConfig = LimitsConfig()
    """Limits of all its teams together."""
    disabled: bool = False
    """Refuse all calls of its keys."""


class TeamSettings(Section):
    """A team."""

    organization: PlainName | None = None
    """The organization that it belongs to."""
    limits: LimitsConfig = LimitsConfig()
    """Limits of all its keys together."""
    models: Models | None = None
    """The models that its keys may use; a key may narrow them. null: all."""
    tags: Tags = ()
    """Labels under which its usage is summed."""
    networks: Networks | None = None
    """Networks from which its keys may be used, such as 10.0.0.0/8. null: everywhere."""
    disabled: bool = False
    """Refuse all calls of its keys."""


class KeySettings(Section):
    """A key."""

    name: PlainName
    """The caller's name in logs, records and metrics; one key in force has it."""
    team: PlainName | None = None
    """The team whose limits it shares."""
    person: PlainName | None = None
    """The person in `people` of gateway.yaml whose limits it shares with the person's other keys."""
    limits: LimitsConfig = LimitsConfig()
    """Limits of its usage."""
    models: Models | None = None
    """The models that it may use. null: all that its team may."""
    allow: tuple[Literal["sample", "target", "passthrough"], ...] = ()
    """Settings that its requests may control. `passthrough` needs the role owner."""
    sample: Literal["rules", "never"] = "rules"
    """`never` excludes its calls from the population that is sampled and scored."""
    content: Content | None = None
    """Part of its prompts and answers that is recorded. null: as `redaction.default` says."""
    tags: Tags = ()
    """Labels under which its usage is summed."""
    expires: AwareDatetime | None = None
    """Time from which it is refused, with its offset from UTC. null: never."""
    disabled: bool = False
    """Refuse it."""
    end_streams: bool = False
    """Whether its answers in flight end, too, once it is disabled."""
    networks: Networks | None = None
    """Networks from which it may be used, such as 10.0.0.0/8. null: everywhere that its team may."""
    paths: Annotated[tuple[ForwardedPath, ...], Field(max_length=100)] | None = None
    """Paths that a key with the right `passthrough` may use, such as /v1/files*. null: all."""
    traffic_class: Annotated[TrafficClass, Field(alias="class")] = "normal"
    """Order in which its calls are served where they have to wait: `interactive` before `normal` before `batch`."""


class NewKey(KeySettings):
    """A key, and a secret that its callers have already."""

    sha256: Digest | None = None
    """SHA-256 (hexadecimal) of a secret that callers keep, such as one that another gateway made; needs the role owner.
    null: the key gets a new secret."""


AnySettings = OrganizationSettings | TeamSettings | KeySettings
SETTINGS: Mapping[Kind, type[AnySettings]] = {
    "organization": OrganizationSettings,
    "team": TeamSettings,
    "key": KeySettings,
}


class NewTeam(TeamSettings):
    """A team with its id."""

    id: Id
    """Name, which cannot be changed: letters, digits, `.`, `_` and `-`."""


class NewOrganization(OrganizationSettings):
    """An organization with its id."""

    id: Id
    """Name, which cannot be changed: letters, digits, `.`, `_` and `-`."""


class Rotation(Section):
    """Terms on which a key gets a new secret."""

    overlap_s: Annotated[int, Field(ge=0, le=30 * DAY_S)] = DAY_S
    """Seconds for which the present secret opens the key, too. 0 means that it is refused at once."""


S = TypeVar("S", bound=Section)


def checked(model: type[S], body: Mapping[str, Any]) -> S:
    """Checks a body. Raises InvalidBody, which names the path of each mistake and its remedy."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        mistakes = validation_mistakes(error, model, [])
        raise InvalidBody(mistakes[0] if len(mistakes) == 1 else f"{len(mistakes)} mistakes", mistakes) from None


def patched(settings: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON merge patch (RFC 7396): null removes a value, so that its default holds; mappings are merged."""
    merged = dict(settings)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            inner = merged.get(name)
            merged[name] = patched(inner if isinstance(inner, dict) else {}, value)
        else:
            merged[name] = value
    return merged


def settings_of(record: AnyRecord) -> dict[str, Any]:
    """The settings that lead to this record, as JSON values."""
    common = {"limits": dict(record.limits), "disabled": record.disabled}
    if isinstance(record, OrganizationRecord):
        return common
    common |= {"models": None if record.models is None else list(record.models), "tags": list(record.tags)}
    common |= {"networks": None if record.networks is None else list(record.networks)}
    if isinstance(record, TeamRecord):
        return common | {"organization": record.organization}
    own = {name: getattr(record, name) for name in ("name", "team", "person", "sample", "content", "end_streams")}
    more = {"allow": list(record.allow), "expires": moment(record.expires), "class": record.traffic_class}
    more["paths"] = None if record.paths is None else list(record.paths)
    return common | own | more


def record_of(id: str, settings: AnySettings, digests: tuple[tuple[str, float | None], ...] = ()) -> AnyRecord:
    """The record with these settings. digests: of a key's secrets, with their ends."""
    s = settings
    limits = limit_settings(s.limits)
    if isinstance(s, OrganizationSettings):
        return OrganizationRecord(id, limits, s.disabled)
    if isinstance(s, TeamSettings):
        return TeamRecord(id, limits, s.organization, s.models, s.tags, s.disabled, s.networks)
    own = {name: getattr(s, name) for name in KeySettings.model_fields if name not in ("limits", "expires")}
    expires = None if s.expires is None else s.expires.timestamp()
    return KeyRecord(id=id, digests=digests, limits=limits, expires=expires, **own)


def view_of(row: DirectoryRow) -> dict[str, Any]:
    """A row as an answer shows it: without digests."""
    record = row.record
    view = {"id": record.id, **settings_of(record)}
    if isinstance(record, KeyRecord):
        view["secrets"] = [{"ends": moment(ends)} for _, ends in record.digests]
    return view | {"created": moment(row.created), "updated": moment(row.updated), "deleted": moment(row.deleted)}


def moment(at: float | None) -> str | None:
    """Unix seconds as RFC 3339, in UTC."""
    return None if at is None else rfc3339(at)


def widened(old: KeyRecord, new: KeyRecord) -> tuple[str, ...]:
    """The settings by which `new` may do more than `old`, or be used by more people or for longer."""
    found = {
        "allow": bool(set(new.allow) - set(old.allow)),
        "models": not _within(new.models, old.models),
        "networks": not is_inside(new.networks, old.networks),
        "limits": not _no_higher(new.limits, old.limits),
        "person": new.person != old.person,
        "team": new.team != old.team,  # a team has models, networks and limits of its own
        "expires": old.expires is not None and (new.expires is None or new.expires > old.expires),
        "disabled": old.disabled and not new.disabled,
        "paths": "passthrough" in new.allow and not _within(new.paths, old.paths),
        "class": RANKS[new.traffic_class] < RANKS[old.traffic_class],
    }
    return tuple(name for name, wider in found.items() if wider)


@dataclass(frozen=True, slots=True)
class TeamBounds:
    """The team of a key, and the organization of that team; None if there is none."""

    team: TeamRecord | None = None
    organization: OrganizationRecord | None = None


def bounds_left(old: TeamBounds, new: TeamBounds) -> tuple[str, ...]:
    """The bounds of a key that its old team set and its new one does not. Limits are shared by all keys of a team, so
    those of another team do not count."""
    found = []
    team, joined = old.team, new.team
    if team is not None and (joined is None or joined.id != team.id):
        wider = {
            "limits": bool(team.limits),
            "models": not _within(None if joined is None else joined.models, team.models),
            "networks": not is_inside(None if joined is None else joined.networks, team.networks),
        }
        found = [f"{name} of the team {team.id}" for name, left in wider.items() if left]
    outer = old.organization
    if outer is not None and outer.limits and (new.organization is None or new.organization.id != outer.id):
        found.append(f"limits of the organization {outer.id}")
    return tuple(found)


def _within(new: tuple[str, ...] | None, old: tuple[str, ...] | None) -> bool:
    """Tells whether `new` allows nothing that `old` does not. None allows everything."""
    return old is None or (new is not None and set(new) <= set(old))


def is_inside(new: tuple[str, ...] | None, old: tuple[str, ...] | None) -> bool:
    """Tells whether each network of `new` lies within those of `old`. None: everywhere."""
    if old is None:
        return True
    outer = [ip_network(each, strict=False) for each in old]
    inner = [ip_network(each, strict=False) for each in new or ("0.0.0.0/0", "::/0")]
    return all(any(i.version == o.version and i.subnet_of(o) for o in outer) for i in inner)  # type: ignore[arg-type]


def _no_higher(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Tells whether each old limit is still there, and not higher."""
    return all(name in new and _no_more(new[name], value) for name, value in old.items())


def _no_more(new: Any, old: Any) -> bool:
    if isinstance(new, int | float) and isinstance(old, int | float):
        return new <= old
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        return _no_higher(new, old)
    return bool(new == old)
