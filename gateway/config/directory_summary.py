"""The keys, teams and organizations of a gateway.yaml with their limits, as `gateway check` prints them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.config.config import Config
from gateway.config.derive import directory_of
from gateway.core.keys import KeyRecord
from gateway.core.limits import limits_of

MAX_KEYS = 20


def directory_summary(config: Config) -> list[str]:
    """A line for each organization and team, and for the keys that have limits, a team or an end."""
    directory = directory_of(config)
    lines = [f"organization {o.id}: {_described(o.limits)}{_off(o.disabled)}" for o in directory.organizations.values()]
    for team in directory.teams.values():
        members = sum(key.team == team.id for key in directory.keys.values())
        of = f" of {team.organization}" if team.organization else ""
        models = f"; models {', '.join(team.models)}" if team.models is not None else ""
        lines.append(
            f"team {team.id}{of}: {_described(team.limits)}{models}; {members} key{'' if members == 1 else 's'} here"
            f"{_off(team.disabled)}"
        )
    keys = [key for key in directory.keys.values() if key.limits or key.team or key.expires or key.disabled]
    lines += [_key(key) for key in keys[:MAX_KEYS]]
    return lines + ([f"and {len(keys) - MAX_KEYS} more keys with limits"] if len(keys) > MAX_KEYS else [])


def _key(key: KeyRecord) -> str:
    of = f" of {key.team}" if key.team else ""
    expires = "" if key.expires is None else f"; expires {datetime.fromtimestamp(key.expires, UTC):%Y-%m-%d %H:%M} UTC"
    return f"key {key.name}{of}: {_described(key.limits)}{expires}{_off(key.disabled)}"


def _described(settings: Mapping[str, Any]) -> str:
    return ", ".join(_limits(settings)) or "no limit"


def _limits(settings: Mapping[str, Any]) -> Iterator[str]:
    for limit in limits_of(settings):
        if limit.window is None:
            yield f"{limit.amount:,.0f} calls at once"
            continue
        zone = "" if limit.zone == "UTC" or limit.window in ("minute", "hour") else f" ({limit.zone})"
        amount = f"${limit.amount:,.2f}" if limit.measure == "usd" else f"{limit.amount:,.0f} {limit.measure}"
        yield f"{amount} a {limit.window}{zone}"


def _off(disabled: bool) -> str:
    return "; disabled" if disabled else ""
