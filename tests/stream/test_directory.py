"""The directory on a real stream server: what is published is read, in whole or in part, and never half."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.config.stream import StreamConfig
from gateway.core.keys import KeyRecord, OrganizationRecord, TeamRecord
from gateway.stream import Corridor
from gateway.stream.directory import MAX_CHANGES, DirectoryHead


def a_key(n: int = 1, **fields: Any) -> KeyRecord:
    return KeyRecord(**{"id": f"key_{n}", "name": f"k{n}", "digests": ((f"{n:064x}", None),), "limits": {}, **fields})


async def published(corridor: Any, *records: Any, epoch: str = "e1", version: int = 1) -> DirectoryHead:
    directory = corridor.directory
    assert await directory.publish_all(await directory.head(), epoch, version, records)
    return await now(corridor)


async def now(corridor: Any) -> DirectoryHead:
    head: DirectoryHead | None = await corridor.directory.head()
    assert head is not None
    return head


async def test_an_empty_server_has_no_head(corridor):
    assert await corridor.directory.head() is None
    assert await corridor.directory.count() == 0


async def test_everything_that_was_published_is_read(corridor):
    records = [OrganizationRecord("acme", {"usd_per_day": 5}), TeamRecord("search", {}, "acme"), a_key(team="search")]
    head = await published(corridor, *records, version=7)
    changes = await corridor.directory.read(None, head)
    assert (head.epoch, head.version, head.floor) == ("e1", 7, 7)
    assert changes.complete
    assert changes.records == dict(zip(["organization:acme", "team:search", "key:key_1"], records, strict=True))


async def test_many_records_are_read_in_pieces(corridor):
    head = await published(corridor, *(a_key(n) for n in range(1500)))
    changes = await corridor.directory.read(None, head)
    assert len(changes.records) == await corridor.directory.count() == 1500


async def test_a_reader_gets_only_what_changed_since(corridor):
    before = await published(corridor, a_key(1), a_key(2))
    assert await corridor.directory.publish(before, 3, [(2, a_key(1, disabled=True)), (3, a_key(3))])
    head = await now(corridor)
    changes = await corridor.directory.read(before, head)
    assert (head.version, changes.complete) == (3, False)
    assert changes.records == {"key:key_1": a_key(1, disabled=True), "key:key_3": a_key(3)}
    later = await corridor.directory.read(replace(before, version=2), head)
    assert list(later.records) == ["key:key_3"]


async def test_a_record_that_changed_twice_is_read_once_as_it_is(corridor):
    before = await published(corridor)
    await corridor.directory.publish(before, 2, [(2, a_key(1))])
    await corridor.directory.publish(await now(corridor), 3, [(3, a_key(1, disabled=True))])
    changes = await corridor.directory.read(before, await now(corridor))
    assert changes.records == {"key:key_1": a_key(1, disabled=True)}


async def test_a_publisher_that_has_read_an_older_head_changes_nothing(corridor):
    old = await published(corridor, a_key(1))
    await corridor.directory.publish(old, 2, [(2, a_key(2))])
    assert not await corridor.directory.publish(old, 9, [(9, a_key(9))])
    assert not await corridor.directory.publish_all(old, "e1", 9, [a_key(9)])
    assert not await corridor.directory.publish_all(None, "e1", 9, [a_key(9)])
    head = await now(corridor)
    assert head.version == 2
    assert set((await corridor.directory.read(None, head)).records) == {"key:key_1", "key:key_2"}


async def test_a_publication_of_everything_replaces_everything(corridor):
    old = await published(corridor, a_key(1), a_key(2))
    head = await published(corridor, a_key(2), epoch="e2", version=1)
    changes = await corridor.directory.read(old, head)
    assert changes.complete
    assert changes.records == {"key:key_2": a_key(2)}
    empty = await published(corridor, epoch="e3")
    assert (await corridor.directory.read(head, empty)).records == {}


async def test_a_reader_keeps_its_keys_when_the_server_lost_changes(corridor):
    head = await published(corridor, a_key(1), version=5)
    ahead = replace(head, version=9)
    assert await corridor.directory.read(ahead, head) is None


async def test_a_reader_behind_the_list_of_changes_reads_everything(corridor):
    first = head = await published(corridor, a_key(0))
    for start in range(2, MAX_CHANGES + 200, 500):
        changed = [(n, a_key(n % 7)) for n in range(start, start + 500)]
        assert await corridor.directory.publish(head, start + 499, changed)
        head = await now(corridor)
    assert first.version < head.floor <= head.version - MAX_CHANGES + 1
    assert (await corridor.directory.read(first, head)).complete
    near = await corridor.directory.read(replace(head, version=head.floor), head)
    assert not near.complete
    assert len(near.records) == 7


async def test_a_malformed_record_is_named_and_the_others_are_read(corridor):
    head = await published(corridor, a_key(1))
    records = f"{corridor.state.prefix}:directory:records"
    await corridor.client.hset(records, mapping={"key:odd": b"{", "team:x": b'{"kind":"team","id":"y","limits":{}}'})
    changes = await corridor.directory.read(None, head)
    assert changes.records == {"key:key_1": a_key(1)}
    assert set(changes.malformed) == {"key:odd", "team:x"}
    assert "it calls itself team:y" in changes.malformed["team:x"]


async def test_a_head_that_cannot_be_read_is_none(corridor):
    await corridor.client.hset(f"{corridor.state.prefix}:directory:head", mapping={"epoch": "e", "version": "x"})
    assert await corridor.directory.head() is None


@pytest.mark.long
async def test_a_cluster_holds_it_in_one_slot(program, servers):
    with servers.directory() as directory:
        cluster = await asyncio.to_thread(lambda: servers.Cluster(program, directory / "cluster").start())
        try:
            stream = StreamConfig.model_validate({"url": cluster.url, "cluster": True, "shards": 4})
            assert stream.address is not None
            corridor = Corridor.of(stream, stream.address)
            before = await published(corridor, *(a_key(n) for n in range(300)))
            assert await corridor.directory.publish(before, 2, [(2, a_key(1, disabled=True))])
            head = await now(corridor)
            assert len((await corridor.directory.read(None, head)).records) == await corridor.directory.count() == 300
            assert (await corridor.directory.read(before, head)).records == {"key:key_1": a_key(1, disabled=True)}
            await corridor.aclose()
        finally:
            cluster.kill()
