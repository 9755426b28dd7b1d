"""A store is made, kept up to date, private, and read without being changed."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from gateway.core.errors import CannotRun
from gateway.store import engine
from gateway.store.location import default_url
from gateway.store.tables import metadata

pytestmark = [pytest.mark.dialect, pytest.mark.usefixtures("migrating_writer")]


def test_the_migrations_make_the_tables_that_the_code_knows(store):
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_opening_again_changes_nothing(store, exchange):
    store.write(exchange())
    engine.writer(store.url).dispose()
    engine.migrate(store.engine)
    assert store.sql("SELECT count(*) FROM exchanges") == [(1,)]
    assert store.sql("SELECT version_num FROM alembic_version") == [(engine.head(),)]


def test_several_programs_may_open_a_new_store_at_once(new_url):
    url = new_url.replace("gateway.db", "new/gateway.db")
    with ThreadPoolExecutor(4) as pool:
        for opened in pool.map(engine.writer, [url] * 4):
            opened.dispose()
    reader = engine.reader(url)
    reader.dispose()


def test_a_writer_on_sqlite_finds_a_short_gap_after_a_long_wait(tmp_path):
    """A consumer that writes batch after batch leaves gaps of a few milliseconds; SQLite's own wait looks every 0.1 s.
    The lock is released after three hundred attempts."""
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    engine.writer(url).dispose()
    other = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waits = []

    def sleep(wait_s: float) -> None:
        waits.append(wait_s)
        if len(waits) == 300:
            other.execute("ROLLBACK")

    opened = engine.connect_writer(url, 60_000, sleep)
    with opened.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
    assert (len(waits), max(waits) <= 0.005) == (300, True)
    other.execute("BEGIN IMMEDIATE")
    hasty = engine.connect_writer(url, 30)
    with pytest.raises(DBAPIError, match="database is locked"), hasty.begin():
        pass
    for used in (hasty, opened):
        used.dispose()
    other.close()


def test_prompts_are_for_their_owner_only(file_store):
    before = os.umask(0)
    try:
        file_store.sql("SELECT 1")
        path = Path(file_store.url.removeprefix("sqlite:///"))
        modes = {stat.S_IMODE(p.stat().st_mode) for p in path.parent.glob("gateway.db*")}
    finally:
        os.umask(before)
    assert modes == {0o600}


def test_acknowledged_writes_outlive_a_power_cut(file_store):
    """WAL lets others read meanwhile; synchronous = 2 (FULL) makes each commit durable."""
    assert file_store.sql("PRAGMA journal_mode") == [("wal",)]
    assert file_store.sql("PRAGMA synchronous") == [(2,)]


def test_a_reader_cannot_write_and_sees_new_rows(store, exchange):
    reader = engine.reader(store.url)
    with reader.connect() as connection, pytest.raises(DBAPIError, match=r"read-?only"):
        connection.exec_driver_sql("DELETE FROM exchanges")
    store.write(exchange())
    with reader.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM exchanges").scalar() == 1
    reader.dispose()


def test_a_store_that_is_not_there_is_not_made_by_reading(tmp_path):
    path = tmp_path / "none.db"
    with pytest.raises(engine.StoreUnavailable, match=r"none\.db yet; `gateway up`"):
        engine.reader(f"sqlite:///{path}")
    assert not path.exists()


def test_a_file_that_is_not_a_store_is_named(tmp_path):
    (tmp_path / "x.db").write_bytes(b"not a database, but long enough to be looked at" * 30)
    with pytest.raises(engine.StoreUnavailable, match="cannot be read as a store"):
        engine.reader(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_store_of_another_version_says_what_to_do(store):
    store.run(lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '0032'"))
    with pytest.raises(engine.StoreUnavailable, match=r"version 0032, this program reads .*gateway migrate"):
        engine.reader(store.url)


@pytest.mark.parametrize(
    ("driver", "expected"),
    [("OperationalError", True), ("InterfaceError", True), ("DatabaseError", True), ("DataError", False),
     ("IntegrityError", False)],
)  # fmt: skip
def test_a_refusal_of_rows_is_told_from_a_failure_that_passes(driver, expected):
    orig = type(driver, (Exception,), {})()
    assert engine.transient(DBAPIError("INSERT", {}, orig)) is expected


def test_the_newest_migration_is_the_one_that_alembic_finds() -> None:
    script = ScriptDirectory.from_config(engine.alembic_config())
    assert engine.head() == script.get_current_head()


def test_an_up_to_date_store_opens_without_alembic(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    engine.writer(url).dispose()
    program = (
        "import sys; from gateway.store import engine; "
        f"engine.writer({url!r}).dispose(); engine.reader({url!r}).dispose(); print('alembic' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize("opened", [engine.writer, engine.reader, engine.migrate_store])
def test_a_server_that_is_unreachable_is_named_without_its_password(opened):
    with pytest.raises(engine.StoreUnavailable, match=r"postgresql://u:\*\*\*@127\.0\.0\.1:9/d cannot be") as raised:
        opened("postgresql://u:secret@127.0.0.1:9/d")
    assert "secret" not in str(raised.value)


def test_a_server_that_accepts_and_says_nothing_is_given_up():
    """The client library, libpq, would wait forever. The URL may say otherwise."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(engine.StoreUnavailable, match="timeout expired"):
            engine.reader(f"postgresql://u@{address}/d?connect_timeout=2")


def test_a_connection_to_postgresql_notices_that_its_server_has_gone(postgres_url):
    opened = engine.connect_writer(postgres_url)
    with opened.connect() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "5min"
        parameters = connection.connection.dbapi_connection.info.get_parameters()
        assert (parameters["connect_timeout"], parameters["tcp_user_timeout"]) == ("5", "15000")
        assert parameters["keepalives_idle"] == "15"
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    other = engine.connect_writer(postgres_url)
    with other.connect() as connection:
        connection.execute(text(f"SELECT pg_terminate_backend({pid})"))
    other.dispose()
    with opened.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1, "the dead connection was not handed out"
    opened.dispose()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gateway.db", "is not a URL; expected sqlite:///FILE"),
        ("mysql://u:secret@h/d", "mysql is not supported; expected"),
    ],
)
def test_an_unsupported_url_is_refused_without_showing_it(url, message):
    for opened in (engine.writer, engine.reader):
        with pytest.raises(engine.StoreUnavailable, match=message) as raised:
            opened(url)
        assert "secret" not in str(raised.value)


def test_a_missing_driver_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(CannotRun, match=r'pip install "assay-gateway\[postgres\]"'):
        engine.reader("postgresql://u@h/d")


@pytest.mark.parametrize("opening", [engine.writer, engine.reader, engine.migrate_store])
def test_a_store_of_a_newer_program_is_named_as_such(store, opening):
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(engine.StoreUnavailable, match=r"tables of version 9999, this program knows .*a newer program"):
        opening(store.url)


def test_a_migration_is_logged(new_url, caplog):
    caplog.set_level("INFO")
    opened = engine.connect_writer(new_url)
    engine.migrate(opened, "0032")
    assert "store migrated" not in caplog.text, "a new store has nothing to migrate"
    engine.migrate(opened)
    opened.dispose()
    assert f"store migrated: from version 0032 to {engine.head()}" in caplog.text


def test_a_full_disk_is_a_store_that_may_be_opened_later(tmp_path: Path) -> None:
    """A consumer waits for it then; other reasons end it."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(
            engine.StoreUnreachable, match=r"a.db cannot be opened as a store: (disk I/O|database or disk)"
        ):
            engine.writer(url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    engine.writer(url).dispose()
