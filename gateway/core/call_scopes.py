"""Limits that hold for some calls of a key: those to one model, of one end user, or with one tag. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from gateway.core.limits import LimitScope, ScopeKind, limits_of

NOBODY = "-"
"""The end user of calls that name none: they share one budget."""
OTHERS = "others"
"""Stands for end users beyond the maximum that one process distinguishes."""


@dataclass(frozen=True, slots=True)
class CallScopes:
    """The scopes of one caller's calls that depend on the call. Comparable: it is part of a caller's identity."""

    base: tuple[LimitScope, ...]
    """The scopes of every call."""
    models: tuple[tuple[str, LimitScope], ...] = ()
    tags: tuple[tuple[str, LimitScope], ...] = ()
    users: tuple[LimitScope, ...] = ()
    """Scopes of an end user, without the user: `for_user` adds it."""

    def of(self, alias: str, user: str, tags: tuple[str, ...]) -> tuple[LimitScope, ...]:
        """The scopes of a call. user: a digest, NOBODY or OTHERS."""
        found = [scope for name, scope in self.models if name == alias]
        found += [scope for tag, scope in self.tags if tag in tags]
        return (*self.base, *found, *(_of_user(scope, user) for scope in self.users))


def _of_user(scope: LimitScope, user: str) -> LimitScope:
    return replace(scope, id=f"{scope.id}/{user}", name=scope.name and f"{scope.name}/{user}")


def user_digest(user: str) -> str:
    """Sixteen hexadecimal digits in place of an end user's name, which may be an address."""
    return blake2b(user.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def call_scopes_of(owner: LimitScope, settings: Mapping[str, Any], base: CallScopes) -> CallScopes:
    """Adds what the limits of a key, person, team or organization say about models, tags and end users. owner: its
    limits are not read."""
    shared = {name: settings[name] for name in ("time_zone", "on_outage") if name in settings}
    models = _scopes("model", owner, settings.get("models"), shared)
    tags = _scopes("tag", owner, settings.get("tags"), shared)
    per_user = settings.get("per_user") or {}
    users = limits_of({**shared, **{name: value for name, value in per_user.items() if value is not None}})
    whole = LimitScope("user", f"{owner.kind}-{owner.id}", users, owner.name and f"{owner.kind}-{owner.name}")
    return replace(
        base, models=base.models + models, tags=base.tags + tags, users=base.users + ((whole,) if users else ())
    )


def _scopes(
    kind: ScopeKind, owner: LimitScope, settings: Mapping[str, Mapping[str, Any]] | None, shared: Mapping[str, Any]
) -> tuple[tuple[str, LimitScope], ...]:
    named = ((part, limits_of({**shared, **amounts})) for part, amounts in (settings or {}).items())
    id, name = f"{owner.kind}-{owner.id}", owner.name and f"{owner.kind}-{owner.name}"
    return tuple(
        (part, LimitScope(kind, f"{id}/{part}", limits, name and f"{name}/{part}")) for part, limits in named if limits
    )
