"""The services that every page and every operation of the admin API works with, and what limited rights read of them.

Reading is limited in two places that no handler passes by: the store rewrites every query (store/read_bounds.py), and
the config has nothing but the scope's own keys and teams.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from gateway.config.config import Config
from gateway.console.access import ActorScope, FailedLogins
from gateway.console.publisher import Publisher
from gateway.console.store import ConsoleStore
from gateway.core.reasons import Reason
from gateway.store.read_bounds import ReadBounds
from gateway.stream import Corridor

_KEPT = frozenset({"admin", "budgets", "jwt", "limits", "log", "store", "stream", "tags", "trusted_proxies"})
"""Sections of the config that name no team. What is not listed here is at its default for limited rights."""


@dataclass(frozen=True, slots=True)
class Admin:
    """The services of one request."""

    store: ConsoleStore
    publisher: Publisher
    config: Callable[[], Config]
    """The gateway.yaml in force."""
    corridor: Corridor | None = None
    """The stream server, where ramps are; None if there is none."""
    clock: Callable[[], float] = time.time
    """Unix seconds."""
    refused: Callable[[], str] = str
    """Returns why the newest gateway.yaml is not in force; "" if it is."""
    failed_keys: FailedLogins = field(default_factory=partial(FailedLogins, what="an unknown key"))
    """Bounds attempts with keys, apart from those with admin tokens."""
    whole: Admin | None = None
    """The services without limits, of those that read what belongs to one scope; None if these have no limits."""

    def within(self, scope: ActorScope | None) -> Admin:
        """The services for somebody whose rights have this scope: nothing of others can be read with them."""
        if scope is None:
            return self
        config = self.config()
        store, own = self.store.within(bounds_of(scope, config)), narrowed(config, scope)
        return replace(self, store=store, config=lambda: own, whole=self)

    def reasons(self) -> list[Reason]:
        """Parts of the console that do not work, from the state of this process alone, without any I/O."""
        found = (
            ("the newest gateway.yaml was refused, and the previous one is in force", self.refused()),
            ("the store cannot be used", self.store.trouble),
            ("keys are not published", self.publisher.trouble),
            ("keys cannot be changed", self.publisher.write_trouble),
        )
        return [Reason(what, why) for what, why in found if why]


def bounds_of(scope: ActorScope, config: Config) -> ReadBounds:
    if scope.kind == "team":
        return ReadBounds((scope.id,))
    own = tuple(id for id, team in config.teams.items() if team.organization == scope.id)
    return ReadBounds(own, scope.id, tuple(id for id in config.teams if id not in own))


def narrowed(config: Config, scope: ActorScope) -> Config:
    """The config with the keys and teams of the scope, and without all that others have: models, upstreams,
    experiments. Only its own organization is there."""
    bounds = bounds_of(scope, config)
    teams = {id: team for id, team in config.teams.items() if id in bounds.teams}
    given = {n: f.get_default(call_default_factory=True) for n, f in Config.model_fields.items() if n not in _KEPT}
    own: dict[str, Any] = {
        "keys": tuple(key for key in config.keys if key.team in bounds.teams),
        "teams": teams,
        "organizations": {id: o for id, o in config.organizations.items() if id == bounds.organization},
        "upstreams": {},
        "models": {},
    }
    return config.model_copy(update=given | own).with_routes({})
