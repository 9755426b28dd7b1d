"""Sessions of the console, and the login links that were used. By digest: the contents of the store open nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from sqlalchemy import Connection, delete, select

from gateway.config.admin import Role
from gateway.store.engine import insert
from gateway.store.query import Reading
from gateway.store.tables import console_links, console_sessions


@dataclass(frozen=True, slots=True)
class SessionRow:
    digest: str
    """SHA-256 of the cookie, in hexadecimal."""
    name: str
    role: Role
    content: bool
    token: str
    """SHA-256 of the admin token; "" if it depends on none."""
    created: float
    """Unix seconds."""
    expires: float
    team: str | None = None
    """The team to which its rights are limited; None: none."""
    organization: str | None = None


_COLUMNS = [console_sessions.c[field.name] for field in fields(SessionRow)]


def add_session(connection: Connection, row: SessionRow, now: float) -> None:
    """Adds a session, and removes those that have expired."""
    connection.execute(delete(console_sessions).where(console_sessions.c.expires <= now))
    connection.execute(console_sessions.insert().values(asdict(row)))


def find_session(connection: Reading, digest: str) -> SessionRow | None:
    row = connection.execute(select(*_COLUMNS).where(console_sessions.c.digest == digest)).first()
    return None if row is None else SessionRow(*row)


def delete_session(connection: Connection, digest: str) -> None:
    connection.execute(delete(console_sessions).where(console_sessions.c.digest == digest))


def use_link(connection: Connection, digest: str, expires: float, now: float) -> bool:
    """Marks a login link as used. False if it was used before, by any process."""
    connection.execute(delete(console_links).where(console_links.c.expires <= now))
    statement = insert(connection.dialect, console_links).values(digest=digest, expires=expires)
    counted = statement.on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    return connection.execute(counted).rowcount == 1
