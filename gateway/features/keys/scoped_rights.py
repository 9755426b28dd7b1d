"""Rights that are limited to a team or to an organization: which changes they allow, checked in the transaction that
makes them. What they read is limited in gateway/console/admin.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config.config import Config
from gateway.config.derive import content_of, directory_of
from gateway.console.access import Actor, ActorScope
from gateway.console.errors import Conflict, InvalidBody, NotPermitted
from gateway.core.keys import AnyRecord, KeyRecord, OrganizationRecord, TeamRecord, record_kind
from gateway.core.limits import WINDOWS, Limit, limits_of
from gateway.core.traffic_class import RANKS
from gateway.core.wildcards import is_unknown
from gateway.features.keys.settings import TeamBounds, is_inside
from gateway.store.directory import Kind, count_members, find_row, is_name_of_others, is_team_of_others
from gateway.store.engine import Transaction

MOST_KEYS = 1_000
"""Keys in force that a team may have for its administrator to make another: every gateway holds all of them."""
_CONTENT = ("metadata", "redacted", "full")


def check_kind(actor: Actor, kind: Kind) -> None:
    """Refuses changes of records above the actor's keys. Raises NotPermitted, whether there is such a record or not."""
    scope = actor.scope
    if scope is not None and (kind == "organization" or (kind == "team" and scope.kind == "team")):
        raise NotPermitted(
            f"the rights of {actor.name} are limited to the {scope}; they do not include changes of {kind}s"
        )


@dataclass(frozen=True, slots=True)
class ScopedChange:
    """A change by somebody with limited rights, in its transaction."""

    connection: Transaction
    config: Config
    """The whole gateway.yaml in force."""
    scope: ActorScope
    most_keys: int = MOST_KEYS

    def covers(self, record: AnyRecord) -> bool:
        """Tells whether they may see the record."""
        if isinstance(record, KeyRecord):
            bounds = self._bounds(record.team)
            within = bounds.team if self.scope.kind == "team" else bounds.organization
            return within is not None and within.id == self.scope.id
        if isinstance(record, TeamRecord):
            return self.scope.kind == "organization" and record.organization == self.scope.id
        return False

    def check(self, old: AnyRecord | None, new: AnyRecord) -> None:
        """Checks a record that they make or change. Raises NotPermitted, InvalidBody, Conflict."""
        if not self.covers(new):
            raise NotPermitted(
                f"these rights are limited to the {self.scope}: the {record_kind(new)} would be outside it"
            )
        if isinstance(new, KeyRecord):
            self._check_key(old if isinstance(old, KeyRecord) else None, new)
        elif isinstance(new, TeamRecord):
            self._check_team(old, new)

    def _check_key(self, old: KeyRecord | None, new: KeyRecord) -> None:
        bounds = self._bounds(new.team)
        moved = old is None or old.team != new.team
        mistakes = [*_more_than_above(new, None if moved else old, bounds)]
        if mistakes:
            raise InvalidBody(mistakes[0] if len(mistakes) == 1 else f"{len(mistakes)} mistakes", mistakes)
        self._check_reach(old, new)
        if old is None or old.name != new.name:
            self._check_name(new)
        if moved and count_members(self.connection, "team", new.team or "") >= self.most_keys:
            raise Conflict(f"team: {new.team} has {self.most_keys} keys in force already; revoke some")

    def _check_reach(self, old: KeyRecord | None, new: KeyRecord) -> None:
        """Refuses what would give a key more than its team's bounds say: rights of requests, the limits of a person,
        a place before the calls of others, and content that the deployment does not record."""
        more = set(new.allow) - set(() if old is None else old.allow)
        if more:
            raise NotPermitted(f"allow: {', '.join(sorted(more))} needs rights that are not limited to a team")
        if new.person != (None if old is None else old.person):
            raise NotPermitted("person: another person's limits need rights that are not limited to a team")
        usual = "normal" if old is None else old.traffic_class
        if RANKS[new.traffic_class] < min(RANKS["normal"], RANKS[usual]):
            raise NotPermitted(f"class: {new.traffic_class} goes before others; it needs rights that are not limited")
        redaction = self.config.redaction
        most = [content_of(None, redaction), content_of(None if old is None else old.content, redaction)]
        if _CONTENT.index(content_of(new.content, redaction)) > max(map(_CONTENT.index, most)):
            raise NotPermitted(f"content: {new.content} is more than what is recorded of others ({most[0]})")

    def _check_name(self, key: KeyRecord) -> None:
        """Refuses a name that a key of others has or had: what is stored of a caller belongs to its name."""
        static = directory_of(self.config).keys.get(key.name)
        if static is not None or is_name_of_others(self.connection, key.name, key.team or ""):
            raise Conflict(f'name: "{key.name}" belongs to somebody else, or did; choose another name')

    def _check_team(self, old: AnyRecord | None, new: TeamRecord) -> None:
        if old is None:
            row = find_row(self.connection, "team", new.id)
            taken = row is not None and getattr(row.record, "organization", None) != self.scope.id
            taken = taken or new.id in self.config.teams
            if taken or is_team_of_others(self.connection, new.id, self.scope.id):
                raise Conflict(f'id: "{new.id}" belongs to somebody else, or did; choose another id')
        above = directory_of(self.config).organizations.get(self.scope.id) or self._stored_organization(self.scope.id)
        changed = old is None or old.limits != new.limits
        mistakes = [*_over(new.limits, above)] if changed and above is not None else []
        if mistakes:
            raise InvalidBody(mistakes[0] if len(mistakes) == 1 else f"{len(mistakes)} mistakes", mistakes)

    def _bounds(self, team: str | None) -> TeamBounds:
        """The team with this id, and its organization; of gateway.yaml where it has them."""
        static = directory_of(self.config)
        row = None if team is None or team in static.teams else find_row(self.connection, "team", team)
        found = static.teams.get(team or "") or (None if row is None or row.deleted is not None else row.record)
        if not isinstance(found, TeamRecord):
            return TeamBounds()
        id = found.organization or ""
        return TeamBounds(found, static.organizations.get(id) or self._stored_organization(id))

    def _stored_organization(self, id: str) -> OrganizationRecord | None:
        row = find_row(self.connection, "organization", id)
        found = None if row is None or row.deleted is not None else row.record
        return found if isinstance(found, OrganizationRecord) else None


