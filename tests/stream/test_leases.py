"""Leases on a real stream server: what is granted, promised, swept and counted."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.config.stream import StreamConfig
from gateway.core.errors import StreamDown
from gateway.core.exchange import new_id
from gateway.stream.connect import close, connect
from gateway.stream.leases import LeaseGrant, LeaseReport, LeaseServer, LeftLease

Server = Callable[..., LeaseServer]
NAME = "team:search:tokens_per_day:2026-11-26"
RUN = "r:0123456789abcdef01234567:tokens_per_run"
USER = "u:0123456789abcdef01234567:tokens_per_day:2026-11-26"


@pytest.fixture
async def client(stream_url: str) -> AsyncIterator[Any]:
    """A client of the stream server."""
    client = connect(stream_url, StreamConfig())
    yield client
    await close(client)


@pytest.fixture
def server(client: Any, stream_name: str) -> Server:
    """Makes the lease server of a worker."""

    def make(worker: str, **how: Any) -> LeaseServer:
        return LeaseServer(client, stream_name, worker, **how)

    return make


def a_report(name: str = NAME, **fields: Any) -> LeaseReport:
    now_ms = int(time.time() * 1000)
    given = {"spent": 0, "total": 0, "share": -1, "want": 0, "need": 0, "amount": 1000, "keep_ms": 60_000}
    return LeaseReport(name, **{**given, "starts_ms": now_ms - 60_000, "ends_ms": now_ms + 60_000, **fields})


async def one(server: LeaseServer, name: str = NAME, **fields: Any) -> LeaseGrant:
    reply = await server.exchange([a_report(name, **fields)])
    assert reply is not None
    return reply.grants[0]


async def test_needed_amounts_are_granted_while_they_last(server: Server) -> None:
    a, b = server("a"), server("b")
    assert (await one(a, need=700, want=700)).granted == 700
    refused = await one(b, need=400, want=400)
    assert (refused.granted, refused.left) == (300, 0)
    assert (await one(b, total=0)).left == 300, "given back"
    assert (await one(b, need=300, want=300)).granted == 300


async def test_wanted_amounts_are_a_part_of_the_rest(server: Server) -> None:
    """A half, divided by the workers: the others want some, too."""
    a, b = server("a"), server("b")
    assert (await one(a, want=900)).granted == 500
    assert (await one(b, want=900)).granted == 125
    assert (await one(b, total=125, want=10)).granted == 10


async def test_a_repeated_report_changes_nothing(server: Server) -> None:
    a = server("a")
    await one(a, need=500, want=500)
    for _ in range(3):
        assert await one(a, spent=200, total=500) == LeaseGrant(0, 500, 0, 200, 0)


async def test_a_report_that_was_overtaken_is_ignored(server: Server) -> None:
    new, old = server("a"), server("a")
    await one(new, need=500, want=500)
    await one(new, spent=200, total=500)
    assert await old.exchange([a_report(spent=0, total=0)]) is None
    assert (await one(new, spent=200, total=500)).left == 500


async def test_more_than_was_reserved_counts_too(server: Server) -> None:
    a, b = server("a"), server("b")
    await one(a, need=1000, want=1000)
    assert (await one(a, spent=1200, total=1200)).left == -200
    assert (await one(b, need=1, want=1)).granted == 0


async def test_a_share_is_promised_to_one_worker_only(server: Server) -> None:
    a, b = server("a"), server("b")
    assert (await one(a, share=0)).share == 500
    assert (await one(b, share=0)).share == 250
    assert (await one(b, need=900, want=900)).granted == 500, "the rest is promised to a"
    assert (await one(a, share=500)).share == 0, "until a call needs it"
    assert (await one(a, total=0, share=0)).share == 0
    assert (await one(b, total=500, need=400, want=400)).granted == 400


async def test_a_share_that_shrank_in_a_lost_reply_is_still_there(server: Server) -> None:
    a, b, c = server("a"), server("b"), server("c")
    assert (await one(a, share=0)).share == 500
    await one(b, need=400, want=400)
    assert (await one(a, share=500)).share < 500  # the reply is lost, so a still counts on 500
    assert (await one(c, need=200, want=200)).granted <= 100
    assert (await one(a, total=500, share=0)).left >= 0


async def test_a_window_is_leased_only_while_it_is_open(server: Server) -> None:
    now_ms = int(time.time() * 1000)
    a = server("a")
    for starts_ms, ends_ms, granted in (
        (now_ms - 99_000, now_ms - 1, 0),
        (now_ms + 30_000, now_ms + 90_000, 0),
        (now_ms + 3_000, now_ms + 63_000, 5),  # shortly before, ahead of need
    ):
        assert (await one(a, f"k:{starts_ms}", starts_ms=starts_ms, ends_ms=ends_ms, need=5, want=5)).granted == granted


async def test_a_report_after_the_end_of_its_window_counts_in_it(server: Server) -> None:
    now_ms = int(time.time() * 1000)
    ended = {"starts_ms": now_ms - 99_000, "ends_ms": now_ms - 1}
    assert (await one(server("a"), **ended, spent=70, total=70)).spent == 70


async def test_a_window_is_forgotten_a_while_after_its_end(server: Server, client: Any, stream_name: str) -> None:
    now_ms = int(time.time() * 1000)
    await one(server("a"), ends_ms=now_ms + 5_000, keep_ms=7_000)
    left_ms = await client.pttl(f"{{{stream_name}:limits}}:{NAME}")
    assert 9_000 < left_ms <= 12_000


async def test_the_report_that_crosses_a_threshold_is_told_once(server: Server) -> None:
    a, b = server("a"), server("b")
    spent = [(a, 790, 0), (b, 20, 80), (a, 850, 0), (b, 150, 100), (b, 160, 0)]
    for worker, n, crossed in spent:
        assert (await one(worker, spent=n, total=n)).crossed == crossed


async def test_the_server_says_its_time_and_how_many_workers_there_are(server: Server) -> None:
    first = await server("a").exchange([])
    second = await server("b", shift_s=3600).exchange([])
    assert first is not None
    assert second is not None
    assert abs(first.now_s - time.time()) < 60
    assert abs(second.now_s - time.time() - 3600) < 60
    assert first.workers == 1


async def test_a_worker_that_the_server_does_not_know_learns_it(server: Server, client: Any, stream_name: str) -> None:
    a = server("a")
    answers = [await a.exchange([]), await a.exchange([])]
    await client.delete(f"{{{stream_name}:limits}}:workers")
    answers.append(await a.exchange([]))
    assert [answer is not None and answer.known for answer in answers] == [False, True, False]


async def test_a_dead_worker_releases_what_it_cannot_have_spent(server: Server, client: Any, stream_name: str) -> None:
    dead, alive = server("dead"), server("alive")
    await one(dead, need=100, want=100, share=0)
    await one(dead, spent=30, total=100, share=450)
    flight = {"starts_ms": 0, "ends_ms": 0, "amount": 8}
    await one(dead, "key:web:concurrency", **flight, need=6, want=6)
    assert (await one(alive, "key:web:concurrency", **flight, need=6, want=6)).granted == 2
    assert await alive.sweep() == 0, "it was seen a moment ago"
    later = server("later", dead_s=-1.0)
    await client.zadd(f"{{{stream_name}:limits}}:workers", {"alive": (time.time() + 3600) * 1000})
    assert await later.sweep() == 1
    assert await later.sweep() == 0
    assert (await one(alive, "key:web:concurrency", **flight, total=2, need=6, want=6)).granted == 6
    assert (await one(alive, need=1000, want=1000)).granted == 900, "what it held counts as spent, its share does not"


async def test_a_dead_worker_may_have_spent_its_share_in_an_outage(
    server: Server, client: Any, stream_name: str
) -> None:
    """The server has started since it was last seen."""
    dead, alive = server("dead"), server("alive")
    for name in (NAME, USER):
        await one(dead, name, need=100, want=100, share=0)
    await client.zadd(f"{{{stream_name}:limits}}:workers", {"dead": 1})
    assert await alive.sweep() == 1
    for name in (NAME, USER):
        assert (await one(alive, name, need=1000, want=1000)).granted == 450, "100 were held, and 450 promised"


async def test_a_record_that_goes_on_counts_once(server: Server) -> None:
    """The amount that a forgotten lease had spent stays; what this one has spent counts in addition, also if a reply is
    lost."""
    a, b = server("a"), server("b")
    await one(a, USER, spent=5, total=5)
    for _ in range(3):
        found = await one(a, USER, spent=3, total=4, resumes=7)
        assert (found.before, found.spent, found.left) == (5, 8, 991)
    assert (await one(a, USER, spent=8, total=8)).spent == 8
    assert (await one(a, USER, spent=1, total=1, resumes=9)).spent == 9
    assert (await one(b, USER, spent=1, total=1, resumes=9)).spent == 10


def left(used: int, resumes: int = 0, age_s: float = 0.0) -> list[LeftLease]:
    return [LeftLease(RUN, used, resumes, 1000, int((time.time() - age_s) * 1000))]


async def test_a_dead_worker_gives_back_what_it_had_not_used(server: Server) -> None:
    dead, alive = server("dead"), server("alive")
    await one(dead, RUN, spent=10, total=30, need=100, want=100, share=0)
    assert (await one(alive, RUN)).left == 870
    for _ in range(2):
        await alive.settle_dead("dead", left(used=50))
        found = await one(alive, RUN)
        assert (found.left, found.spent) == (950, 50)
    late = await dead.exchange([a_report(RUN, spent=20, total=130, need=500)])
    assert late is None, "a report that it sent before it died arrives now"
    assert (await one(alive, RUN, need=950, want=950)).granted == 950, "no share is kept for the dead"


async def test_a_dead_worker_that_had_forgotten_its_run_counts_once(server: Server) -> None:
    dead, alive = server("dead"), server("alive")
    await one(dead, RUN, spent=5, total=5)
    for _ in range(3):
        await alive.settle_dead("dead", left(used=3, resumes=7))
        assert (await one(alive, RUN)).spent == 8
    other = server("other")
    assert (await one(other, RUN, spent=2, total=9, resumes=4)).spent == 10
    for _ in range(2):
        await alive.settle_dead("other", left(used=6, resumes=4))
        assert (await one(alive, RUN)).left == 1000 - 8 - 6


async def test_a_run_that_was_forgotten_is_not_counted_again(server: Server, client: Any, stream_name: str) -> None:
    """A stream server that has lost its data learns what was used; a run of the day before has ended."""
    alive = server("alive")
    await alive.settle_dead("dead", left(used=50, age_s=90_000))
    await alive.settle_dead("idle", left(used=0))
    assert not [key async for key in client.scan_iter(f"{{{stream_name}:limits}}:r:*")]
    await alive.settle_dead("other", left(used=50))
    assert (await one(alive, RUN)).spent == 50
    assert await client.ttl(f"{{{stream_name}:limits}}:{RUN}") > 0


async def test_a_share_of_an_end_user_is_called_back_where_a_call_needs_it(server: Server) -> None:
    a, b = server("a"), server("b")
    assert (await one(a, USER, share=0)).share == 500
    assert (await one(b, USER, need=900, want=900)).granted == 500
    reply = await a.exchange([])
    assert reply is not None
    assert reply.called_back == (USER,)
    await one(a, USER, share=-1)
    assert (await one(b, USER, total=500, need=400, want=400)).granted == 400


async def test_a_server_with_an_older_copy_of_its_data_is_told_everything(
    server: Server, client: Any, stream_name: str
) -> None:
    a, sequence = server("a"), f"{{{stream_name}:limits}}:sequence:a"
    await a.exchange([])
    older = await client.get(sequence)
    assert [(await a.exchange([])).known for _ in range(2)] == [True, True]
    await client.set(sequence, older)
    assert [(await a.exchange([])).known for _ in range(2)] == [False, True]


@pytest.mark.parametrize(("workers", "promised", "most"), [(1, False, 210), (1, True, 250), (4, True, 330)])
async def test_the_record_of_an_end_user_is_short(
    server: Server, client: Any, stream_name: str, workers: int, promised: bool, most: int
) -> None:
    """The record has the longest amounts of a monthly limit in dollars, and nothing lists it elsewhere."""
    name = f"u:{7:024x}:usd_per_month:2026-11"
    spent = {"amount": round(999e9), "spent": 123456789012, "total": 123456789012}
    for _ in range(workers):
        await one(server(new_id()), name, **spent, share=0 if promised else -1)
    assert await client.memory_usage(f"{{{stream_name}:limits}}:{name}") <= most
    found = {key async for key in client.scan_iter(f"{{{stream_name}:limits}}:records:*")}
    assert found == set(), "of each worker there would be a set with a name of 45 characters for each end user"


@pytest.mark.parametrize(("restarted", "left"), [(False, 900), (True, 450)])
async def test_a_dead_workers_share_for_a_user_ends_with_a_report(
    server: Server, client: Any, stream_name: str, restarted: bool, left: int
) -> None:
    """Records of users are many, so no sweep visits them. The amount that the worker held counts as spent; its share
    does if the server has started since the worker was last seen."""
    dead, alive, third, sweeper = server("dead"), server("alive"), server("third"), server("later", dead_s=-1.0)
    await one(dead, USER, need=100, want=100, share=0)
    assert (await one(alive, USER, need=1000, want=1000)).granted == 450, "its share is held back"
    seen = {"alive": (time.time() + 3600) * 1000} | ({"dead": 1} if restarted else {})
    await client.zadd(f"{{{stream_name}:limits}}:workers", seen)
    assert [await sweeper.sweep() for _ in range(2)] == [1, 0]
    assert (await one(alive, USER, total=450, need=1000, want=1000)).granted == left - 450
    assert (await one(third, USER)).left == 0
    assert (await one(alive, USER, share=0)).left == left, "once only"


async def test_a_returning_worker_keeps_its_shares_for_users(server: Server) -> None:
    """Only those that nobody has needed meanwhile."""
    away, other, sweeper = server("away"), server("other"), server("later", dead_s=-1.0)
    taken, kept = USER, USER.replace("0123", "4567")
    for name in (taken, kept):
        assert (await one(away, name, share=0)).share == 500
    assert await sweeper.sweep() == 1
    assert (await one(other, taken, need=1000, want=1000)).granted == 1000
    await away.exchange([])
    assert (await one(other, kept, need=1000, want=1000)).granted == 500
    await one(away, kept, share=-1)
    assert (await one(other, kept, total=500, need=500, want=500)).granted == 500


async def test_a_worker_that_was_only_away_counts_once(server: Server, client: Any, stream_name: str) -> None:
    away, other = server("away"), server("other")
    flight = {"starts_ms": 0, "ends_ms": 0, "amount": 8}
    await one(away, need=100, want=100)
    await one(away, "key:web:concurrency", **flight, need=5, want=5)
    await client.zadd(f"{{{stream_name}:limits}}:workers", {"away": 1})
    await other.sweep()
    assert (await one(away, spent=60, total=100)).left == 900
    assert (await one(away, "key:web:concurrency", **flight, total=5)).left == 3


async def test_a_worker_that_leaves_gives_everything_back(server: Server, client: Any, stream_name: str) -> None:
    a = server("a")
    await one(a, need=100, want=100, share=0)
    await one(a, spent=40, total=40, leaving=True)
    await a.leave()
    assert (await one(server("b"))).left == 960
    fields = await client.hgetall(f"{{{stream_name}:limits}}:{NAME}")
    assert (fields[b"s"], fields[b"o"], fields[b"h"]) == (b"40", b"0", b"0")
    assert b"w:a" not in fields
    assert not await client.exists(f"{{{stream_name}:limits}}:records:a")


async def test_the_ledger_makes_up_for_lost_data(server: Server) -> None:
    """The ledger does so in any order with the reports of the workers that live on, and as often as it likes."""
    a = server("a")
    expires_ms = int(time.time() + 60) * 1000
    await a.raise_spent(NAME, 600, expires_ms)
    assert (await one(server("b"))).spent == 600
    assert (await one(a, spent=250, total=250)).left == 400, "250 of the 600 are a's"
    await a.raise_spent(NAME, 500, expires_ms)
    assert (await one(a, spent=250, total=250)).left == 400, "the ledger lowers nothing"
    assert (await one(a, spent=400, total=400)).left == 250, "150 more; 350 were others'"
    await a.raise_spent(NAME, 760, expires_ms)
    assert (await one(a, spent=400, total=400)).left == 240


async def test_calls_in_the_ledger_before_their_report_count_twice(server: Server) -> None:
    """The server cannot know whose the ten are: as another process's they would be missing, as a's they are doubled."""
    a = server("a")
    expires_ms = int(time.time() + 60) * 1000
    assert (await one(a, spent=250, total=250)).left == 750
    await a.raise_spent(NAME, 260, expires_ms)
    assert (await one(a, spent=250, total=250)).left == 740
    assert (await one(a, spent=260, total=260)).left == 730, "on the safe side, by what one report lagged"
    await a.raise_spent(NAME, 260, expires_ms)
    assert (await one(a, spent=300, total=300)).left == 690, "nothing is doubled again"


async def test_a_malformed_record_counts_as_nothing(server: Server, client: Any, stream_name: str) -> None:
    key = f"{{{stream_name}:limits}}:{NAME}"
    await client.hset(key, mapping={"s": "many", "o": "", "w:a": "three"})
    assert (await one(server("a"), need=10, want=10)).granted == 10


async def test_large_amounts_are_exact_enough(server: Server) -> None:
    """A billion dollars, in 1e-9 USD."""
    grant = await one(server("a"), amount=10**18, need=5 * 10**17, want=5 * 10**17)
    assert (grant.granted, grant.left) == (5 * 10**17, 5 * 10**17)


async def test_a_server_that_is_unreachable_is_reported(stream_server: Any, stream_name: str) -> None:
    client = connect(stream_server.url, StreamConfig())
    server = LeaseServer(client, stream_name, "a")
    await one(server)
    stream_server.kill()
    for verb in (lambda: server.exchange([]), server.sweep, server.leave, lambda: server.raise_spent(NAME, 1, 1)):
        with pytest.raises(StreamDown):
            await verb()
    await close(client)


async def test_many_workers_at_once_never_get_more_than_there_is(server: Server) -> None:
    workers = [server(str(i)) for i in range(20)]
    grants = await asyncio.gather(*(one(each, need=90, want=300) for each in workers))
    assert sum(grant.granted for grant in grants) == 1000


@pytest.mark.long
async def test_on_a_cluster_all_scopes_are_exchanged_at_once(
    program: str, servers: Any, tmp_path: Any, stream_name: str
) -> None:
    """All scopes are in one slot, and a fail-over forgets nothing that a worker still knows."""
    with servers.directory() as directory:
        cluster = await asyncio.to_thread(lambda: servers.Cluster(program, directory / "cluster").start())
        client = connect(cluster.url.replace("redis://", "redis+cluster://"), StreamConfig())
        try:
            a, b = LeaseServer(client, stream_name, "a"), LeaseServer(client, stream_name, "b")
            scopes = [a_report(f"{kind}:x:tokens_per_day:d", need=400, want=400) for kind in ("key", "team")]
            reply = await a.exchange(scopes)
            assert reply is not None
            assert [grant.granted for grant in reply.grants] == [400, 400]
            await asyncio.to_thread(cluster.primary_of(f"{{{stream_name}:limits}}:workers").kill)
            spent = [a_report(f"{kind}:x:tokens_per_day:d", spent=300, total=400) for kind in ("key", "team")]
            async with asyncio.timeout(60):
                while True:
                    with contextlib.suppress(StreamDown):
                        reply = await a.exchange(spent)
                        break
                    await asyncio.sleep(0.05)
            assert reply is not None
            assert [(grant.spent, grant.left) for grant in reply.grants] == [(300, 600)] * 2
            assert (await one(b, "team:x:tokens_per_day:d", need=700, want=700)).granted == 600
            assert await b.sweep() == 0
        finally:
            await close(client)
            cluster.kill()
