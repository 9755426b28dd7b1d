"""A primary is killed under load, in a cluster and behind sentinels: calls keep their latency, recording resumes by
itself, and the ledger closes. And a power cut: what the server's last second lost is counted, exactly."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.core.exchange import Exchange, Tally, Target, new_id
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.recording.recorder import Recorder
from gateway.store.loss_accounting import Delivery, delivery
from gateway.stream import Corridor

WAITS_NEVER_S = (
    0.5  # a socket to the stream server is given up after a second: a call that waits for it is slower than this
)


def latencies(flow: Any, since: float, until: float) -> list[float]:
    return sorted(seconds for at, seconds in flow.took if since <= at <= until)


async def recorded_on(flow: Any) -> Any:
    """The shard that the gateway appends to."""
    corridor = flow.corridor()
    try:
        async with asyncio.timeout(60):
            while True:
                for shard in corridor.shards:
                    if await shard.ask(shard.client.exists(shard.key)) and await shard.ask(
                        shard.client.xlen(shard.key)
                    ):
                        return shard
                await asyncio.sleep(0.02)
    finally:
        await corridor.aclose()


async def fail_over(flows: Any, flow: Any, kill: Any, title: str, capsys: Any) -> None:
    """kill: of the primary that holds the stream; called once, under load."""
    flow.pause_s = 0.02
    loading = asyncio.get_running_loop().create_task(flow.run({}))
    await flow.until_answered(300)
    node = await kill()
    at, answered = time.time(), len(flow.answered)
    corridor = flow.corridor()
    async with asyncio.timeout(60):
        while True:  # by another primary, and by this gateway
            with contextlib.suppress(flows.StreamDown):
                if (await corridor.snapshots()) and await resumed(corridor, flows, at):
                    break
            await asyncio.sleep(0.05)
    back = time.time()
    during = len(flow.answered) - answered
    flow.n = len(flow.answered)  # enough
    await loading
    async with asyncio.timeout(60):  # a gateway that stops waits five seconds for the server, and no longer
        while not await appended(corridor, flows, len(flow.answered)):
            await asyncio.sleep(0.05)
    await corridor.aclose()
    await flow.stop_gateway()
    await flow.consumer.kill()
    await flow.finish(flows.NAME, flow.store, lambda: flows.all_stopped(flow.store))
    stood: Delivery = flows.read(flow.store, delivery)
    assert stood.unaccounted == 0
    assert stood.in_flight == stood.waiting == 0
    assert stood.sampled >= len(flow.answered)
    (stored,) = flows.rows(flow.store, "SELECT count(*) FROM exchanges")
    assert stored[0] + sum(stood.lost.values()) + sum(stood.dropped.values()) == stood.sampled
    before, after = latencies(flow, 0, at), latencies(flow, at, back)
    assert len(after) > 50, "calls went on while the primary was gone"
    usual = before[int(0.99 * len(before))]  # on a busy machine calls are slow for other reasons
    assert after[int(0.99 * len(after))] < max(WAITS_NEVER_S, 3 * usual)
    assert statistics.median(after) < 3 * statistics.median(before) + 0.02
    with capsys.disabled():
        sys.stdout.write(
            f"\n{title}: port {node.port} killed after {answered}; {during} answered in the {back - at:.1f} s until "
            f"recording resumed (p99 {1000 * after[int(0.99 * len(after))]:.0f} ms, before "
            f"{1000 * before[int(0.99 * len(before))]:.0f} ms); {stored[0]} of {stood.sampled} stored, "
            f"lost {dict(stood.lost)}, unaccounted {stood.unaccounted} "
        )


async def resumed(corridor: Corridor, flows: Any, at: float) -> bool:
    """Something that was asked after this moment is in the stream."""
    for shard in corridor.shards:
        newest = await shard.ask(shard.client.xrevrange(shard.key, count=20))
        for _, fields in newest:
            record = flows.from_fields(fields)
            if isinstance(record, Exchange) and record.received > at:
                return True
    return False


async def appended(corridor: Corridor, flows: Any, n: int) -> bool:
    """A tally says that at least n exchanges have been appended to the stream."""
    for shard in corridor.shards:
        for _, fields in await shard.ask(shard.client.xrevrange(shard.key, count=20)):
            record = flows.from_fields(fields)
            if isinstance(record, Tally) and record.last_seq >= n:
                return True
    return False


@pytest.fixture
def place(servers: Any) -> Any:
    """A directory with a path short enough for a Unix socket."""
    with servers.directory() as directory:
        yield directory


async def of_a_cluster(program, servers, flows, place, capsys):
    cluster = await asyncio.to_thread(lambda: servers.Cluster(program, place / "cluster").start())
    try:
        stream = {"url": cluster.url, "cluster": True, "shards": 4}
        async with flows.flowing(cluster, stream, servers.free_ports(2), place, 1_000_000) as flow:

            async def kill() -> Any:
                node = cluster.primary_of((await recorded_on(flow)).key)
                await asyncio.to_thread(node.kill)
                return node

            await fail_over(flows, flow, kill, "cluster of six nodes", capsys)
    finally:
        cluster.kill()


async def behind_sentinels(program, servers, flows, place, capsys):
    watched = await asyncio.to_thread(lambda: servers.Watched(program, place / "watched").start())
    try:
        stream = {"sentinels": watched.places, "service": watched.service}
        async with flows.flowing(watched, stream, servers.free_ports(2), place, 1_000_000) as flow:

            async def kill() -> Any:
                await recorded_on(flow)
                await asyncio.to_thread(watched.nodes[0].kill)
                return watched.nodes[0]

            await fail_over(flows, flow, kill, "three sentinels", capsys)
    finally:
        watched.kill()


@pytest.mark.timeout(150)
async def test_a_clusters_primary_is_killed_under_load(servers, flows, place, capsys):
    programs = servers.programs()
    await of_a_cluster(programs["redis"] or programs["valkey"], servers, flows, place, capsys)


@pytest.mark.timeout(150)
async def test_the_primary_that_sentinels_watch_is_killed_under_load(servers, flows, place, capsys):
    await behind_sentinels(servers.programs()["valkey"], servers, flows, place, capsys)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", [of_a_cluster, behind_sentinels])
async def test_each_program_fails_over(program, servers, flows, place, capsys, how):
    await how(program, servers, flows, place, capsys)


@pytest.mark.timeout(150)
async def test_a_stream_server_that_hangs_leaves_every_call_alone(servers, flows, place):
    """The server takes connections and answers nothing, for longer than a socket waits; then every sampled record is
    there.
    """
    *ports, stream = servers.free_ports(3)
    node = servers.Node(servers.programs()["valkey"], stream, place / "stream").start()
    try:
        async with flows.flowing(node, {"url": node.url}, ports, place, 1_000_000, consumed=False) as flow:
            flow.pause_s = 0.02
            loading = asyncio.get_running_loop().create_task(flow.run({}))
            await flow.until_answered(300)
            node.pause()
            at = time.time()
            while time.time() < at + 2.5:
                await asyncio.sleep(0.05)
            after = latencies(flow, at, time.time())
            node.resume()
            flow.n = len(flow.answered)
            await loading
            await flow.stop_gateway()
            assert len(after) > 50
            assert after[int(0.99 * len(after))] < WAITS_NEVER_S
            records = [flows.from_fields(fields) for fields in await flow.kept()]
            assert {r.id for r in records if isinstance(r, Exchange)} >= set(flow.answered)
            (last,) = flows.newest(records).values()
            assert last.final
            assert sum(c.n for c in last.enqueued) == sum(c.n for c in last.sampled) >= len(flow.answered)
    finally:
        node.kill()


@contextlib.asynccontextmanager
async def recording(url: str) -> AsyncIterator[Recorder]:
    corridor = Corridor(url, "flow")
    recorder = Recorder(corridor, ProxyMetrics(CollectorRegistry()), tally_s=0.1)
    running = asyncio.get_running_loop().create_task(recorder.run())
    yield recorder
    recorder.close()
    await running
    await corridor.aclose()


async def put(recorder: Recorder, n: int) -> None:
    for _ in range(n):
        i = new_id()
        recorder.saw(("default", "chat", "local/small", "", ""), None)
        recorder.put(
            Exchange(
                id=i, received=time.time(), caller="web", api="chat", alias="chat", target=Target("local", "small"),
                stream=False, request=b'{"messages":[]}', response=b'{"choices":[]}', status=200, outcome="ok",
                total_s=0.1, unit=i, u=0.1, pi=1.0, stratum="default", incarnation=recorder.incarnation,
                seq=recorder.seq,
            )
        )  # fmt: skip
    async with asyncio.timeout(60):
        while recorder.waiting:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("seed", [1])
async def test_entries_lost_in_a_power_cut_are_counted_exactly(program, servers, flows, place, seed):
    """The end of the append-only file never came to the disk: entries that were acknowledged are gone."""
    node = servers.Node(program, servers.free_ports(1)[0], place / "stream").start()
    flow = flows.quiet(node, {"url": node.url}, place)

    def stored(n: int) -> bool:
        found = flows.is_there(flow.store) and flows.rows(flow.store, "SELECT count(*) FROM exchanges")
        return bool(found) and found[0][0] >= n

    try:
        async with recording(node.url) as recorder:
            await put(recorder, 100)
            await flow.finish("flow", flow.store, lambda: stored(100))
            await put(recorder, 300)
            node.kill()
            node.lose_tail(random.Random(seed).randrange(20_000, 100_000))
            node.start()
            await put(recorder, 50)
        kept = {e.id for e in map(flows.from_fields, await flow.kept()) if isinstance(e, Exchange)}
        assert 50 <= len(kept) < 449, "something was lost, and not all"
        await flow.finish("flow", flow.store, lambda: flows.all_settled(flow.store))
        there = {i for (i,) in flows.rows(flow.store, "SELECT id FROM exchanges")}
        assert there >= kept
        stood: Delivery = flows.read(flow.store, delivery)
        assert (stood.sampled, stood.unaccounted) == (450, 0)
        assert stood.lost == {"stream_lost": 450 - len(there)}
    finally:
        node.kill()


async def test_a_silent_loss_makes_unaccounted_rise(program, servers, flows, place):
    """Entries vanish and nothing says why: neither a restart nor a trim."""
    node = servers.Node(program, servers.free_ports(1)[0], place / "stream").start()
    flow = flows.quiet(node, {"url": node.url}, place)
    try:
        async with recording(node.url) as recorder:
            await put(recorder, 50)
            corridor = flow.corridor()
            victims = [i for i, f in await corridor.client.xrange(corridor.key) if f[b"kind"] == b"exchange"][10:13]
            await corridor.client.xdel(corridor.key, *victims)
            await corridor.aclose()
        await flow.finish("flow", flow.store, lambda: flows.all_settled(flow.store))
        stood: Delivery = flows.read(flow.store, delivery)
        assert (stood.unaccounted, stood.lost, stood.settled) == (3, {}, 47)
    finally:
        node.kill()
