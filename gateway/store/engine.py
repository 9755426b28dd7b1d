"""Opens a store and brings its tables up to date. Knows the differences between SQLite and PostgreSQL."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Table, create_engine, event, inspect, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from gateway.core.errors import CannotRun, is_disk_error
from gateway.core.extras import install_command

log = logging.getLogger(__name__)

Transaction = Connection
"""The connection that `Store.run` passes to the code that it runs: modules above need not import SQLAlchemy."""
QueryFailed = DBAPIError
"""The error of a query, for modules above."""
BUSY_MS = 10_000
"""Time that a SQLite connection waits for another's lock."""
_POLL_S = 0.002
"""Interval between two attempts to begin a transaction on SQLite. Its own busy handler retries every 0.1 s only; a
consumer that writes batch after batch leaves gaps of a few milliseconds, which that handler misses for seconds."""
_VERSION = text("SELECT version_num FROM alembic_version")
_LOCK = 0x6761_7465  # of PostgreSQL: one migration at a time
_OLDEST = "0032"
"""Version of the oldest store that can be migrated: the version of stores before the first release."""
_MIGRATES_OLDER = "d2c46d8"
"""The last commit of this program that has the migrations before _OLDEST."""


_POSTGRES: dict[str, str | int] = {
    "connect_timeout": 5,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "options": "-c statement_timeout=300000 -c lock_timeout=60000",
}
"""Parameters of libpq, so that a server that disappears silently is detected within half a minute; parameters of
store.url win. The longest statements are those of retention and reports."""


_PRISMA = (
    "schema",
    "connection_limit",
    "pool_timeout",
    "socket_timeout",
    "pgbouncer",
    "statement_cache_size",
    "sslaccept",
    "sslidentity",
    "sslpassword",
    "single_use_connections",
)  # parameters of Prisma's URLs that libpq refuses


class StoreUnavailable(CannotRun):
    """The URL has no readable store of this version; the message says what to do."""


class StoreUnreachable(StoreUnavailable):
    """The database cannot be reached or is busy now; later it may be."""


def writer(url: str, busy_ms: int = BUSY_MS) -> Engine:
    """An engine that writes. Creates the database and applies missing migrations. Raises StoreUnavailable."""
    engine = connect_writer(url, busy_ms)
    try:
        migrate(engine)
    except DBAPIError as error:
        engine.dispose()
        kind = StoreUnreachable if _is_away(error) else StoreUnavailable
        raise kind(f"{without_password(url)} cannot be opened as a store: {error.orig}") from error
    except StoreUnavailable:
        engine.dispose()
        raise
    return engine


def _is_away(error: DBAPIError) -> bool:
    """Tells whether the same attempt may succeed later: a server that cannot be reached, a file that is locked, or a
    disk that is full."""
    if isinstance(error.orig, sqlite3.Error):
        return any(word in str(error.orig) for word in ("locked", "full", "disk I/O error"))
    return isinstance(error, OperationalError)


def connect_writer(url: str, busy_ms: int = BUSY_MS, sleep: Callable[[float], None] = time.sleep) -> Engine:
    """An engine that writes, to a database whose tables may be missing or old. sleep: between attempts to begin."""
    target = _url(url)
    _make_private(target)
    engine = _made(target)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", partial(_prepare_writer, busy_ms, sleep))
        event.listen(engine, "begin", partial(_begin_immediate, busy_ms, sleep))
    return engine


def migrate_store(url: str) -> str | None:
    """Creates or migrates the store. Returns its previous version, None for a new store. Raises StoreUnavailable."""
    opened = connect_writer(url)
    try:
        found = _version(opened)
        migrate(opened)
    except DBAPIError as error:
        raise StoreUnavailable(f"{without_password(url)} cannot be opened as a store: {error.orig}") from error
    finally:
        opened.dispose()
    return found


def reader(url: str, *, keep: bool = True) -> Engine:
    """An engine that only reads. keep: it keeps its connections open. Raises StoreUnavailable."""
    target = _url(url)
    if target.get_backend_name() == "sqlite":
        path = Path(target.database or "")
        if not path.is_file():
            raise StoreUnavailable(f"no store at {path} yet; `gateway up` or `gateway evaluate` creates it")
        target = target.set(database=f"file:{_quoted(path)}", query={"mode": "ro", "uri": "true"})
    engine = _made(target, keep)
    event.listen(engine, "connect", _wait_when_busy if engine.dialect.name == "sqlite" else _only_read)
    try:
        _check_version(engine, url)
    except StoreUnavailable:
        engine.dispose()
        raise
    return engine


