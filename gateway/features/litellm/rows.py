"""LiteLLM's database, read as a whole in one read-only transaction. Writes nothing, and refuses tables that lack
a column."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from gateway.core.errors import CannotRun
from gateway.store.engine import other_reader, without_password

KNOWN: dict[str, Any] = tomllib.loads((files("gateway.features.litellm") / "litellm.toml").read_text("utf-8"))
Row = Mapping[str, Any]
_MIGRATIONS = "_prisma_migrations"
_SHOWN = 3
_AS_KNOWN = "all columns that are read are there, and are read as those of LiteLLM {}: compare the preview with LiteLLM"


@dataclass(frozen=True, slots=True)
class LiteLLMDatabase:
    """The rows of each table, by the columns that litellm.toml names."""

    organizations: Sequence[Row]
    teams: Sequence[Row]
    keys: Sequence[Row]
    budgets: Sequence[Row]
    windows: Sequence[Row]
    """Amounts spent in the windows of `budget_limits`."""
    models: Sequence[Row]
    credentials: Sequence[Row]
    users: Sequence[Row]
    end_users: Sequence[Row]
    tags: Sequence[Row]
    members: Sequence[Row]
    projects: Sequence[Row]
    model_groups: Sequence[Row]
    access_groups: Sequence[Row]
    old_keys: Sequence[Row]
    """Secrets that were rotated and still open a key until a time."""
    warnings: Sequence[str] = ()
    """Signs that the tables are of another version than the known one, in which they may mean something else."""


def read_database(url: str) -> LiteLLMDatabase:
    """Reads LiteLLM's database. Raises CannotRun if it cannot be reached, or lacks a table or a column."""
    engine = other_reader(url, "--database-url")
    try:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            warnings = _version_warnings(connection)
            _check_columns(connection)
            found = LiteLLMDatabase(**{name: _rows(connection, name) for name in KNOWN["tables"]}, warnings=warnings)
    except DBAPIError as error:
        raise CannotRun(f"{without_password(url)} cannot be read: {error.orig}") from error
    finally:
        engine.dispose()
    _check_digests(found.keys)
    return found


def _rows(connection: Connection, name: str) -> list[Row]:
    table, columns = KNOWN["tables"][name]["table"], KNOWN["tables"][name]["columns"]
    names = ", ".join(f'"{column}"' for column in columns)
    query = text(f'SELECT {names} FROM "{table}" ORDER BY 1')  # noqa: S608 - names of our own file
    return [dict(row) for row in connection.execute(query).mappings()]


def _version_warnings(connection: Connection) -> tuple[str, ...]:
    """Warnings about another version than the known one. Raises CannotRun in the middle of a migration."""
    release, newest = KNOWN["version"]["release"], KNOWN["version"]["newest"]
    if not inspect(connection).has_table(_MIGRATIONS):
        return (f"it has no table {_MIGRATIONS}, so its version is unknown; {_AS_KNOWN.format(release)}",)
    query = text(f"SELECT migration_name, finished_at, rolled_back_at FROM {_MIGRATIONS}")  # noqa: S608 - a constant
    rows = connection.execute(query).all()
    applied = {name for name, finished, rolled_back in rows if finished is not None and rolled_back is None}
    begun = {name for name, finished, rolled_back in rows if finished is None and rolled_back is None} - applied
    if begun:
        raise CannotRun(
            f"the database is in the middle of a migration: {_listed(begun)} began and did not end; start LiteLLM "
            f"{release} once, so that it finishes, and import again"
        )
    last = max(applied, default="none")
    if last in newest:
        return ()
    return (
        f"its newest migration is {last}, and that of LiteLLM {release} is {newest[-1]}; {_AS_KNOWN.format(release)}",
    )


def _check_columns(connection: Connection) -> None:
    """Raises CannotRun for tables that lack what their migrations should have made."""
    known, missing = inspect(connection), []
    for table in KNOWN["tables"].values():
        if not known.has_table(table["table"]):
            missing.append(table["table"])
            continue
        there = {column["name"] for column in known.get_columns(table["table"])}
        missing += [f"{table['table']}.{name}" for name in table["columns"] if name not in there]
    if missing:
        raise CannotRun(
            f"the database lacks {_listed(missing)} of LiteLLM {KNOWN['version']['release']}; start this version of "
            "LiteLLM once, so that it brings its tables up to date"
        )


def _check_digests(keys: Iterable[Row]) -> None:
    """Raises CannotRun for keys that are not stored as a SHA-256. Their text is a secret, so it is not shown."""
    wrong = [str(key["key_alias"] or key["key_name"] or "a key without a name") for key in keys if not _is_digest(key)]
    if wrong:
        raise CannotRun(
            f"{len(wrong)} of {len(list(keys))} keys are not stored as SHA-256 digests: {_listed(wrong)}; make them "
            "again in LiteLLM, or delete them there"
        )


def _is_digest(key: Row) -> bool:
    token = key["token"]
    return len(token) == 64 and not set(token) - set("0123456789abcdef")


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
