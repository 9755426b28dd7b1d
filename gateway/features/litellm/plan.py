"""Translation of LiteLLM's organizations, teams and keys: bodies of the admin API, and a line for each setting without
an equivalent. Pure.
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
_SHORT = 8
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


def plan_of(database: LiteLLMDatabase, models: KnownModels, now: datetime) -> ImportPlan:
    """models: those of the gateway.yaml that the gateways run with."""
    plan = ImportPlan()
    _Planner(database, models, now, plan).run()
    return plan


class _Planner:
    """One import. Fills the plan."""

    def __init__(self, database: LiteLLMDatabase, models: KnownModels, now: datetime, plan: ImportPlan) -> None:
        self._db, self._models, self._now, self._plan = database, models, now, plan
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
        self._keys()
        self._elsewhere()
        if any("carried" in record.body.get("limits", {}) for record in self._plan.records):
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
        people = sum(bool(row["user_id"]) for row in rows)
        if people:
            text = f"the person of {people} keys: a key belongs to a team here; tags and names can say whose it is"
            self._plan.note("keys.user_id", "lost", text)

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
            self._plan.note(f"{path}.team_id", "lost", f"there is no team {row['team_id']}")
        if row["organization_id"] and not row["team_id"]:
            text = (
                "a key belongs to an organization through its team only: the organization's limits do not hold for it"
            )
            self._plan.note(f"{path}.organization_id", "lost", text)
        if row["expires"] is not None:
            body["expires"] = _text(utc(row["expires"]))
        tags = self._tags(path, row)
        body |= self._allowed(path, self._with_groups(row)) | ({"tags": tags} if tags else {})
        self._add("key", name, body)

    def _limits(self, path: str, row: Row, shared: Row, entity: str, id: str) -> CarriedLimits:
        found = limits_of_row(row, shared, self._windows(row, entity, id), self._now)
        for text in found.changed:
            self._plan.note(f"{path}.limits", "changed", text)
        self._limits_of_models(path, row, shared, found)
        if shared.get("temp_budget_increase"):
            self._plan.note(f"{path}.budget.temp_budget_increase", "lost", "no such setting")
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
            "users": (lambda r: r["user_id"], _limits_something),
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


def _limits_something(row: Row) -> bool:
    names = ("user_id", "tag_name", "team_id", "project_id", "project_alias", "access_group_name")
    return any(value for name, value in row.items() if name not in names)


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