def other_reader(url: str, option: str) -> Engine:
    """An engine that only reads another program's database on PostgreSQL. option: the name of the setting that has the
    URL, for errors. Raises StoreUnavailable. Parameters of the URL that only Prisma knows are left out."""
    target = _url(url, option)
    if target.get_backend_name() != "postgresql":
        raise StoreUnavailable(f"{option}: expected postgresql://USER@HOST/DATABASE")
    schema = target.query.get("schema")
    target = target.difference_update_query(_PRISMA)
    if isinstance(schema, str):
        target = target.update_query_dict({"options": f"-c search_path={schema}"})
    engine = _made(target)
    event.listen(engine, "connect", _only_read)
    return engine


def empty_log(url: str) -> bool:
    """Empties SQLite's write-ahead log into the database, so that the log holds no deleted or overwritten data. False
    if another process was reading it all the time. A PostgreSQL server recycles its own log.
    """
    target = _url(url)
    if target.get_backend_name() != "sqlite" or target.database in (None, "", ":memory:"):
        return True
    with closing(sqlite3.connect(str(target.database), timeout=BUSY_MS / 1000)) as connection:
        return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)


def migrate(engine: Engine, to: str = "head") -> None:
    """Applies missing migrations in one transaction; programs that start at the same time wait for the first.

    to: the number of the last migration to apply.
    """
    before = _version(engine)
    if to == "head" and before == head():
        return
    _check_known(before)
    from alembic import command  # slow to import, and usually there is nothing to do

    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, to)
    if before is not None:
        log.info("store migrated: from version %s to %s", before, head() if to == "head" else to)


def _check_known(found: str | None) -> None:
    """Raises StoreUnavailable for tables that are older or newer than the migrations of this package."""
    newest = head()
    if found is not None and found < _OLDEST:
        raise StoreUnavailable(
            f"the store has tables of version {found}, this program migrates stores from version {_OLDEST}: run "
            f"`gateway migrate` of the program at commit {_MIGRATES_OLDER} first, then this one"
        )
    if found is not None and newest is not None and found > newest:
        raise StoreUnavailable(
            f"the store has tables of version {found}, this program knows {newest}: a newer program has migrated "
            "it, so use that version, or a copy of the store from before"
        )


def head() -> str | None:
    """The number of the newest migration in this package: its files are numbered."""
    numbers = [path.name[:4] for path in (Path(__file__).parent / "migrations" / "versions").glob("[0-9]*.py")]
    return max(numbers, default=None)


def _version(engine: Engine) -> str | None:
    """The number of the last applied migration; None if there are no tables."""
    with engine.connect() as connection:
        there = inspect(connection).has_table("alembic_version")
        found = connection.execute(_VERSION).scalar() if there else None
        return None if found is None else str(found)


def insert(dialect: Dialect, table: Table) -> Any:
    """An INSERT of this dialect, which has on_conflict_do_nothing and on_conflict_do_update."""
    of = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    return of(table)


def replacing(
    dialect: Dialect, table: Table, names: Iterable[str], where: Callable[[Any], ColumnElement[bool]] | None = None
) -> Any:
    """An INSERT that replaces these columns of the row with the same primary key, if there is one.

    where: whether the row is replaced, from the new values' columns.
    """
    statement = insert(dialect, table)
    key, given = table.primary_key.columns.keys(), statement.excluded
    later = {name: given[name] for name in names if name not in key}
    condition = None if where is None else where(given)
    return statement.on_conflict_do_update(index_elements=key, set_=later, where=condition)


def adding(dialect: Dialect, table: Table, names: Iterable[str]) -> Any:
    """An INSERT that adds these columns to those of the row with the same primary key, if there is one."""
    statement = insert(dialect, table)
    more = {name: table.c[name] + statement.excluded[name] for name in names}
    return statement.on_conflict_do_update(index_elements=table.primary_key.columns.keys(), set_=more)


_STEPS = 10_000  # of SQLite's virtual machine, between two looks at a deadline: less than a millisecond


