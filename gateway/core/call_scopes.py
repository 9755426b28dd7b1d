"""Limits that hold for some calls of a key: those to one model, of one end user, of one run, or with one tag. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

from gateway.core.limits import LimitScope, ScopeKind, limits_of
from gateway.core.run_ceilings import NO_CEILING, RunCeiling, ceiling_of

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
    run: RunCeiling = NO_CEILING
    """The ceiling of each run."""
    run_parts: tuple[tuple[str, RunCeiling], ...] = ()
    """Ceilings of the calls of a run to a model ("model/chat") or with a tag ("tag/project=x")."""

    only_of_runs: bool = field(init=False, compare=False, repr=False)
    """Whether a call's run alone decides about its scopes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "only_of_runs", not (self.models or self.tags or self.users or self.run_parts))

    def __bool__(self) -> bool:
        """Whether anything depends on the call."""
        return bool(self.models or self.tags or self.users or self.run or self.run.require or self.run_parts)

    def parts_of(self, alias: str, tags: tuple[str, ...]) -> tuple[tuple[str, RunCeiling], ...]:
        """The ceilings of a run's calls to this model, or with one of these tags."""
        names = {f"model/{alias}", *(f"tag/{tag}" for tag in tags)}
        return tuple(part for part in self.run_parts if part[0] in names)

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
    """Adds what the limits of a key, person, team or organization say about models, tags, end users and runs. owner:
    its limits are not read."""
    shared = {name: settings[name] for name in ("time_zone", "on_outage") if name in settings}
    models = _scopes("model", owner, settings.get("models"), shared)
    tags = _scopes("tag", owner, settings.get("tags"), shared)
    per_user = settings.get("per_user") or {}
    users = limits_of({**shared, **{name: value for name, value in per_user.items() if value is not None}})
    whole = LimitScope("user", f"{owner.kind}-{owner.id}", users, owner.name and f"{owner.kind}-{owner.name}")
    return replace(
        base,
        models=base.models + models,
        tags=base.tags + tags,
        users=base.users + ((whole,) if users else ()),
        run=base.run.with_smaller(ceiling_of(settings.get("per_run"), settings.get("on_outage") or "bounded")),
        run_parts=_with_parts(base.run_parts, settings),
    )


def _with_parts(
    parts: tuple[tuple[str, RunCeiling], ...], settings: Mapping[str, Any]
) -> tuple[tuple[str, RunCeiling], ...]:
    """The ceilings by model and tag, with those of one more owner: the smaller of each counts."""
    ceilings = dict(parts)
    for kind, section in (("model", "models"), ("tag", "tags")):
        for name, amounts in (settings.get(section) or {}).items():
            ceiling = ceiling_of(amounts.get("per_run"), settings.get("on_outage") or "bounded")
            if ceiling:
                ceilings[f"{kind}/{name}"] = ceilings.get(f"{kind}/{name}", NO_CEILING).with_smaller(ceiling)
    return tuple(ceilings.items())


def _scopes(
    kind: ScopeKind, owner: LimitScope, settings: Mapping[str, Mapping[str, Any]] | None, shared: Mapping[str, Any]
) -> tuple[tuple[str, LimitScope], ...]:
    named = ((part, limits_of({**shared, **amounts})) for part, amounts in (settings or {}).items())
    id, name = f"{owner.kind}-{owner.id}", owner.name and f"{owner.kind}-{owner.name}"
    return tuple(
        (part, LimitScope(kind, f"{id}/{part}", limits, name and f"{name}/{part}")) for part, limits in named if limits
    )
