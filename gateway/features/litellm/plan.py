"""Translation of LiteLLM's organizations, teams and keys to bodies of the admin API, and of its users to people of
gateway.yaml; with a line for each setting without an equivalent. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from gateway.config.import_litellm import ImportNote, Loss
from gateway.core.wildcards import is_unknown
from gateway.features.litellm.budgets import (
    CarriedLimits,
    RollingBudget,
    budgets_of_models,
    limits_of_model,
    limits_of_row,
    seconds_of,
    utc,
)
from gateway.features.litellm.rows import KNOWN, LiteLLMDatabase, Row

Kind = Literal["organization", "team", "key"]
_DASHBOARD = "litellm-dashboard"
"""The team of the keys that LiteLLM's own pages make for each session."""
_NOT_FOR_CALLS = frozenset({"management", "read_only"})
_ALL, _NONE = frozenset({"all-proxy-models", "all-team-models", "all-org-models", "*"}), "no-default-models"
_LLM_ROUTES = ["llm_api_routes"]
"""The `allowed_routes` of a key for calls: what every key may use here."""
_RESERVED = ("open", "up", "evals")
_OF_ADMINS = "default_user_id"
"""The user of LiteLLM's own administrator, to whom keys without another belong."""
_MONEY = frozenset({"max_budget", "model_max_budget"})
_SHORT = 8
_MOST_NAMED = 3
_NO_MESSAGES = "turn_off_message_logging"
_FALSE = ("false", "0", "no", "")
_MOST_TAGS = 50


@dataclass(frozen=True, slots=True)
class PlannedRecord:
    """A record that the import makes."""

    kind: Kind
    name: str
    """Id of the record; of a key, its name."""
    body: Mapping[str, Any]
    """The body of its POST."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def carried(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.body.get("limits", {}).get("carried", {})
        return found


@dataclass(slots=True)
class ImportPlan:
    """The records in the order in which they refer to each other, and the notes."""

    records: list[PlannedRecord] = field(default_factory=list)
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The section `people` of gateway.yaml."""
    notes: list[ImportNote] = field(default_factory=list)

    def of(self, kind: Kind) -> list[PlannedRecord]:
        return [record for record in self.records if record.kind == kind]

    def note(self, path: str, loss: Loss, text: str) -> None:
        self.notes.append(ImportNote(path, loss, text))


