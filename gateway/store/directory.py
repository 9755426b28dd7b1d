"""Keys, teams and organizations in the store, the source of truth of those that are not in gateway.yaml; and the audit.

Rows only: the layers above decide what is allowed, and name changes. A deleted row stays, marked, so that its usage can
still be attributed.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson
from sqlalchemy import Connection, RowMapping, Select, Table, func, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from gateway.core.exchange import new_id
from gateway.core.keys import AnyRecord, KeyRecord, OrganizationRecord, TeamRecord, record_kind
from gateway.store.engine import StoreUnavailable, reader, replacing
from gateway.store.engine import insert as upsert
from gateway.store.tables import audit, directory_state, keys, organizations, teams, usage

Kind = Literal["key", "team", "organization"]
Action = Literal["create", "change", "rotate", "delete", "start", "stop", "resume", "replay", "accept"]
Subject = Literal["key", "team", "organization", "experiment", "dead_letters", "drift", "run"]
"""Kinds of records that the audit tells changes of."""

_TABLES: Mapping[str, Table] = {"organization": organizations, "team": teams, "key": keys}
"""Tables in the order in which they refer to each other."""
_STATEMENT_MS = 4_000


@dataclass(frozen=True, slots=True)
class DirectoryState:
    """The identity of a store, and the version of its newest change."""

    epoch: str
    version: int


@dataclass(frozen=True, slots=True)
class DirectoryRow:
    """A key, a team or an organization with its columns in the store. Times in Unix seconds."""

    record: AnyRecord
    created: float
    updated: float
    version: int
    deleted: float | None = None
    """Time of the deletion; None if it is in force."""

    @property
    def published(self) -> AnyRecord:
        """The record as gateways see it: disabled if it has been deleted."""
        return self.record if self.deleted is None else replace(self.record, disabled=True)


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A change: its author, its time, and the record before and after (None if it did not exist)."""

    id: str = field(default_factory=new_id, kw_only=True)
    """Ids are ordered by time."""
    at: float
    actor: str
    role: str
    action: Action
    kind: Subject
    subject: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class DirectoryPage:
    """A page of rows, ordered by id. None: no condition."""

    after: str = ""
    """The last id of the previous page."""
    limit: int = 100
    team: str | None = None
    organization: str | None = None
    name: str | None = None
    digest: str | None = None
    """SHA-256 of a secret of the key."""
    deleted: bool = False
    """Include deleted rows."""
    person: str | None = None


def directory_state_of(connection: Connection) -> DirectoryState:
    """Reads the state; before the first change: version 0 and no epoch."""
    row = connection.execute(select(directory_state.c.epoch, directory_state.c.version)).first()
    return DirectoryState("", 0) if row is None else DirectoryState(row.epoch, row.version)


def ensure_directory(connection: Connection) -> DirectoryState:
    """Gives a new store its epoch."""
    first = upsert(connection.dialect, directory_state).values(id=1, epoch=secrets.token_hex(8), version=0)
    connection.execute(first.on_conflict_do_nothing())
    return directory_state_of(connection)


