"""Deltas are read as whole requests, by whichever consumer; one whose base is lost says so and loses nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fixtures.run_histories import growing

from gateway.consumer.consumer import ConsumerTiming
from gateway.core.backoff import Backoff
from gateway.core.exchange import DELTA, Exchange, Fields
from gateway.core.request_delta import BaseReference
from gateway.features.calls.rows import erase
from gateway.proxy.recording.run_histories import RunHistories
from gateway.store.query import full_exchange, reading
from gateway.store.store import Store
from gateway.stream import Corridor

REQUESTS = growing(8, 120_000)
QUICK = ConsumerTiming(block_ms=40, tick_s=0.05, claim_s=0.05, heartbeat_s=0.05, retry=Backoff(0.01, 0.02))


@pytest.fixture
def calls(exchange: Any) -> list[Exchange]:
    """Eight calls of one run, whose history grows."""
    return [exchange(run="r", run_source="x-gateway-run", request=body) for body in REQUESTS]


def entries_of(calls: Sequence[Exchange]) -> list[Fields]:
    histories = RunHistories()
    found = [histories.fields(call) for call in calls]
    assert [fields[b"kind"] for fields in found[2:]] == [DELTA] * (len(calls) - 2)
    return found


def stored(room: Any) -> dict[str, tuple[bytes, bool]]:
    with reading(room.store_url) as connection:
        ids = [row[0] for row in room.sql("SELECT id FROM exchanges")]
        rows = [full_exchange(connection, id) for id in ids]
    return {row["id"]: (bytes(row["request"]), row["truncated"]) for row in rows if row is not None}


def whole(calls: Sequence[Exchange]) -> dict[str, tuple[bytes, bool]]:
    return {call.id: (call.request, False) for call in calls}


async def test_deltas_are_stored_whole(room: Any, calls: list[Exchange]) -> None:
    async with room.consuming():
        await room.corridor.append(entries_of(calls))
        await room.until_read()
    assert stored(room) == whole(calls)
    scored = room.sql("SELECT COUNT(*) FROM scores WHERE status = 'scored'")
    assert scored == [(len(calls),)]


async def test_another_consumer_continues_from_the_store(room: Any, calls: list[Exchange]) -> None:
    entries = entries_of(calls)
    async with room.consuming("first"):
        await room.corridor.append(entries[:4])
        await room.until_read()
    async with room.consuming("second"):
        await room.corridor.append(entries[4:])
        await room.until_read()
    assert stored(room) == whole(calls)


async def test_several_consumers_share_a_run(room: Any, calls: list[Exchange]) -> None:
    """Each of them gets every third call, and reads one at a time."""
    one = replace(QUICK, first_count=1, count=1, most_count=1)
    async with room.consuming("a", one), room.consuming("b", one), room.consuming("c", one):
        for fields in entries_of(calls):
            await room.corridor.append([fields])
        await room.until_read()
    assert stored(room) == whole(calls)
    assert await room.corridor.losses() == 0


async def test_a_delta_waits_for_a_consumer_that_has_its_base(room: Any, calls: list[Exchange]) -> None:
    """The delta is read before its base is stored, and acknowledged afterwards."""
    entries, held = entries_of(calls[:3]), asyncio.Event()
    one = replace(QUICK, first_count=1, count=1, most_count=1)
    async with room.opened("slow", one) as (consumer, context), asyncio.TaskGroup() as tasks:
        write = context.store.write

        async def wait(batch: Any) -> Any:
            await held.wait()
            return await write(batch)

        context.store.write = wait
        await room.corridor.append(entries[:1])
        tasks.create_task(consumer.run())
        while (await room.corridor.lag()).pending < 1:
            await asyncio.sleep(0.005)
        consumer.stop()
        async with room.consuming("quick"):
            await room.corridor.append(entries[1:])
            while (await room.corridor.lag()).waiting:
                await asyncio.sleep(0.005)
            for _ in range(5):
                await asyncio.sleep(0.02)
                assert stored(room) == {}
            held.set()
            await room.until_read()
    assert stored(room) == whole(calls[:3])


@pytest.mark.parametrize("gone", [0, 2], ids=["the first", "one between"])
async def test_a_lost_base_costs_requests_and_no_record(room: Any, calls: list[Exchange], gone: int) -> None:
    entries = entries_of(calls)
    async with room.consuming():
        await room.corridor.append(entries[:gone] + entries[gone + 1 :])
        await room.until_read()
    kept, cut = calls[:gone], calls[gone + 1 :]
    expected = whole(kept) | {call.id: (b"{}", True) for call in cut if entries[call.seq - 1][b"kind"] == DELTA}
    expected |= {call.id: (call.request, False) for call in cut if entries[call.seq - 1][b"kind"] != DELTA}
    found = stored(room)
    assert found == expected
    assert [row[0] for row in room.sql("SELECT text FROM exchanges")] == ["1"] * len(found), "answers are kept"


async def test_a_loss_is_counted_so_that_the_gateway_sends_all(room: Any, calls: list[Exchange]) -> None:
    entries = entries_of(calls)
    histories = RunHistories()
    histories.heed(await room.corridor.losses())
    histories.fields(calls[4])
    async with room.consuming():
        await room.corridor.append(entries[4:6])
        await room.until_read()
    assert await room.corridor.losses() == 2
    histories.heed(await room.corridor.losses())
    assert histories.fields(calls[5]) == calls[5].to_fields()


async def test_an_emptied_base_is_told_from_a_whole_one(room: Any, calls: list[Exchange]) -> None:
    entries = entries_of(calls)
    async with room.consuming("first"):
        await room.corridor.append(entries[:3])
        await room.until_read()
    async with Store(room.store_url) as store:
        await store.run(lambda c: erase.erase(c, [calls[2].id], 0.0))
    async with room.consuming("second"):
        await room.corridor.append(entries[3:4])
        await room.until_read()
    assert stored(room)[calls[3].id] == (b"{}", True)


async def test_a_dead_letter_has_the_whole_request(room: Any, calls: list[Exchange]) -> None:
    entries = entries_of(calls[:3])
    async with room.opened() as (consumer, context), asyncio.TaskGroup() as tasks:
        read = context.scoring.read

        async def refused(entries: Any) -> Any:
            found = await read(entries)
            bad = [each for each in found.read if each.record.id == calls[2].id]
            found.read[:] = [each for each in found.read if each not in bad]
            from gateway.consumer.entry_scoring import UnreadableEntry

            found.unreadable.extend(UnreadableEntry(each.entry, "refused by the test") for each in bad)
            return found

        context.scoring.read = refused
        tasks.create_task(consumer.run())
        await room.corridor.append(entries)
        await room.until_read()
        consumer.stop()
    [letter] = [letter async for letter in room.corridor.dead_letters.all()]
    assert letter.fields == calls[2].to_fields()


async def test_a_delta_that_cannot_be_read_is_a_call_without_its_request(room: Any, calls: list[Exchange]) -> None:
    first, second, third = entries_of(calls[:3])
    broken = {**third, b"head": third[b"head"].replace(b'"parts":', b'"p":')}
    async with room.consuming():
        await room.corridor.append([first, second, broken])
        await room.until_read()
    assert stored(room) == whole(calls[:2]) | {calls[2].id: (b"{}", True)}


async def test_first_pending_is_the_oldest_entry_in_work(room: Any, calls: list[Exchange]) -> None:
    corridor: Corridor = room.corridor
    await corridor.join()
    assert await corridor.first_pending() == {0: ""}
    await corridor.append(entries_of(calls[:3]))
    read = await corridor.read("c", 3, 500)
    await corridor.ack([read[1].id])
    assert await corridor.first_pending() == {0: read[0].id}
    await corridor.ack([read[0].id])
    assert await corridor.first_pending() == {0: read[2].id}
    assert BaseReference.read(read[2].fields).id == calls[1].id