@dataclass(frozen=True, slots=True)
class KnownModels:
    """The models of the gateway.yaml that the records refer to."""

    aliases: Sequence[str]
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Members of each access group of LiteLLM."""

    def allowed(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """(the names that are served here, those that are not)."""
        listed = [each for name in names for each in self.groups.get(name, (name,))]
        found = dict.fromkeys(name for name in listed if not is_unknown(name, self.aliases))
        return list(found), [name for name in dict.fromkeys(listed) if name not in found]


@dataclass(frozen=True, slots=True)
class _User:
    """A user of LiteLLM, as the keys that belong to one need it."""

    person: str
    limits: CarriedLimits
    models: dict[str, Any]
    """The setting `models` of keys without a team; {}: all."""
    pays: bool
    """Has a budget, which LiteLLM holds over keys without a team unless its settings say otherwise."""


def plan_of(database: LiteLLMDatabase, models: KnownModels, now: datetime, *, of_team_keys: bool = False) -> ImportPlan:
    """models: those of the gateway.yaml that the gateways run with. of_team_keys: budgets of users hold over their keys
    in teams, too (LiteLLM's `apply_user_budget_to_team_keys`)."""
    plan = ImportPlan()
    _Planner(database, models, now, plan, of_team_keys).run()
    return plan


class _Planner:
    """One import. Fills the plan."""

    def __init__(
        self, database: LiteLLMDatabase, models: KnownModels, now: datetime, plan: ImportPlan, of_team_keys: bool
    ) -> None:
        self._db, self._models, self._now, self._plan, self._of_team_keys = database, models, now, plan, of_team_keys
        self._users: dict[str, _User] = {}
        self._content = {row["team_id"]: _keeps_no_content(row) for row in database.teams}
        self._budgets: Mapping[str, Row] = {row["budget_id"]: row for row in database.budgets}
        self._spent = {(w["entity_type"], w["entity_id"], w["window_duration"]): w for w in database.windows}
        self._organizations = _ids(database.organizations, "organization_id", "organization_alias")
        self._teams = _ids(database.teams, "team_id", "team_alias")
        self._of_organization = {row["organization_id"]: row["models"] or [] for row in database.organizations}
        self._of_access_group = {row["access_group_id"]: row["access_model_names"] for row in database.access_groups}

    def run(self) -> None:
        for row in self._db.organizations:
            self._organization(row)
        for row in self._db.teams:
            self._team(row)
        self._people()
        self._keys()
        self._elsewhere()
        bodies = [*(record.body for record in self._plan.records), *self._plan.people.values()]
        if any("carried" in body.get("limits", {}) for body in bodies):
            text = "roll there, and follow the calendar here; what was spent counts until LiteLLM's reset"
            self._plan.note("budgets", "changed", text)

    def _organization(self, row: Row) -> None:
        id = self._organizations[row["organization_id"]]
        path = f"organizations[{id}]"
        limits = self._limits(
            path, row, self._budgets.get(row["budget_id"], {}), "Organization", row["organization_id"]
        )
        self._lost("organizations", path, row)
        self._add("organization", id, {"id": id} | _settings(limits))

    def _team(self, row: Row) -> None:
        if row["team_id"] == _DASHBOARD:
            return
        id = self._teams[row["team_id"]]
        path = f"teams[{id}]"
        limits = self._limits(path, row, {}, "Team", row["team_id"])
        self._lost("teams", path, row)
        body = {"id": id} | _settings(limits, disabled=row["blocked"])
        if row["organization_id"] in self._organizations:
            body["organization"] = self._organizations[row["organization_id"]]
        names = self._with_groups(row)
        of_organization = self._of_organization.get(row["organization_id"] or "", [])
        body |= self._allowed(path, names if names and "all-org-models" not in names else of_organization)
        self._add("team", id, body)

    def _keys(self) -> None:
        rows = [row for row in self._db.keys if not self._left_out(row)]
        for row, name in zip(rows, _key_names(rows), strict=True):
            self._key(row, name)
        pages = sum(row["team_id"] == _DASHBOARD for row in self._db.keys)
        if pages:
            self._plan.note(
                "keys", "lost", f"{pages} keys of sessions of LiteLLM's pages: people sign in to the console"
            )
        apart = [name for row, name in zip(rows, _key_names(rows), strict=True) if self._is_paid_by_team(row)]
        if apart:
            named = ", ".join(apart[:_MOST_NAMED]) + (" …" if len(apart) > _MOST_NAMED else "")
            text = (
                f"{len(apart)} keys of teams ({named}) stay outside the limits of their users, as budgets do in "
                "LiteLLM without apply_user_budget_to_team_keys, but not rates; `person` of such a key includes it"
            )
            self._plan.note("keys.user_id", "changed", text)

    def _people(self) -> None:
        """The people whom keys name: users that have a key, or a limit."""
        owners = {row["user_id"] for row in self._db.keys if row["user_id"]}
        rows = [row for row in self._db.users if row["user_id"] in owners or _limits_something(row, _OF_USERS)]
        for row, person in zip(rows, _people_names(rows), strict=True):
            path = f"users[{person}]"
            if row["max_parallel_requests"]:
                text = "LiteLLM holds it over no calls; `limits.concurrency` of a person would"
                self._plan.note(f"{path}.max_parallel_requests", "lost", text)
            limits = self._limits(path, {**row, "max_parallel_requests": None}, {}, "User", row["user_id"])
            self._lost("users", path, row)
            pays = any(row.get(column) for column in _MONEY)
            self._users[row["user_id"]] = _User(person, limits, self._allowed(path, row["models"] or []), pays)
            if row["user_id"] != _OF_ADMINS or limits.limits:
                self._plan.people[person] = {"limits": limits.limits} if limits.limits else {}

    def _is_paid_by_team(self, row: Row) -> bool:
        """Whether a key is in a team, and its user's budget holds over keys without one alone."""
        user = self._users.get(row["user_id"] or "")
        return user is not None and user.pays and bool(row["team_id"]) and not self._of_team_keys

    def _of_user(self, path: str, row: Row, body: dict[str, Any]) -> None:
        """Adds what the key's user says: the person, and of a key without a team the models."""
        user = self._users.get(row["user_id"] or "")
        if user is None:
            if row["user_id"] and row["user_id"] != _OF_ADMINS:
                self._plan.note(f"{path}.user_id", "lost", f"there is no user {row['user_id']}")
            return
        if not row["team_id"] and user.models:
            own = body.get("models")
            most = user.models["models"]
            body["models"] = most if own is None else [name for name in own if not is_unknown(name, most)]
        if self._is_paid_by_team(row):
            return
        if user.person in self._plan.people:
            body["person"] = user.person
        if user.limits.closed:
            body["disabled"] = True
            self._plan.note(path, "changed", f"a limit of {user.person} allows nothing: the key is disabled")

    def _left_out(self, row: Row) -> bool:
        """Notes a key that opens nothing."""
        if row["team_id"] == _DASHBOARD:
            return True
        path = f"keys[{row['key_alias'] or row['token'][:_SHORT]}]"
        expires = utc(row["expires"])
        if expires is not None and expires <= self._now:
            self._plan.note(path, "lost", f"it expired at {expires:%Y-%m-%dT%H:%M:%SZ}")
            return True
        if row["key_type"] in _NOT_FOR_CALLS:
            self._plan.note(path, "lost", f"a key of type {row['key_type']}: `admin.tokens` are for the admin API")
            return True
        return False

    def _key(self, row: Row, name: str) -> None:
        path = f"keys[{name}]"
        limits = self._limits(path, row, self._budgets.get(row["budget_id"] or "", {}), "Key", row["token"])
        self._lost("keys", path, row)
        body = {"name": name, "sha256": row["token"]} | _settings(limits, disabled=row["blocked"])
        if row["team_id"] in self._teams:
            body["team"] = self._teams[row["team_id"]]
        elif row["team_id"]:
            body["disabled"] = True
            text = f"there is no team {row['team_id']}, so its limits are unknown: the key is disabled"
            self._plan.note(f"{path}.team_id", "changed", text)
        if row["organization_id"] and not row["team_id"]:
            text = (
                "a key belongs to an organization through its team only: the organization's limits do not hold for it"
            )
            self._plan.note(f"{path}.organization_id", "lost", text)
        if row["expires"] is not None:
            body["expires"] = _text(utc(row["expires"]))
        tags = self._tags(path, row)
        body |= self._allowed(path, self._with_groups(row)) | ({"tags": tags} if tags else {})
        self._of_user(path, row, body)
        own = _keeps_no_content(row)
        if own if own is not None else self._content.get(row["team_id"]):
            body["content"] = "metadata"
            text = "became `content: metadata`: no content of its calls is recorded, so nothing of it can be evaluated"
            self._plan.note(f"{path}.metadata.turn_off_message_logging", "changed", text)
        self._add("key", name, body)

    def _limits(self, path: str, row: Row, shared: Row, entity: str, id: str) -> CarriedLimits:
        found = limits_of_row(row, shared, self._windows(row, entity, id), self._now)
        for text in found.changed:
            self._plan.note(f"{path}.limits", "changed", text)
        self._limits_of_models(path, row, shared, found)
        if shared.get("temp_budget_increase"):
            text = "raise the limit for as long as you need it"
            self._plan.note(f"{path}.budget.temp_budget_increase", "lost", text)
        return found

    def _limits_of_models(self, path: str, row: Row, shared: Row, found: CarriedLimits) -> None:
        """Adds the budgets and rates of single models as `limits.models`."""
        duration = row.get("budget_duration") or shared.get("budget_duration")
        for name, of in budgets_of_models(row, shared).items():
            at, own = f"{path}.limits.models.{name}", limits_of_model(of, duration, self._now)
            if name not in self._models.aliases:
                self._plan.note(at, "lost", "this gateway.yaml has no such model name")
            elif own.closed:
                self._plan.note(at, "lost", "an amount of 0 would not be a limit here: leave the model out of `models`")
            elif not own.limits:
                self._plan.note(at, "lost", "it has no amount that is known here")
            else:
                found.limits.setdefault("models", {})[name] = own.limits
                spent = any(limit.startswith("usd") for limit in own.limits)
                unknown = ["what was spent before is not in the database: it begins at 0"] if spent else []
                if remarks := [*own.changed, *unknown]:
                    self._plan.note(at, "changed", "; ".join(remarks))

    def _windows(self, row: Row, entity: str, id: str) -> Iterator[RollingBudget]:
        """The budgets of `budget_limits`."""
        for window in row.get("budget_limits") or []:
            duration, resets = str(window["budget_duration"]), utc(_moment(window.get("reset_at")))
            spent = self._spent.get((entity, id, duration))
            yield RollingBudget(window["max_budget"], duration, _in_window(spent, duration, resets), resets)

    def _with_groups(self, row: Row) -> list[str]:
        groups = [name for id in row.get("access_group_ids") or [] for name in self._of_access_group.get(id, [])]
        return [*(row["models"] or []), *groups]

    def _allowed(self, path: str, names: Sequence[str]) -> dict[str, Any]:
        """The setting `models`; {}: all. If none of the names is served here, the result is not "all"."""
        if not names or _ALL & set(names):
            return {}
        found, unknown = self._models.allowed(name for name in names if name != _NONE)
        for name in unknown:
            self._plan.note(f"{path}.models", "lost", f'this gateway.yaml has no model "{name}"')
        return {"models": found}

    def _tags(self, path: str, row: Row) -> list[str]:
        found = (row["metadata"] or {}).get("tags") or []
        kept = [tag for tag in found if isinstance(tag, str) and _plain(tag) == tag][:_MOST_TAGS]
        for tag in found:
            if tag not in kept:
                self._plan.note(f"{path}.metadata.tags", "lost", f"{tag!r}: a tag has no spaces, quotes or braces")
        return kept

    def _lost(self, kind: str, path: str, row: Row) -> None:
        """Notes the settings that have no equal."""
        for column, text in KNOWN["lost"][kind].items():
            if row.get(column) and row[column] != _LLM_ROUTES:
                self._plan.note(f"{path}.{column}", "lost", text)
        for name, value in (row["metadata"] or {}).items():
            if value and name in KNOWN["lost"]["metadata"]:
                self._plan.note(f"{path}.metadata.{name}", "lost", KNOWN["lost"]["metadata"][name])

    def _elsewhere(self) -> None:
        """Notes the records of other kinds that limit something."""
        limited: Mapping[str, tuple[Callable[[Row], str], Callable[[Row], bool]]] = {
            "end_users": (lambda r: r["user_id"], _limits_something),
            "tags": (lambda r: r["tag_name"], _limits_something),
            "members": (lambda r: f"{self._teams.get(r['team_id'], r['team_id'])}/{r['user_id']}", _limits_something),
            "projects": (lambda r: r["project_alias"] or r["project_id"], _limits_something),
            "model_groups": (lambda r: r["access_group_name"], _limits_something),
        }
        for kind, (name, limits) in limited.items():
            for row in getattr(self._db, kind):
                if limits(row):
                    self._plan.note(f"{kind}[{name(row)}]", "lost", KNOWN["elsewhere"][kind])
        for row in self._db.old_keys:
            if (until := utc(row["revoke_at"])) is not None and until > self._now:
                text = (
                    f"its former secret, which opens it until {_text(until)}: callers need the new one before the move"
                )
                self._plan.note(f"keys[{row['active_token_id'][:_SHORT]}]", "lost", text)

    def _add(self, kind: Kind, name: str, body: Mapping[str, Any]) -> None:
        self._plan.records.append(PlannedRecord(kind, name, body))


_NAMES = frozenset({"user_id", "tag_name", "team_id", "project_id", "project_alias", "access_group_name"})
_OF_USERS = _NAMES | {"user_email", "user_alias", "spend", "budget_duration", "budget_reset_at", "metadata", "policies"}


def _limits_something(row: Row, names: frozenset[str] = _NAMES) -> bool:
    """names: columns that limit nothing."""
    return any(value for name, value in row.items() if name not in names)


def _keeps_no_content(row: Row) -> bool | None:
    """Whether the logging settings of a key or a team turn messages off; None if they say nothing about it."""
    metadata = row["metadata"] if isinstance(row["metadata"], Mapping) else {}
    logging = metadata.get("logging")
    settings = [metadata, *(logging if isinstance(logging, list) else [])]
    given = [
        each[_NO_MESSAGES]
        for entry in settings
        if isinstance(entry, Mapping)
        for each in (entry, entry.get("callback_vars"))
        if isinstance(each, Mapping) and each.get(_NO_MESSAGES) is not None
    ]
    return any(str(value).strip().lower() not in _FALSE for value in given) if given else None


def _settings(limits: CarriedLimits, *, disabled: bool | None = False) -> dict[str, Any]:
    found: dict[str, Any] = {"limits": limits.limits} if limits.limits else {}
    return found | ({"disabled": True} if disabled or limits.closed else {})


def _in_window(spent: Row | None, duration: str, resets: datetime | None) -> float:
    """Amount spent in the window that ends at the next reset: the row may still hold an earlier one."""
    length_s = seconds_of(duration)
    if spent is None or resets is None or length_s is None:
        return 0.0
    began = utc(spent["window_start"])
    assert began is not None  # noqa: S101 - the column is NOT NULL
    return float(spent["spend"]) if began.timestamp() > resets.timestamp() - 2 * length_s else 0.0


def _ids(rows: Sequence[Row], id: str, alias: str) -> dict[str, str]:
    """The id of each record here: its alias, without letters that ids do not allow, and with a part of its own id where
    two are equal."""
    wished = {row[id]: re.sub(r"[^A-Za-z0-9._-]+", "-", row[alias] or row[id]).strip("-._")[:180] for row in rows}
    often = Counter(wished.values())
    return {
        own: name if name and often[name] == 1 else f"{name or 'x'}-{re.sub('[^A-Za-z0-9]', '', own)[:_SHORT]}"
        for own, name in wished.items()
    }


def _people_names(rows: Sequence[Row]) -> list[str]:
    """The name of each user here: address or alias, else the id; with a part of the id where two are equal."""
    wished = [_plain(row["user_email"] or row["user_alias"] or row["user_id"])[:180] for row in rows]
    often = Counter(wished)
    return [
        name if often[name] == 1 else f"{name}-{_plain(row['user_id'])[:_SHORT]}"
        for name, row in zip(wished, rows, strict=True)
    ]


def _key_names(rows: Sequence[Row]) -> list[str]:
    wished = [_plain(row["key_alias"] or f"litellm-{row['token'][:_SHORT]}")[:180] for row in rows]
    often = Counter(wished)
    return [
        name if name and often[name] == 1 and name not in _RESERVED else f"{name}-{row['token'][:_SHORT]}"
        for name, row in zip(wished, rows, strict=True)
    ]


def _plain(name: str) -> str:
    """The name without what names cannot have here."""
    return re.sub(r"[\s\x00-\x1f\x7f{}\"\\]+", "-", name)


def _moment(value: Any) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
