"""What a change of a key allows that the key did not allow before, by itself or by its team. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from gateway.core.keys import KeyRecord, OrganizationRecord, TeamRecord


def widened(old: KeyRecord, new: KeyRecord) -> tuple[str, ...]:
    """The settings by which `new` may do more than `old`, or be used by more people or for longer."""
    found = {
        "allow": bool(set(new.allow) - set(old.allow)),
        "models": not _within(new.models, old.models),
        "networks": not _inside(new.networks, old.networks),
        "limits": not _no_higher(new.limits, old.limits),
        "team": new.team != old.team,  # a team has models, networks and limits of its own
        "expires": old.expires is not None and (new.expires is None or new.expires > old.expires),
        "disabled": old.disabled and not new.disabled,
    }
    return tuple(name for name, wider in found.items() if wider)


@dataclass(frozen=True, slots=True)
class TeamBounds:
    """The team of a key, and the organization of that team; None: there is none."""

    team: TeamRecord | None = None
    organization: OrganizationRecord | None = None


def bounds_left(old: TeamBounds, new: TeamBounds) -> tuple[str, ...]:
    """What bound a key by its old team and does not by its new one. Limits are shared by all keys of a team, so those
    of another team are no substitute."""
    found = []
    team, joined = old.team, new.team
    if team is not None and (joined is None or joined.id != team.id):
        wider = {
            "limits": bool(team.limits),
            "models": not _within(None if joined is None else joined.models, team.models),
            "networks": not _inside(None if joined is None else joined.networks, team.networks),
        }
        found = [f"{name} of the team {team.id}" for name, left in wider.items() if left]
    outer = old.organization
    if outer is not None and outer.limits and (new.organization is None or new.organization.id != outer.id):
        found.append(f"limits of the organization {outer.id}")
    return tuple(found)


def _within(new: tuple[str, ...] | None, old: tuple[str, ...] | None) -> bool:
    """Return whether `new` allows nothing that `old` does not. None allows everything."""
    return old is None or (new is not None and set(new) <= set(old))


def _inside(new: tuple[str, ...] | None, old: tuple[str, ...] | None) -> bool:
    if old is None:
        return True
    outer = [ip_network(each, strict=False) for each in old]
    inner = [ip_network(each, strict=False) for each in new or ("0.0.0.0/0", "::/0")]
    return all(any(i.version == o.version and i.subnet_of(o) for o in outer) for i in inner)  # type: ignore[arg-type]


def _no_higher(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Each limit that there was is still there, and is no higher."""
    return all(name in new and _no_more(new[name], value) for name, value in old.items())


def _no_more(new: Any, old: Any) -> bool:
    if isinstance(new, int | float) and isinstance(old, int | float):
        return new <= old
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        return _no_higher(new, old)
    return bool(new == old)