def _more_than_above(new: KeyRecord, old: KeyRecord | None, bounds: TeamBounds) -> Iterator[str]:
    """One line for each setting of a key that is more than its team or organization has. old: None: all are new."""
    if old is None or new.limits != old.limits:
        for above in (bounds.team, bounds.organization):
            yield from _over(new.limits, above)
    team = bounds.team
    if team is None:
        return
    named = {*(new.models or ()), *new.limits.get("models", {})}
    known = set() if old is None else {*(old.models or ()), *old.limits.get("models", {})}
    for alias in sorted(named - known):
        if team.models is not None and is_unknown(alias, team.models):
            yield f'models: the team {team.id} may not use "{alias}"; it has {", ".join(team.models)}'
    if new.networks is not None and not is_inside(new.networks, team.networks):
        yield f"networks: expected parts of those of the team {team.id}: {', '.join(team.networks or ())}"


def _over(limits: Mapping[str, Any], above: TeamRecord | OrganizationRecord | None) -> Iterator[str]:
    """One line for each amount that is more than what is above may use in the same window, or in a longer one."""
    if above is None:
        return
    whose = f"{record_kind(above)} {above.id}"
    bounds = limits_of(above.limits)
    for path, amounts in _parts(limits):
        for limit in limits_of(amounts):
            most = min((each.amount for each in bounds if _contains(each, limit)), default=limit.amount)
            if limit.amount > most:
                yield f"{path}.{limit.name}: {limit.amount:g} is more than the {most:g} of the {whose}; lower it"


def _parts(limits: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The limits themselves, and those of models, tags and end users, each with its path."""
    yield "limits", limits
    for part in ("models", "tags"):
        yield from ((f"limits.{part}.{name}", amounts) for name, amounts in limits.get(part, {}).items())
    yield "limits.per_user", limits.get("per_user", {})


def _contains(outer: Limit, inner: Limit) -> bool:
    """Tells whether the window of the one is as long as the other's, or longer."""
    if outer.measure != inner.measure:
        return False
    if outer.window is None or inner.window is None:
        return outer.window == inner.window
    return WINDOWS.index(outer.window) >= WINDOWS.index(inner.window)
