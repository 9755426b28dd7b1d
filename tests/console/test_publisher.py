"""Publication: whatever is in the store reaches the stream server, and nothing else does."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from gateway.console.publisher import Publisher
from gateway.core.keys import AnyRecord, KeyRecord
from gateway.features.keys import directory
from gateway.store.directory import DirectoryRow, begin_change, save_row
from gateway.stream import Corridor


def a_key(n: int = 1, **fields: Any) -> KeyRecord:
    return KeyRecord(**{"id": f"key_{n}", "name": f"k{n}", "digests": ((f"{n:064x}", None),), "limits": {}, **fields})


async def store_keys(store: Any, *records: AnyRecord, deleted: float | None = None) -> int:
    """Returns the version that they lead to."""

    def saving(connection: Any) -> int:
        for record in records:
            version = begin_change(connection)
            save_row(connection, DirectoryRow(record, 1.0, 1.0, version, deleted))
        return version

    version: int = await store.run(saving)
    return version


async def there(corridor: Corridor) -> dict[str, Any]:
    head = await corridor.directory.head()
    assert head is not None
    changes = await corridor.directory.read(None, head)
    assert changes is not None
    return dict(changes.records)


@pytest.fixture
def publisher(corridor: Corridor) -> Callable[..., Publisher]:
    """Makes a publisher of the directory for a store."""
    return lambda store, **options: Publisher(corridor.directory, store, **options)


async def test_a_new_store_publishes_that_there_are_no_keys(opened, corridor, publisher):
    await publisher(await opened()).look()
    assert await there(corridor) == {}


async def test_changes_are_published_singly_and_deletions_as_disabled(opened, corridor, publisher):
    store = await opened()
    one = publisher(store)
    await one.look()
    full = (await corridor.directory.head()).full
    assert await one.reached(await store_keys(store, a_key(1), a_key(2)))
    await store_keys(store, a_key(1), deleted=2.0)
    await one.look()
    assert await there(corridor) == {"key:key_1": a_key(1, disabled=True), "key:key_2": a_key(2)}
    assert (await corridor.directory.head()).full == full, "nothing else was written"


async def test_a_writer_of_the_store_delays_no_publication(opened, corridor, publisher, tmp_path):
    """A consumer under load holds SQLite's write lock for longer than a console waits for it."""
    store = await opened(busy_ms=1)
    one = publisher(store)
    await one.look()
    await store_keys(store, a_key(1))
    with contextlib.closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as consumer:
        consumer.execute("BEGIN IMMEDIATE")
        await one.look()
        assert (one.trouble, set(await there(corridor))) == ("", {"key:key_1"})
        await corridor.client.flushall()
        await one.look()
        assert (one.trouble, set(await there(corridor))) == ("", {"key:key_1"})


async def test_many_changes_are_published_in_batches(opened, corridor, publisher):
    store = await opened()
    one = publisher(store)
    await one.look()
    await store_keys(store, *(a_key(n) for n in range(520)))
    await one.look()
    assert len(await there(corridor)) == one.version == 520


async def test_any_console_on_the_store_publishes_missing_changes(opened, corridor, publisher):
    store, other = await opened(), await opened()
    one, two = publisher(store), publisher(other)
    await one.look()
    await two.look()
    await store_keys(store, a_key(1))
    await two.look()
    await one.look()
    assert set(await there(corridor)) == {"key:key_1"}
    assert (one.version, two.version, one.trouble, two.trouble) == (1, 1, "", "")


async def test_a_server_that_lost_its_data_gets_everything_again(opened, stream_server, stream_name, publisher, caplog):
    corridor = Corridor(stream_server.url, stream_name)
    store = await opened()
    one = Publisher(corridor.directory, store, wait_s=0.5)
    version = await store_keys(store, a_key(1))
    assert await one.reached(version)
    stream_server.kill()
    version = await store_keys(store, a_key(2))
    assert not await one.reached(version)
    assert one.trouble
    assert "keys are not published" in caplog.text
    stream_server.start()
    await corridor.client.flushall()
    with caplog.at_level(logging.INFO):
        assert await one.reached(version)
    assert "keys are published again" in caplog.text
    assert set(await there(corridor)) == {"key:key_1", "key:key_2"}
    await corridor.aclose()


async def test_a_broken_server_delays_no_answer_for_long(opened, stream_server, stream_name):
    corridor = Corridor(stream_server.url, stream_name)
    store = await opened()
    one = Publisher(corridor.directory, store, wait_s=0.2)
    await one.look()
    stream_server.pause()
    assert not await one.reached(await store_keys(store, a_key(1)))
    stream_server.resume()
    await corridor.client.config_set("maxmemory", "1")
    assert not await Publisher(corridor.directory, store).reached(1)
    await corridor.client.config_set("maxmemory", "0")
    assert await Publisher(corridor.directory, store).reached(1)
    await corridor.aclose()


async def test_the_keys_of_another_store_are_replaced_only_on_request(opened, corridor, publisher, tmp_path):
    right = await opened()
    await publisher(right).reached(await store_keys(right, a_key(1)))
    wrong = await opened(f"sqlite:///{tmp_path / 'wrong.db'}")
    careful = publisher(wrong)
    await store_keys(wrong, a_key(9), a_key(8))
    assert not await careful.reached(2)
    assert "the stream server has the keys of another store" in careful.trouble
    assert "--take-over" in careful.trouble
    assert set(await there(corridor)) == {"key:key_1"}
    bold = publisher(wrong, take_over=True)
    await bold.look()
    assert (bold.trouble, set(await there(corridor))) == ("", {"key:key_8", "key:key_9"})
    await careful.look()
    assert careful.trouble == "", "both consoles are on the same store"
    assert await bold.reached(await store_keys(wrong, a_key(7)))


async def test_a_store_from_a_backup_takes_over_only_on_request(opened, corridor, publisher, tmp_path):
    store = await opened()
    one = publisher(store)
    await one.reached(await store_keys(store, a_key(1)))
    (tmp_path / "backup").mkdir()
    await store.run(lambda c: c.exec_driver_sql("SELECT 1").all())
    for path in tmp_path.glob("gateway.db*"):
        (tmp_path / "backup" / path.name).write_bytes(path.read_bytes())
    await one.reached(await store_keys(store, a_key(1), a_key(2)))
    restored = await opened(f"sqlite:///{tmp_path / 'backup' / 'gateway.db'}")
    careful = publisher(restored)
    await careful.look()
    assert "newer keys (version 3) than this store (version 1)" in careful.trouble
    await publisher(restored, take_over=True).look()
    assert set(await there(corridor)) == {"key:key_1"}
    assert (await corridor.directory.head()).version > 3


async def test_old_deletions_are_removed_once_there_are_many(opened, corridor):
    now = [1e6]
    store = await opened()
    one = Publisher(corridor.directory, store, clock=lambda: now[0], waste=5)
    await store_keys(store, *(a_key(n) for n in range(8)), deleted=now[0])
    await store_keys(store, a_key(2_000))
    await one.look()
    assert len(await there(corridor)) == 9, "gateways say of them that they are disabled"
    now[0] += 7_200.0
    await one.look()
    assert set(await there(corridor)) == {"key:key_2000"}


async def test_a_persons_change_is_published_before_the_answer(admin, ada, corridor):
    made = await directory.create_record(admin, ada, "key", {"name": "web"})
    assert made.published
    assert set(await there(corridor)) == {f"key:{made.row.record.id}"}
