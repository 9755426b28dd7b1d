"""One stream: what it holds is bounded, nothing leaves it unread uncounted, and what is settled is settled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import StreamDown
from gateway.stream import Corridor
from gateway.stream.shard import unread_of
from gateway.stream.types import order


def entries(n: int, size: int = 1) -> list[dict[bytes, bytes]]:
    return [{b"n": b"%d" % i, b"body": b"x" * size} for i in range(n)]


async def test_entries_trimmed_unread_are_counted_and_logged(stream_url, stream_name, caplog):
    corridor = Corridor(stream_url, stream_name, max_mb=1.0)
    await corridor.join()
    for _ in range(30):
        await corridor.append(entries(100, 1000))
    left, lag = await corridor.trimmed_unread(), await corridor.lag()
    assert left == 3000 - lag.length > 1000
    assert lag.waiting == lag.length, "and the group's lag is still known"
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "stream unread (stream.max_mb: 1)" in record.getMessage(), "logged once, not with every append"
    (look,) = (await corridor.snapshots()).values()
    assert look.trimmed.unread == left
    first = (await corridor.read("a", 1, 50))[0]
    assert order(first.id) == order(look.trimmed.to), "the oldest id that stayed"
    await corridor.aclose()


async def test_read_entries_may_be_trimmed_uncounted(stream_url, stream_name, caplog):
    corridor = Corridor(stream_url, stream_name, max_mb=1.0)
    await corridor.join()
    for _ in range(30):
        await corridor.append(entries(100, 1000))
        await corridor.ack([e.id for e in await corridor.read("a", 100, 50)])
    assert (await corridor.lag()).length < 1500
    assert await corridor.trimmed_unread() == 0
    assert not caplog.records
    await corridor.aclose()


async def test_the_bound_follows_the_mean_size_of_what_is_appended(stream_url, stream_name):
    corridor = Corridor(stream_url, stream_name, max_mb=4.0)
    for _ in range(5):
        await corridor.append(entries(50, 60_000))
    assert (await corridor.lag()).length == 250, "never fewer than a thousand: XTRIM counts entries, not bytes"
    for _ in range(60):
        await corridor.append(entries(50, 2_000))
    assert 1000 <= (await corridor.lag()).length < 1600
    for _ in range(12):
        await corridor.append(entries(1000))
    assert (await corridor.lag()).length > 8_000, "it is the mean of late"
    await corridor.aclose()


async def test_old_entries_are_trimmed_and_counted_if_unread(stream_url, stream_name, caplog):
    corridor = Corridor(stream_url, stream_name, max_age_h=1.0, check_age_every_s=0.0)
    old_ms = int(time.time() * 1000) - 2 * 3_600_000
    await corridor.join()
    for i in range(300):
        await corridor.client.xadd(corridor.key, {"n": i}, id=f"{old_ms + i}-0")
    await corridor.append(entries(1))
    assert (await corridor.lag()).length < 120
    assert await corridor.trimmed_unread() >= 180
    assert "stream.max_age_h: 1" in caplog.text
    await corridor.aclose()


async def test_a_trimmed_pending_entry_is_recorded(corridor):
    """The group has read it, and it may yet be stored: it does not count as unread, but it can explain a gap."""
    await corridor.join()
    await corridor.append(entries(300))
    await corridor.read("a", 300, 50)
    assert await corridor.home.trim(most=50) == 0
    trimmed = await corridor.home.trimmed()
    assert (trimmed.unread, trimmed.to != "") == (0, True)


async def test_a_stream_that_is_not_there_is_not_trimmed(corridor):
    assert await corridor.home.trim(most=10) == 0


async def test_without_a_group_every_trimmed_entry_was_unread(corridor):
    await corridor.append(entries(300))
    assert await corridor.home.trim(most=50) >= 200


@pytest.mark.parametrize(
    ("group", "removed", "to", "unread"),
    [
        ({"lag": 10}, 95, "95-0", 5),
        ({"lag": 0}, 95, "95-0", 0),
        ({"lag": None, "last-delivered-id": "50-0"}, 95, "95-0", 95),
        ({"lag": None, "last-delivered-id": "99-0"}, 95, "95-0", 0),
        ({"last-delivered-id": "50-0"}, 95, "95-0", 95),
    ],
    ids=["some", "none", "not known: all", "not known: none", "a server before 7"],
)
def test_unread_entries_among_the_trimmed_are_counted(group, removed, to, unread):
    assert unread_of(100, [{"name": b"others"}, {"name": b"evals", **group}], removed, to) == unread


async def test_an_idle_stream_is_settled_up_to_the_servers_time(corridor):
    await corridor.join()
    before_ms = int(time.time() * 1000) - 1
    (look,) = (await corridor.snapshots()).values()
    assert order(look.settled)[0] >= before_ms
    await corridor.append(entries(2))
    (look,) = (await corridor.snapshots()).values()
    read = await corridor.read("a", 1, 50)
    assert order(look.settled) < order(read[0].id), "before anything is read nothing is settled"
    await corridor.ack([read[0].id])
    (look,) = (await corridor.snapshots()).values()
    assert order(look.settled) == (order(read[0].id)[0], order(read[0].id)[1] + 1)
    await corridor.ack([e.id for e in await corridor.read("a", 1, 50)])
    (look,) = (await corridor.snapshots()).values()
    assert order(look.settled)[0] >= look.asked_ms


async def test_entries_appended_during_a_snapshot_are_not_settled(corridor):
    """Every id below `settled` was acknowledged before, however appending, reading and looking interleave."""
    await corridor.join()
    acked: set[tuple[int, int]] = set()
    all_ids: list[tuple[int, int]] = []
    stop = asyncio.Event()

    async def write() -> None:
        for _ in range(60):
            pipe = corridor.client.pipeline(transaction=False)
            for each in entries(3):
                pipe.xadd(corridor.key, each)
            all_ids.extend(order(i.decode()) for i in await pipe.execute())
            await asyncio.sleep(0)
        stop.set()

    async def read() -> None:
        while not stop.is_set() or await corridor.home.read("a", 1, None):
            found = await corridor.read("a", 5, 1)
            acked.update(order(e.id) for e in found)  # before XACK: the server may show it at any time after
            await corridor.ack([e.id for e in found])

    async def look() -> None:
        while not stop.is_set():
            settled = await corridor.home.settled_before()
            assert settled is not None
            open_ = [i for i in all_ids if i < order(settled) and i not in acked]
            assert open_ == []
            await asyncio.sleep(0)

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for work in (write(), read(), look()):
            tasks.create_task(work)


async def test_a_restarted_server_has_a_new_run_id(stream_server):
    corridor = Corridor(stream_server.url, "x")
    await corridor.join()
    (before,) = (await corridor.snapshots()).values()
    stream_server.kill()
    stream_server.start()
    (after,) = (await corridor.snapshots()).values()
    assert before.run_id != after.run_id
    assert before.asked_ms <= before.answered_ms < after.asked_ms
    await corridor.aclose()


async def test_an_evicting_policy_is_known(stream_server):
    corridor = Corridor(stream_server.url, "x")
    assert await corridor.evicting() is None
    await corridor.client.config_set("maxmemory-policy", "allkeys-lru")
    assert await corridor.evicting() == "allkeys-lru"
    await corridor.aclose()


@contextlib.asynccontextmanager
async def slow_line(socket_path: Path, bytes_per_s: float) -> AsyncIterator[str]:
    """The URL of the server behind a line that carries its replies at this rate."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(socket_path)

        async def replies() -> None:
            while data := await server_reader.read(16_384):
                writer.write(data)
                await asyncio.sleep(len(data) / bytes_per_s)
                await writer.drain()

        try:
            async with asyncio.TaskGroup() as group:
                back = group.create_task(replies())
                while data := await reader.read(65_536):
                    server_writer.write(data)
                back.cancel()
        except* ConnectionError:
            pass
        finally:
            for each in (server_writer, writer):
                each.close()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()


async def test_a_reply_that_takes_too_long_loses_no_entry(shared_stream_server: Any, stream_name: str) -> None:
    """24 entries of 60 KB at 1 MB/s: the whole takes 1.4 s, and a reply may take one."""
    here = Corridor(shared_stream_server.url, stream_name)
    await here.join()
    await here.append([{b"data": b"x" * 60_000, b"n": b"%d" % i} for i in range(24)])
    found: list[bytes] = []
    async with slow_line(shared_stream_server.socket, 1e6) as url, asyncio.timeout(50):
        there = Corridor(url, stream_name)
        failures = 0
        while len(found) < 24:
            try:
                entries = await there.read("c1", 64, 100)
            except StreamDown:
                failures += 1
                continue
            found += [entry.fields[b"n"] for entry in entries]
            await there.ack([entry.id for entry in entries])
        await there.aclose()
    assert failures, "otherwise the line was not slow"
    assert found == [b"%d" % i for i in range(24)], "each once and in order, without a claim"
    await here.aclose()