@contextmanager
def query_deadline(connection: Connection, seconds: float) -> Iterator[None]:
    """Interrupts queries of this transaction: on SQLite when it has taken so long, on PostgreSQL each that does."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, round(1000 * seconds))}")
        yield
        return
    driver: Any = connection.connection.driver_connection
    deadline = time.monotonic() + seconds
    driver.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)


def interrupted(error: DBAPIError) -> bool:
    """Tells whether a query was ended by its deadline."""
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_INTERRUPT
    return type(error.orig).__name__ == "QueryCanceled"


def transient(error: DBAPIError) -> bool:
    """Tells whether the same write may succeed later (locked, full, unreachable); False if the rows are rejected."""
    rejections = {"DataError", "IntegrityError"}
    if isinstance(error.orig, sqlite3.Error):
        rejections.add("ProgrammingError")  # in SQLite: a value of an unknown type; elsewhere: no such table
    kinds = {kind.__name__ for kind in type(error.orig).__mro__}  # psycopg has a class for each code of PostgreSQL
    return error.connection_invalidated or rejections.isdisjoint(kinds) or "UniqueViolation" in kinds


_MISTAKES = ("42601", "42702", "42703", "42725", "42803", "42804", "42883", "42P02")
"""PostgreSQL's codes of a syntax error, and of a column, function, parameter or type that does not fit. Missing tables
and privileges are none: a store that is being restored has neither."""
_SQLITE_MISTAKES = (
    "syntax error",
    "no such column",
    "no such function",
    "ambiguous column",
    "wrong number of arguments",
)


def mistaken(error: DBAPIError) -> bool:
    """Tells whether the statement itself is wrong, so that no later attempt succeeds."""
    if isinstance(error.orig, sqlite3.Error):
        return any(words in str(error.orig) for words in _SQLITE_MISTAKES)
    return getattr(error.orig, "sqlstate", None) in _MISTAKES


def alembic_config() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "gateway.store:migrations")
    config.set_main_option("path_separator", "os")
    return config


def without_password(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


def _url(url: str, option: str = "store.url") -> URL:
    """Raises StoreUnavailable for another kind of URL."""
    try:
        target = make_url(url)
    except ArgumentError:
        raise StoreUnavailable(
            f"{option} is not a URL; expected sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        ) from None
    if target.drivername in ("postgresql", "postgres"):
        target = target.set(drivername="postgresql+psycopg")
    if target.drivername not in ("sqlite", "postgresql+psycopg"):
        raise StoreUnavailable(
            f"{option}: {target.drivername} is not supported; expected sqlite:///FILE or postgresql://…"
        )
    return target


def _made(target: URL, keep: bool = True) -> Engine:
    pool: dict[str, Any] = {} if keep else {"poolclass": NullPool}
    try:
        if target.get_backend_name() != "postgresql":
            return create_engine(target, **pool)
        given = {name: value for name, value in _POSTGRES.items() if name not in target.query}
        return create_engine(target, connect_args=given, pool_pre_ping=keep, **pool)
    except ModuleNotFoundError as error:
        raise CannotRun(f"a store on PostgreSQL needs psycopg: {install_command('postgres')}") from error


def _make_private(target: URL) -> None:
    """Lets only the owner read prompts and answers; SQLite gives its other files the mode of the first."""
    if target.get_backend_name() == "sqlite" and target.database not in (None, "", ":memory:"):
        path = Path(str(target.database))
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600, exist_ok=True)
        except OSError as error:
            if not is_disk_error(error):
                raise
            raise StoreUnreachable(f"{path} cannot be created as a store: {error.strerror}") from error


def _quoted(path: Path) -> str:
    return str(path.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _prepare_writer(busy_ms: int, sleep: Callable[[float], None], connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions begin in _begin_immediate, also around DDL
    # secure_delete: what is deleted is overwritten, also where SQLite was not built so.
    # synchronous=FULL: what is acknowledged to the stream must outlive a power cut.
    # page_size: of a new file; others keep theirs. An exchange of 4 KB fits on a page, and the log takes fewer of them.
    for pragma in (
        "page_size=16384",
        f"busy_timeout={busy_ms}",
        "synchronous=FULL",
        "cache_size=-65536",
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")
    _write_ahead(busy_ms, sleep, connection)


def _write_ahead(busy_ms: int, sleep: Callable[[float], None], connection: sqlite3.Connection) -> None:
    """Sets the journal of a file. If several programs do so for a new file at the same time, SQLite refuses some
    without a wait."""
    deadline = time.monotonic() + busy_ms / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        sleep(_POLL_S)


def _wait_when_busy(connection: sqlite3.Connection, _: object) -> None:
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")


def _only_read(connection: Any, _: object) -> None:
    connection.read_only = True


def _begin_immediate(busy_ms: int, sleep: Callable[[float], None], connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    deadline = time.monotonic() + busy_ms / 1000
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while _is_busy(driver) and time.monotonic() < deadline:
            sleep(_POLL_S)
        if not driver.in_transaction:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # the same failure, as an error of SQLAlchemy
    finally:
        driver.execute(f"PRAGMA busy_timeout={busy_ms}")


def _is_busy(driver: sqlite3.Connection) -> bool:
    """Tries to begin a transaction. True if another connection is writing."""
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    return False


def _check_version(engine: Engine, url: str) -> None:
    try:
        with engine.connect() as connection:
            found = connection.execute(_VERSION).scalar()
    except DBAPIError as error:
        raise StoreUnavailable(f"{without_password(url)} cannot be read as a store: {error.orig}") from error
    _check_known(found)
    if found != head():
        raise StoreUnavailable(
            f"{without_password(url)} has tables of version {found}, this program reads {head()}; run `gateway migrate`"
        )