def begin_change(connection: Connection) -> int:
    """The version of the change that this transaction makes. Other transactions wait until it ends, so that versions
    become visible in their order; on PostgreSQL no statement of the transaction waits for longer than four seconds."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {_STATEMENT_MS}")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_STATEMENT_MS}")
    ensure_directory(connection)
    connection.execute(update(directory_state).values(version=directory_state.c.version + 1))
    return directory_state_of(connection).version


def begin_epoch(connection: Connection, above: int) -> DirectoryState:
    """Begins a new epoch, whose version is above that of the store and `above`: everything is published again."""
    version = max(begin_change(connection), above + 1)
    connection.execute(update(directory_state).values(epoch=secrets.token_hex(8), version=version))
    return directory_state_of(connection)


def limited_records(connection: Connection, most: int) -> list[AnyRecord]:
    """Records in force that have limits, at most `most` of each kind."""
    found: list[AnyRecord] = []
    for kind, table in _TABLES.items():
        query = select(table).where(table.c.deleted.is_(None), table.c.limits != "{}").order_by(table.c.id).limit(most)
        found += [row.record for row in _rows(connection, kind, query)]
    return found


def find_row(connection: Connection, kind: Kind, id: str) -> DirectoryRow | None:
    """Finds a row, even one that has been deleted."""
    table = _TABLES[kind]
    row = connection.execute(select(table).where(table.c.id == id)).mappings().first()
    return None if row is None else _row(kind, row)


def key_named(connection: Connection, name: str) -> DirectoryRow | None:
    """The key in force with this name."""
    query = select(keys).where(keys.c.name == name, keys.c.deleted.is_(None))
    row = connection.execute(query).mappings().first()
    return None if row is None else _row("key", row)


def key_with_digest(connection: Connection, digest: str) -> DirectoryRow | None:
    """The key that a secret opens or has opened, even one that has been deleted."""
    query = select(keys).where(keys.c.digests.contains(digest, autoescape=True)).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else _row("key", row)


def is_name_of_others(connection: Connection, name: str, team: str) -> bool:
    """Tells whether a key outside the team has this name, or had it: in force, revoked, or in gateway.yaml and used."""
    named = select(keys.c.id).where(keys.c.name == name, or_(keys.c.team.is_(None), keys.c.team != team))
    used = select(usage.c.key_id).where(usage.c.key_name == name, usage.c.team != team)
    return any(connection.execute(query.limit(1)).first() is not None for query in (named, used))


def is_team_of_others(connection: Connection, id: str, organization: str) -> bool:
    """Tells whether a team with this id has been used outside the organization."""
    used = select(usage.c.team).where(usage.c.team == id, usage.c.organization != organization).limit(1)
    return connection.execute(used).first() is not None


def list_rows(connection: Connection, kind: Kind, page: DirectoryPage) -> list[DirectoryRow]:
    """Lists rows by id, which for keys is the order in which they were made."""
    table = _TABLES[kind]
    query = select(table).where(table.c.id > page.after).order_by(table.c.id).limit(page.limit)
    if not page.deleted:
        query = query.where(table.c.deleted.is_(None))
    for name in ("team", "organization", "name", "person"):
        wanted = getattr(page, name)
        if wanted is not None and name in table.c:
            query = query.where(table.c[name] == wanted)
    if page.digest is not None and kind == "key":
        query = query.where(keys.c.digests.contains(page.digest, autoescape=True))
    return _rows(connection, kind, query)


def count_members(connection: Connection, kind: Kind, id: str) -> int:
    """The keys in force of a team, the teams in force of an organization."""
    column = teams.c.organization if kind == "organization" else keys.c.team
    query = select(func.count()).where(column == id, column.table.c.deleted.is_(None))
    return connection.execute(query).scalar_one()


def save_row(connection: Connection, row: DirectoryRow) -> None:
    """Adds a row, or replaces all of its values."""
    record = row.record
    values = {**_values(record), **{name: getattr(row, name) for name in ("created", "updated", "deleted", "version")}}
    connection.execute(replacing(connection.dialect, _TABLES[record_kind(record)], values).values(values))


def changed_since(connection: Connection, version: int, limit: int) -> tuple[DirectoryState, list[DirectoryRow]]:
    """The rows that changed after a version, in order of their versions, and the state that they lead to."""
    state = directory_state_of(connection)
    found: list[DirectoryRow] = []
    for kind, table in _TABLES.items():
        query = select(table).where(table.c.version > version, table.c.version <= state.version)
        found += _rows(connection, kind, query.order_by(table.c.version).limit(limit))
    return state, sorted(found, key=lambda row: row.version)[:limit]


def all_rows(connection: Connection, deleted_since: float) -> tuple[DirectoryState, list[DirectoryRow]]:
    """Reads every row in force, and those that were deleted after `deleted_since` (Unix seconds)."""
    state = directory_state_of(connection)
    found = []
    for kind, table in _TABLES.items():
        kept = or_(table.c.deleted.is_(None), table.c.deleted > deleted_since)
        found += _rows(
            connection, kind, select(table).where(kept, table.c.version <= state.version).order_by(table.c.id)
        )
    return state, found


def read_rows(url: str, deleted_since: float) -> tuple[DirectoryState, list[DirectoryRow]]:
    """Reads as `all_rows`, from the store at a URL. Raises StoreUnavailable."""
    opened = reader(url)
    try:
        with opened.connect() as connection:
            return all_rows(connection, deleted_since)
    except SQLAlchemyError as error:
        kind = type(error).__name__
        raise StoreUnavailable(f"keys cannot be read from the store ({kind}); is it of this version?") from error
    finally:
        opened.dispose()


def count_rows(connection: Connection) -> dict[str, int]:
    """The number in force, by kind."""
    counts = {kind: select(func.count()).where(table.c.deleted.is_(None)) for kind, table in _TABLES.items()}
    return {kind: connection.execute(query).scalar_one() for kind, query in counts.items()}


def add_audit(connection: Connection, row: AuditRow) -> None:
    values = {name: getattr(row, name) for name in row.__dataclass_fields__}
    for name in ("before", "after"):
        values[name] = None if values[name] is None else orjson.dumps(values[name]).decode()
    connection.execute(insert(audit).values(values))


def list_audit(connection: Connection, before: str | None, limit: int, subject: str | None = None) -> list[AuditRow]:
    """The newest first. before: the id that the page before ended with; subject: an id; None: no condition."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.id < before)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    return [_audit_row(row) for row in connection.execute(query).mappings()]


