"""The corridor over a real server: in order, acknowledged, claimed, dead-lettered, trimmed, and down when it is
down.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.core.errors import StreamDown
from gateway.stream import Corridor


def entries(n: int) -> list[dict[bytes, bytes]]:
    return [{b"n": b"%d" % i} for i in range(n)]


def numbers(read) -> list[int]:
    return [int(entry.fields[b"n"]) for entry in read]


async def test_appended_records_are_read_in_order_and_once(corridor):
    await corridor.append(entries(5))
    await corridor.join()
    assert numbers(await corridor.read("a", 3, 10)) == [0, 1, 2]
    assert numbers(await corridor.read("b", 3, 10)) == [3, 4]
    assert await corridor.read("a", 3, 10) == []


async def test_mixed_entries_keep_their_order_and_fields(corridor):
    """Bytes as they are, whatever they are; an appending of nothing is one too."""
    mixed = [{b"n": b"0"}, {b"n": b"1"}, {b"n": b"2", b"body": bytes(range(256)), b"empty": b""}, {b"n": b"3"}]
    await corridor.append(mixed)
    await corridor.append([])
    await corridor.join()
    assert [dict(entry.fields) for entry in await corridor.read("a", 9, 10)] == mixed


async def test_the_servers_refusal_is_reported_in_its_own_words(corridor):
    """The message names neither the script that appends nor the appended record."""
    await corridor.client.set(corridor.key, "no stream")
    with pytest.raises(StreamDown) as error:
        await corridor.append(entries(2))
    assert str(error.value).endswith("Operation against a key holding the wrong kind of value")


async def test_joining_again_keeps_the_place(corridor):
    await corridor.join()
    await corridor.append(entries(1))
    await corridor.read("a", 1, 10)
    await corridor.join()
    assert await corridor.read("a", 1, 10) == []


async def test_unacknowledged_entries_are_claimed_with_deliveries(corridor):
    await corridor.join()
    await corridor.append(entries(3))
    read = await corridor.read("dead", 3, 10)
    await corridor.ack([read[0].id])
    assert [(e.id, e.deliveries) for e in await corridor.claim("heir", 0, 10)] == [(read[1].id, 2), (read[2].id, 2)]
    assert await corridor.claim("third", 60_000, 10) == []


async def test_claiming_looks_past_entries_that_are_too_young(corridor):
    """The server looks at ten entries for each one asked for; the old one may come after them."""
    await corridor.join()
    await corridor.append(entries(40))
    read = await corridor.read("a", 40, 10)
    idle = {"min_idle_time": 0, "message_ids": [read[-1].id], "idle": 60_000}
    await corridor.client.xclaim(corridor.key, "evals", "a", **idle)
    assert [e.id for e in await corridor.claim("b", 30_000, 1)] == [read[-1].id]


async def test_keeping_makes_entries_young_and_counts_no_delivery(corridor):
    await corridor.join()
    await corridor.append(entries(1))
    (entry,) = await corridor.read("a", 1, 10)
    await corridor.client.xclaim(corridor.key, "evals", "a", 0, [entry.id], idle=60_000, justid=True)
    await corridor.keep("a", [entry.id])
    assert await corridor.claim("b", 30_000, 1) == []
    assert [e.deliveries for e in await corridor.claim("b", 0, 1)] == [2]


async def test_entries_deleted_while_pending_are_no_longer_pending(corridor):
    await corridor.join()
    await corridor.append(entries(2))
    first, second = await corridor.read("a", 2, 10)
    await corridor.client.xdel(corridor.key, first.id)
    assert [e.id for e in await corridor.claim("b", 0, 10)] == [second.id]
    assert await corridor.watermark() == second.id


async def test_burying_moves_an_entry_with_its_reason(corridor):
    await corridor.join()
    await corridor.append(entries(1))
    (entry,) = await corridor.read("a", 1, 10)
    await corridor.dead_letters.add(entry, "unreadable", "x" * 9000)
    [letter] = [letter async for letter in corridor.dead_letters.all()]
    assert letter.fields[b"n"] == b"0"
    assert (letter.reason, letter.entry) == ("unreadable", entry.id)
    assert len(letter.error) == 4000
    assert (await corridor.lag()).pending == 0


async def test_everything_before_the_watermark_is_acknowledged(corridor):
    assert await corridor.watermark() is None
    await corridor.join()
    await corridor.append(entries(4))
    read = await corridor.read("a", 3, 10)
    assert await corridor.watermark() == read[0].id
    await corridor.ack([read[0].id, read[2].id])
    assert await corridor.watermark() == read[1].id
    await corridor.ack([read[1].id])
    ms, n = read[2].id.split("-")
    assert await corridor.watermark() == f"{ms}-{int(n) + 1}"


async def test_trim_read_keeps_unread_entries_and_other_groups(corridor):
    await corridor.join()
    await corridor.append(entries(300))
    read = await corridor.read("a", 250, 10)
    await corridor.ack([e.id for e in read])
    await corridor.client.xgroup_create(corridor.key, "others", id="0")
    assert await corridor.trim_read() == 0
    await corridor.client.xgroup_destroy(corridor.key, "others")
    assert 0 < await corridor.trim_read() <= 250
    assert numbers(await corridor.read("a", 100, 10)) == list(range(250, 300))


async def test_lag_counts_what_waits_and_how_long(corridor):
    assert (await corridor.lag()).oldest_s == 0.0
    await corridor.join()
    await corridor.append(entries(3))
    lag = await corridor.lag(now=time.time() + 5)
    assert (lag.length, lag.waiting, lag.pending) == (3, 3, 0)
    assert 5 <= lag.oldest_s < 10
    read = await corridor.read("a", 1, 10)
    lag = await corridor.lag()
    assert (lag.waiting, lag.pending) == (2, 1)
    await corridor.ack([e.id for e in [*read, *await corridor.read("a", 9, 10)]])
    lag = await corridor.lag()
    assert (lag.length, lag.waiting, lag.pending, lag.oldest_s) == (3, 0, 0, 0.0)


async def test_heartbeats_tell_who_lives_until_they_leave(corridor):
    await corridor.join()
    await corridor.append(entries(1))
    await corridor.read("a", 1, 10)
    await corridor.state.heartbeat("a", 12.5)
    assert await corridor.state.consumers() == {"a": 12.5}
    await corridor.leave("a")
    assert await corridor.state.consumers() == {}
    assert len(await corridor.claim("b", 0, 1)) == 1  # what it held was not thrown away with it


async def test_the_stream_holds_no_more_than_its_megabytes(stream_url, stream_name):
    small = Corridor(stream_url, stream_name, max_mb=1.0)
    for _ in range(30):
        await small.append([{b"n": b"x" * 1000} for _ in range(100)])
    assert (await small.lag()).length < 1500
    await small.aclose()


async def test_a_small_text_is_shared_for_a_while(corridor, stream_url, stream_name):
    other = Corridor(stream_url, stream_name)
    await corridor.state.remember("plan", "p1", 60)
    assert await other.state.recall("plan") == "p1"
    assert await other.state.recall("nothing") is None
    await other.aclose()


async def test_every_verb_says_when_the_server_is_down(stream_server):
    corridor = Corridor(stream_server.url, "x")
    await corridor.ping()
    stream_server.kill()
    for verb in (corridor.ping(), corridor.append(entries(1)), corridor.join(), corridor.read("a", 1, 10),
                 corridor.claim("a", 0, 1), corridor.ack(["1-1"]), corridor.lag(), corridor.watermark()):  # fmt: skip
        with pytest.raises(StreamDown):
            await verb
    stream_server.start()
    await corridor.ping()
    await corridor.aclose()


async def test_a_server_that_lost_its_data_gets_its_group_again(corridor):
    await corridor.join()
    await corridor.client.delete(corridor.key)
    with pytest.raises(StreamDown, match="without its data"):
        await corridor.read("a", 1, 10)
    await corridor.append(entries(1))
    assert numbers(await corridor.read("a", 1, 10)) == [0]


async def test_a_refused_command_is_stream_down(stream_server):
    corridor = Corridor(stream_server.url, "x")
    await corridor.client.config_set("maxmemory", "1")
    with pytest.raises(StreamDown, match="was refused"):
        await corridor.append(entries(1))
    await corridor.aclose()


@pytest.mark.parametrize("answer", ["reply", "error"])
async def test_a_cancellation_is_never_swallowed(corridor, answer):
    """redis-py sends with asyncio.wait_for, which in Python 3.11 returns a result that is ready instead. Then follows
    a reply, or an error: that the group is there already."""
    await corridor.join()
    verb = corridor.ping if answer == "reply" else corridor.join
    for turns in range(60):

        async def forever() -> None:
            while True:
                await verb()

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(forever())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=5)
            assert done
