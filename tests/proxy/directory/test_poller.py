"""Reading keys from a real stream server: what is read stays in force, whatever the server does."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.core.keys import KeyRecord
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.directory.poller import DirectoryPoller
from gateway.proxy.request.key_directory import KeyDirectory
from gateway.runtime.directory_snapshot import DirectorySnapshot
from gateway.stream import Corridor


def a_key(n: int = 1, **fields: Any) -> KeyRecord:
    return KeyRecord(**{"id": f"key_{n}", "name": f"k{n}", "digests": ((f"{n:064x}", None),), "limits": {}, **fields})


class Worker:
    """A poller with its directory, on a data directory."""

    def __init__(self, corridor: Corridor, data: Path) -> None:
        self.registry = CollectorRegistry()
        self.metrics = ProxyMetrics(self.registry)
        self.directory = KeyDirectory()
        self.snapshot = DirectorySnapshot(data)
        self.ended: list[set[str]] = []
        self.pace = 0.0
        self.poller = DirectoryPoller(
            corridor.directory, self.directory, self.snapshot, self.metrics, self._end, lambda: self.pace
        )

    def _end(self, names: Any) -> int:
        self.ended.append(set(names))
        return len(names)

    def metric(self, name: str) -> float:
        self.metrics.counts.flush()
        lines = generate_latest(self.registry).decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


@pytest.fixture
async def corridor(stream_server: Any, stream_name: str) -> AsyncIterator[Corridor]:
    """A corridor on a server of the test's own."""
    opened = Corridor(stream_server.url, stream_name)
    yield opened
    await opened.aclose()


@pytest.fixture
def worker(corridor: Corridor, tmp_path: Path) -> Callable[[], Worker]:
    """Makes workers that poll the directory."""
    return lambda: Worker(corridor, tmp_path / "data")


async def publish(corridor: Corridor, *records: KeyRecord, epoch: str = "e1", version: int = 1) -> None:
    stream = corridor.directory
    assert await stream.publish_all(await stream.head(), epoch, version, records)


async def change(corridor: Corridor, record: KeyRecord) -> None:
    head = await corridor.directory.head()
    assert head is not None
    assert await corridor.directory.publish(head, head.version + 1, [(head.version + 1, record)])


async def test_each_look_puts_the_changes_in_force(corridor, worker):
    one, other = worker(), worker()
    await one.poller.start()
    assert one.directory.head is None
    assert one.directory.stale, "nobody has published keys"
    await publish(corridor, a_key(1), a_key(2))
    for each in (one, other):
        await each.poller.look()
    await change(corridor, a_key(1, disabled=True, end_streams=True))
    for each in (one, other):
        await each.poller.look()
        assert each.directory.keys == {"key_1": a_key(1, disabled=True, end_streams=True), "key_2": a_key(2)}
        assert each.ended == [{"k1"}]
        assert each.metric("gateway_key_ended_total") == 1
        assert not each.directory.stale


async def test_keys_stay_in_force_while_the_server_has_no_newer_ones(corridor, worker, stream_server, caplog):
    one = worker()
    await publish(corridor, a_key(1), version=5)
    await one.poller.start()
    stream_server.kill()
    await one.poller.look()
    await one.poller.look()
    assert one.directory.keys == {"key_1": a_key(1)}
    assert len([r for r in caplog.records if "the last known keys stay in force" in r.message]) == 1
    stream_server.start()
    await corridor.client.flushall()
    await one.poller.look()
    assert one.directory.keys == {"key_1": a_key(1)}
    await publish(corridor, version=3)  # the same store, as it was before
    await one.poller.look()
    assert one.directory.keys == {"key_1": a_key(1)}
    await publish(corridor, a_key(1), a_key(2), version=6)
    with caplog.at_level(logging.INFO):
        await one.poller.look()
    assert set(one.directory.keys) == {"key_1", "key_2"}
    assert "keys are read from the stream server again" in caplog.text


async def test_a_store_in_place_of_another_replaces_its_keys(corridor, worker):
    one = worker()
    await publish(corridor, a_key(1), version=9)
    await one.poller.start()
    await publish(corridor, a_key(2), epoch="e2", version=1)
    await one.poller.look()
    assert set(one.directory.keys) == {"key_2"}


async def test_a_malformed_record_is_skipped_counted_and_logged(corridor, worker, caplog):
    one = worker()
    await publish(corridor, a_key(1), a_key(2))
    await one.poller.start()
    await change(corridor, a_key(1, disabled=True))
    records = f"{corridor.state.prefix}:directory:records"
    await corridor.client.hset(records, "key:key_1", b'{"kind":"key","id":"key_1"}')
    await one.poller.look()
    assert one.directory.keys == {"key_1": a_key(1), "key_2": a_key(2)}, "what it was before stays in force"
    assert one.metric("gateway_directory_malformed_total") == 1
    assert "key:key_1: not a key" in caplog.text
    assert "0" * 63 not in caplog.text, "no digest is logged"


async def test_without_the_server_the_snapshot_is_used_with_its_age(corridor, worker, stream_server, caplog):
    one = worker()
    await publish(corridor, a_key(1), version=4)
    await one.poller.start()
    await one.poller.save()
    stream_server.kill()
    late = worker()
    await late.poller.start()
    assert late.directory.keys == {"key_1": a_key(1)}
    assert "keys are those of the snapshot directory.jsonl, confirmed 0 s ago: 1 records of version 4" in caplog.text
    report = late.directory.report()
    assert (report["source"], report["version"], report["keys"]) == ("snapshot", 4, 1)
    assert (late.metric("gateway_directory_version"), late.metric("gateway_directory_keys")) == (4, 1)
    stream_server.start()
    await publish(corridor, a_key(1), version=4)  # it may have lost its last second
    await late.poller.look()
    assert late.directory.report()["source"] == "stream"


async def test_the_snapshot_follows_changes_but_not_more_than_once_a_second(corridor, worker):
    one = worker()
    await publish(corridor, a_key(1))
    await one.poller.start()
    await one.poller.save()
    await change(corridor, a_key(2))
    await one.poller.look()
    await one.poller.save()
    assert len(one.snapshot.load().changes.records) == 1
    one.pace += 1.5
    await one.poller.save()
    assert len(one.snapshot.load().changes.records) == 2


async def test_an_unwritable_snapshot_is_logged_once_and_delays_nothing(corridor, worker, tmp_path, caplog):
    (tmp_path / "data").write_text("a file where the directory should be")
    one = worker()
    await publish(corridor, a_key(1))
    await one.poller.start()
    for _ in range(3):
        one.pace += 2.0
        await one.poller.save()
    assert len([r for r in caplog.records if "the snapshot of the keys cannot be written" in r.message]) == 1
    assert one.directory.keys == {"key_1": a_key(1)}