def _audit_row(row: RowMapping) -> AuditRow:
    values = {name: row[name] for name in AuditRow.__dataclass_fields__}
    for name in ("before", "after"):
        values[name] = None if values[name] is None else orjson.loads(values[name])
    return AuditRow(**values)


def _values(record: AnyRecord) -> dict[str, Any]:
    """The record's own columns."""
    names: Sequence[str] = record.__dataclass_fields__.keys()  # type: ignore[assignment]
    return {name: _stored(getattr(record, name)) for name in names}


def _stored(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, dict | tuple) else value


def _rows(connection: Connection, kind: str, query: Select[Any]) -> list[DirectoryRow]:
    return [_row(kind, row) for row in connection.execute(query).mappings()]


def _row(kind: str, row: RowMapping) -> DirectoryRow:
    common = {"id": row["id"], "limits": orjson.loads(row["limits"]), "disabled": bool(row["disabled"])}
    record: AnyRecord
    if kind == "organization":
        record = OrganizationRecord(**common)
    elif kind == "team":
        models, networks = _texts(row["models"]), _texts(row["networks"])
        record = TeamRecord(
            **common, organization=row["organization"], models=models, tags=_tags(row), networks=networks
        )
    else:
        record = KeyRecord(
            **common,
            name=row["name"],
            digests=tuple((digest, ends) for digest, ends in orjson.loads(row["digests"])),
            team=row["team"],
            models=_texts(row["models"]),
            allow=_texts(row["allow"]) or (),
            sample=row["sample"],
            content=row["content"],
            tags=_tags(row),
            expires=row["expires"],
            end_streams=bool(row["end_streams"]),
            networks=_texts(row["networks"]),
            traffic_class=row["traffic_class"],
            paths=_texts(row["paths"]),
            person=row["person"],
        )
    return DirectoryRow(record, row["created"], row["updated"], row["version"], row["deleted"])


def _texts(stored: str | None) -> tuple[str, ...] | None:
    return None if stored is None else tuple(orjson.loads(stored))


def _tags(row: RowMapping) -> tuple[str, ...]:
    return _texts(row["tags"]) or ()
