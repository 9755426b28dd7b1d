"""The console's store: away, slow, locked or read-only, pages say so within its deadline."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from gateway.console.errors import AdminError, InvalidBody, StoreAway
from gateway.console.store import ConsoleStore
from gateway.core.keys import OrganizationRecord
from gateway.runtime.tasks import Tasks
from gateway.store.directory import DirectoryRow, begin_change, directory_state_of, save_row


def save(connection: Any, id: str = "acme") -> int:
    version = begin_change(connection)
    save_row(connection, DirectoryRow(OrganizationRecord(id, {}), 0.0, 0.0, version))
    return version


async def test_a_new_store_gets_its_tables_and_its_epoch(opened):
    store = await opened()
    assert store.is_open
    state = await store.run(directory_state_of)
    assert (state.version, len(state.epoch)) == (0, 16)
    assert await store.run(save) == 1


async def test_a_store_that_cannot_be_opened_is_opened_once_it_can_be(tmp_path: Path):
    blocked = tmp_path / "data"
    blocked.write_text("a file where the directory should be")
    store = ConsoleStore(f"sqlite:///{blocked / 'gateway.db'}")
    async with Tasks() as tasks:
        opening = tasks.start(store.open(), "store")
        with pytest.raises(StoreAway, match="the store cannot be used") as refused:
            await store.run(save)
        assert (refused.value.status, refused.value.retry_after_s) == (503, 2)
        blocked.unlink()
        async with asyncio.timeout(30):
            await opening
    assert await store.run(save) == 1
    await store.close()


async def test_a_locked_store_is_unreachable_and_comes_back(opened, tmp_path: Path):
    store = await opened(busy_ms=20)
    other = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreAway, match="database is locked"):
        await store.run(save)
    other.execute("ROLLBACK")
    assert await store.run(save) == 1
    other.close()


async def test_a_slow_store_is_given_up_at_the_deadline(opened, postgres_url: str):
    store = await opened(postgres_url, deadline_s=0.2)
    engine = create_engine(make_url(postgres_url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE directory_state"))
        with pytest.raises(StoreAway, match=r"did not answer within 0.2 s; whether a change was made is unknown"):
            await store.run(save)
    engine.dispose()


async def test_a_read_only_store_is_unreachable_for_changes_and_can_be_read(opened, postgres_url: str):
    store = await opened(postgres_url)
    engine = create_engine(make_url(postgres_url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    name = make_url(postgres_url).database
    with engine.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
        others = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"
        )
        connection.execute(text(others), {"name": name})
    engine.dispose()
    with pytest.raises(StoreAway, match="read-only"):
        await store.run(save)
    assert (await store.run(directory_state_of)).version == 0


async def test_a_refusal_inside_a_transaction_leaves_nothing_behind(opened):
    store = await opened()

    def refused(connection: Any) -> None:
        save(connection)
        raise AdminError("no")

    with pytest.raises(AdminError, match="no"):
        await store.run(refused)
    assert (await store.run(directory_state_of)).version == 0
    with pytest.raises(InvalidBody, match="the database rejects a value"):
        await store.run(lambda c: save(c, "\ud800"))
