"""Every record that was sent is stored once, however often it is delivered and whichever process is killed; losses are
counted."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

import orjson
import pytest
from sqlalchemy.exc import OperationalError

from gateway.consumer.consumer import Consumer, ConsumerTiming, ScoringTime, next_count
from gateway.core.backoff import Backoff
from gateway.core.exchange import Feedback
from gateway.features.feedback.implicit import ImplicitFeedback
from gateway.store.retention import RetentionLimits
from gateway.store.store import StoreDown
from gateway.stream import Corridor, StreamEntry
from gateway.stream.types import GROUP, order


async def test_records_are_stored_scored_and_acknowledged(room, exchange, tally):
    sent = [exchange("1"), exchange("0"), exchange("n/a"), exchange("boom")]
    async with room.consuming():
        await room.send(*sent, tally(sent))
        await room.until_read()

    texts = dict(room.sql("SELECT id, text FROM exchanges"))
    assert texts == {e.id: text for e, text in zip(sent, ("1", "0", "n/a", "boom"), strict=True)}
    found = dict(room.sql("SELECT exchange_id, status FROM scores"))
    assert [found[e.id] for e in sent] == ["scored", "scored", "not_applicable", "error"]
    (cell,) = room.cells()
    assert cell.n == {"scored": 2, "not_applicable": 1, "error": 1, "timeout": 0, "budget": 0}
    assert (cell.total, cell.population) == (1.0, 4)


async def test_the_consumer_may_see_an_exchange_twice(room, exchange):
    one = exchange("1")
    async with room.consuming():
        await room.send(one)
        await room.until_read()
        (before,) = room.cells()
        await room.send(one, one)
        await room.until_read()
    (after,) = room.cells()
    assert (after.n, after.total) == (before.n, before.total)
    assert room.sql("SELECT count(*) FROM scores") == [(1,)]
    assert room.snapshot().duplicates == 2


async def test_a_clock_that_is_set_back_stops_nothing(room, exchange):
    """Rounds go on, and so do the figures that show that the consumer works."""
    now = [time.time()]
    async with room.opened() as (_, context), asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        consumer = Consumer(context, "c1", ConsumerTiming(tick_s=0.01, block_ms=10), clock=lambda: now[0])
        running = tasks.create_task(consumer.run())
        for _ in range(2):
            seen = len(room.shown)
            while len(room.shown) < seen + 3:
                await asyncio.sleep(0.005)
            now[0] -= 3600
        consumer.stop()
        await running


async def test_a_kill_between_store_and_ack_only_adds_duplicates(room, exchange, tally):
    sent = [exchange("1"), exchange("0")]
    await room.send(*sent, tally(sent))
    async with room.opened("killed") as (consumer, context):
        stored = asyncio.Event()

        async def never(_: object) -> None:
            stored.set()
            await asyncio.Event().wait()

        context.corridor.ack = never
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(consumer.run())
            await stored.wait()
            running.cancel()
    (before,) = room.cells()

    async with room.consuming("heir", idle(0)):
        await room.until_read()
    (after,) = room.cells()
    assert (after.n, after.total, after.population) == (before.n, before.total, before.population)
    assert room.snapshot().duplicates == 2
    assert room.snapshot().unaccounted == 0


async def test_the_next_batch_is_scored_while_one_is_stored(room, exchange, tally):
    """A consumer that is killed then loses neither batch, and no exchange counts twice."""
    sent = [exchange("1"), exchange("0"), exchange("1"), exchange("1"), exchange("0")]
    await room.send(*sent, tally(sent))
    async with room.opened("killed", ConsumerTiming(count=2, most_count=2, claim_s=60.0)) as (consumer, context):
        read, both = context.scoring.read, asyncio.Event()
        scored, written = [], []

        async def scoring(entries):
            found = await read(entries)
            scored.append([entry.id for entry in entries])
            if len(scored) == 2:
                both.set()
            return found

        async def never(batch):
            written.append(len(batch.judged))
            await asyncio.Event().wait()

        context.scoring.read, context.store.write = scoring, never
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(60):
            running = tasks.create_task(consumer.run())
            await both.wait()
            assert (written, [len(each) for each in scored]) == ([2], [2, 2]), "no third one is read"
            pending = await room.corridor.client.xpending_range(room.corridor.key, GROUP, "-", "+", 10)
            assert [entry["message_id"].decode() for entry in pending] == [*scored[0], *scored[1]]
            running.cancel()

    async with room.consuming("heir", idle(0)):
        await room.until_read()
    assert room.sql("SELECT count(*) FROM exchanges") == [(5,)]
    (cell,) = room.cells()
    assert (cell.n["scored"], cell.population) == (5, 5)
    assert (room.snapshot().unaccounted, room.snapshot().duplicates) == (0, 0)


async def test_batches_are_acknowledged_in_the_order_they_were_read(room, exchange):
    sent = [exchange("1") for _ in range(9)]
    await room.send(*sent)
    async with room.opened("c1", ConsumerTiming(count=2, most_count=2, block_ms=20)) as (consumer, context):
        ack, acknowledged = context.corridor.ack, []

        async def noted(ids):
            acknowledged.extend(ids)
            await ack(ids)

        context.corridor.ack = noted
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(60):
            running = tasks.create_task(consumer.run())
            await room.until_read()
            consumer.stop()
            await running
    assert len(acknowledged) == 9
    assert acknowledged == sorted(acknowledged, key=order)


async def test_entries_of_a_dead_consumer_are_claimed(room, exchange):
    await room.corridor.join()
    await room.send(exchange("1"), exchange("0"))
    assert len(await room.corridor.read("dead", 10, 20)) == 2

    async with room.consuming("heir", idle(0)):
        await room.until_read()
    assert room.sql("SELECT count(*) FROM exchanges") == [(2,)]


async def test_a_living_consumers_entries_are_kept_from_others(room, exchange):
    """The heartbeat resets the idle time of the entries that it is scoring, however long a judge takes."""
    await room.send(exchange("1"))
    async with room.opened("slow") as (consumer, context):
        started, finish = asyncio.Event(), asyncio.Event()
        read = context.scoring.read

        async def slowly(entries):
            started.set()
            await finish.wait()
            return await read(entries)

        async def idle_ms() -> int:
            (entry,) = await room.corridor.client.xpending_range(room.corridor.key, GROUP, "-", "+", 10)
            assert entry["consumer"] == b"slow"
            return entry["time_since_delivered"]

        context.scoring.read = slowly
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(60):
            tasks.create_task(consumer.run())
            await started.wait()
            before, resets = 0, 0
            while resets < 3:
                now = await idle_ms()
                resets += now < before
                before = now
                await asyncio.sleep(0.001)
            finish.set()
            await room.until_read()
            consumer.stop()


async def test_an_unreadable_entry_is_a_dead_letter_at_once(room, exchange, tally):
    first, last = exchange("1"), exchange("0")
    newer = {**exchange("1").to_fields(), b"head": b'{"v": 99}'}
    bad = [{b"kind": b"exchange", b"head": b"{"}, {b"junk": b"\xff"}, newer]
    await room.corridor.append([first.to_fields(), *bad, last.to_fields()])
    async with room.consuming():
        await room.until_read()

    assert room.sql("SELECT count(*) FROM exchanges") == [(2,)]
    assert dict(room.snapshot().dead_letters) == {"unreadable": 3}
    letters = [letter async for letter in room.corridor.dead_letters.all()]
    assert [letter.reason for letter in letters] == ["unreadable"] * 3
    assert "version 99" in letters[2].error


async def test_too_many_deliveries_make_a_dead_letter(room, exchange, tally):
    poison, fine = exchange("1"), exchange("0")
    await room.corridor.join()
    await room.send(poison, fine, tally([poison, fine]))
    handed = await room.corridor.read("dead", 1, 20)
    for _ in range(5):
        await room.corridor.claim("dead", 0, 10)

    async with room.consuming("heir", idle(0)):
        await room.until_read()
    assert room.sql("SELECT id FROM exchanges") == [(fine.id,)]
    assert dict(room.snapshot().dead_letters) == {"too_many_deliveries": 1}
    assert [letter.entry async for letter in room.corridor.dead_letters.all()] == [handed[0].id]
    assert room.snapshot().unaccounted == 0


async def test_a_record_that_the_database_refuses_is_a_dead_letter(room, exchange, tally):
    """A number that no column holds must not block its batch forever."""
    strange = exchange("1", status=9223372036854775808)
    await room.send(exchange("1"), strange, exchange("0"))
    async with room.consuming():
        await room.until_read()
    assert room.sql("SELECT count(*) FROM exchanges") == [(2,)]
    assert dict(room.snapshot().dead_letters) == {"refused": 1}


async def test_a_store_that_fails_is_tried_again_and_told_once(room, exchange, caplog):
    await room.send(exchange("1"))
    async with room.opened() as (consumer, context):
        write, failures = (
            context.store.write,
            [StoreDown("store: it is full")] * 3,
        )

        async def failing(batch):
            if failures:
                raise failures.pop()
            return await write(batch)

        context.store.write = failing
        with caplog.at_level(logging.WARNING):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(consumer.run())
                await room.until(lambda: not failures)
                await room.until_read()
                consumer.stop()
    assert room.sql("SELECT count(*) FROM exchanges") == [(1,)]
    assert [r.message for r in caplog.records] == [
        "scoring paused; retrying: store: it is full",
        "scoring resumed",
    ]


async def test_a_locked_database_is_a_store_that_is_down(room):
    async with room.opened() as (_, context):

        def locked(_: object) -> None:
            raise OperationalError("INSERT", {}, Exception("database is locked"))

        with pytest.raises(StoreDown):
            await context.store.run(locked)


async def test_a_server_that_lost_its_data_is_read_again(room, exchange):
    async with room.consuming():
        await room.send(exchange("1"))
        await room.until_read()
        await room.corridor.client.delete(room.corridor.key)
        await room.send(exchange("0"))
        await room.until(lambda: room.sql("SELECT count(*) FROM exchanges") == [(2,)])


async def test_a_stream_server_that_is_killed_is_waited_for(room, exchange, stream_server, caplog):
    room.stream_url = stream_server.url
    async with room.consuming():
        await room.until(lambda: room.shown)
        stream_server.kill()
        await room.until(lambda: any("scoring paused" in r.message for r in caplog.records))
        stream_server.start()
        await room.until(lambda: any("scoring resumed" in r.message for r in caplog.records))
    assert sum("scoring paused" in r.message for r in caplog.records) == 1


async def test_stopping_finishes_what_is_in_hand_and_leaves_the_group(room, exchange):
    await room.send(*[exchange("1") for _ in range(20)])
    async with room.consuming():
        await room.until_read()
    assert room.sql("SELECT count(*) FROM exchanges") == [(20,)]
    assert await room.corridor.state.consumers() == {}


async def test_feedback_is_kept_and_the_same_id_replaces(room, exchange):
    one = exchange("1")
    word = Feedback(one.id, "f1", "web", 10.0, "thumb", 1.0, comment="good")
    async with room.consuming():
        await room.send(one, word, replace(word, at=20.0, value=0.0), replace(word, at=15.0, value=0.5))
        await room.until_read()
    assert room.sql("SELECT value, comment FROM feedback") == [(0.0, "good")]


async def test_a_restart_continues_every_count(room, exchange, tally):
    first = [exchange("1"), exchange("0")]
    async with room.consuming():
        await room.send(*first, first[0], tally(first))
        await room.until_read()
    before = room.shown[-1]

    more = [exchange("1")]
    async with room.consuming("next"):
        await room.until(lambda: len(room.shown) > 1)
        assert room.shown[-1].scores == before.scores
        await room.send(*more, tally([*first, *more]))
        await room.until_read()
    after = room.shown[-1]
    assert after.duplicates == before.duplicates == 1
    assert after.scores[0].by_status == {"scored": 3}
    assert after.scores[0].weight == 3.0
    assert after.scores[0].weighted_sum == 2.0


async def test_only_a_real_loss_raises_unaccounted(room, exchange, tally):
    sent = [exchange("1") for _ in range(100)]
    await room.corridor.join()
    for at in range(0, 100, 10):
        await room.send(*sent[at : at + 10], tally(sent[: at + 10]))
    async with room.consuming(timing=idle(60_000, count=7)):
        await room.until_read()
    assert {shown.unaccounted for shown in room.shown} == {0}

    lost = exchange("1")
    await room.send(lost)
    entry = (await room.corridor.client.xrevrange(room.corridor.key, count=1))[0][0]
    await room.corridor.client.xdel(room.corridor.key, entry)
    await room.send(tally([*sent, lost]))
    async with room.consuming("next"):
        await room.until_read()
    assert room.shown[-1].unaccounted == 1


async def test_an_entry_that_is_pending_elsewhere_is_not_lost(room, exchange, tally):
    sent = [exchange("1") for _ in range(3)]
    await room.corridor.join()
    await room.send(*sent, tally(sent))
    await room.corridor.read("slow", 2, 20)
    async with room.consuming(timing=idle(60_000)):
        await room.until(lambda: room.shown and len(room.shown) > 3)
    assert {shown.unaccounted for shown in room.shown} == {0}
    assert room.shown[-1].pending == 2
    assert room.shown[-1].oldest_unscored_s > 0


def idle(idle_ms: int, **more: int) -> ConsumerTiming:
    quick = ConsumerTiming(block_ms=20, tick_s=0.0, claim_s=0.0, heartbeat_s=0.01, retry=Backoff(0.01, 0.02))
    return replace(quick, claim_idle_ms=idle_ms, **more)


async def test_gateways_learn_what_became_of_feedback(room, exchange):
    mine, theirs = exchange(), exchange(caller="app")
    words = [Feedback(e.id, f"f{n}", "web", 1.5, "thumb", 1.0) for n, e in enumerate((mine, theirs))]
    async with room.consuming():
        await room.send(mine, theirs, *words, Feedback("nothing", "f2", "web", 1.5, "thumb", 1.0))
        await room.until_read()
    replies = [orjson.loads(str(await room.corridor.state.recall(f"feedback:f{n}"))) for n in range(3)]
    assert [(s["at"], s["exchange"], s["foreign"]) for s in replies] == [
        (1.5, mine.id, False), (1.5, None, True), (1.5, None, False)
    ]  # fmt: skip


async def test_several_consumers_write_one_postgresql(room, exchange, tally, postgres_url):
    """The same exchanges twice, at once, with their feedback: each is counted once."""
    room.store_url = postgres_url
    sent = [exchange(str(n % 2)) for n in range(300)]
    words = [Feedback(e.id, f"f{e.seq}", "web", 1.0, "thumb", 1.0) for e in sent[:40]]
    async with room.consuming("c1"), room.consuming("c2"), room.consuming("c3"):
        for at in range(0, 300, 60):
            await room.send(*sent[at : at + 60], *words, *sent[at : at + 60])
        await room.send(tally(sent, {"default": 900}))
        await room.until_read()
        await room.until(lambda: room.snapshot().cells and room.cells()[0].population == 900)
    standing = room.snapshot()
    (cell,) = standing.cells
    assert (cell.n["scored"], cell.total, cell.population, standing.unaccounted) == (300, 150.0, 900, 0)
    assert room.sql("SELECT count(*) FROM exchanges") == [(300,)]
    assert room.sql("SELECT count(*), sum(value) FROM scores WHERE kind = 'feedback'") == [(40, 40.0)]


async def test_several_consumers_find_implicit_feedback(room, exchange, postgres_url):
    """Replies and their answers, twice and concurrently, in small batches: each reaction is one score of the answer,
    whichever consumer stores first, and without a sweep."""
    room.store_url, room.implicit = postgres_url, ImplicitFeedback(("en",))
    began = time.time() - 3600
    asked = [exchange(str(n), received=began + n) for n in range(30)]
    history = [{"role": "user", "content": "a number?"}, {"role": "assistant", "content": ""}]
    replies = []
    for n, _ in enumerate(asked):
        messages = [history[0], {**history[1], "content": str(n)}, {"role": "user", "content": "that's wrong"}]
        replies.append(exchange("0", received=began + 1000 + n, request=orjson.dumps({"messages": messages})))
    small = idle(30_000, count=4, most_count=8)
    async with room.consuming("c1", small), room.consuming("c2", small):
        await room.send(*replies[:10], *asked, *replies[10:], *replies)
        await room.until_read()
    found = "SELECT exchange_id, value FROM scores WHERE scorer = 'feedback:implicit:wrong'"
    assert sorted(room.sql(found)) == sorted((each.id, 0.0) for each in asked)


async def test_a_consumer_behind_by_days_finds_implicit_feedback(room, exchange):
    """Retention runs between the batches, and the answer is older than a day by then."""
    room.implicit = ImplicitFeedback(("en",))
    messages = [{"role": "user", "content": "a number?"}, {"role": "assistant", "content": "7"}]
    messages.append({"role": "user", "content": "that's wrong"})
    began = time.time() - 3 * 86_400
    asked = exchange("7", received=began)
    reply = exchange("0", received=began + 10, request=orjson.dumps({"messages": messages}))
    for each in (asked, reply):
        entry = f"{round(each.received * 1000)}-1"
        await room.corridor.client.xadd(room.corridor.key, each.to_fields(), id=entry)
    async with room.consuming("c1", ConsumerTiming(first_count=1, count=1, most_count=1, tick_s=0.0, retention_s=0.0)):
        await room.until_read()
    found = "SELECT exchange_id, value FROM scores WHERE scorer = 'feedback:implicit:wrong'"
    assert room.sql(found) == [(asked.id, 0.0)]


async def test_the_first_read_and_one_after_idling_are_small(room, exchange):
    """Entries of an unknown size may each have megabytes: eight tell how many are read next."""
    big = orjson.dumps({"messages": [{"role": "user", "content": "a" * 100_000}]})
    batches = []
    async with room.opened("c1", replace(idle(30_000), most_bytes=1_000_000)) as (consumer, context):
        read = context.scoring.read

        async def noted(entries):
            batches.append(len(entries))
            return await read(entries)

        context.scoring.read = noted
        await room.send(*(exchange("1", request=big) for _ in range(40)))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            await room.until(lambda: sum(batches) == 40)
            await room.until_read()
            seen = len(room.shown)
            await room.until(lambda: len(room.shown) > seen + 3)
            await room.send(*(exchange("1", request=big) for _ in range(40)))
            await room.until(lambda: sum(batches) == 80)
            consumer.stop()
    assert max(batches) <= 10, batches
    assert batches[0] == 8


async def test_old_exchanges_are_deleted_while_the_consumer_works(room, exchange, caplog):
    caplog.set_level(logging.INFO)
    old, new = exchange(received=time.time() - 3 * 86_400), exchange()
    async with (
        room.opened(
            timing=ConsumerTiming(block_ms=20, tick_s=0.0, retention_s=0.0),
            retention=RetentionLimits(keep_s=86_400.0, protected_s=-1.0),
        ) as (consumer, _),
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(consumer.run())
        await room.send(old, new)
        await room.until(lambda: "exchanges deleted=1" in caplog.text)
        consumer.stop()
    assert room.sql("SELECT id FROM exchanges") == [(new.id,)]
    assert room.cells()[0].n["scored"] == 2, "sums stay"


async def test_an_evicting_server_is_warned_about(room, stream_server, caplog):
    room.stream_url = stream_server.url
    corridor = Corridor(stream_server.url, room.stream_name)
    await corridor.client.config_set("maxmemory-policy", "allkeys-lru")
    await corridor.aclose()
    async with room.consuming():
        await room.until(lambda: room.shown)
    (message,) = [r.message for r in caplog.records if "maxmemory-policy" in r.message]
    assert "allkeys-lru" in message
    assert "noeviction" in message


async def test_an_entry_that_breaks_our_code_is_a_dead_letter(room, exchange, tally, caplog):
    """A fault of the program on one entry: the others are stored, the consumer goes on, and the letter says why."""
    fine, poison = [exchange("1") for _ in range(3)], exchange("0")
    await room.send(*fine[:2], poison, fine[2], tally([*fine, poison]))
    async with room.opened("eye", idle(0)) as (consumer, context):
        write = context.store.write

        async def breaking(batch):
            if any(j.exchange.id == poison.id for j in batch.judged):
                raise ZeroDivisionError("a mistake of ours")
            return await write(batch)

        context.store.write = breaking
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            await room.until_read()
            await room.until(lambda: room.shown and room.shown[-1].pending == 0 and room.shown[-1].dead_letters)
            consumer.stop()
    assert {i for (i,) in room.sql("SELECT id FROM exchanges")} == {e.id for e in fine}
    (letter,) = [each async for each in room.corridor.dead_letters.all()]
    assert (letter.reason, room.snapshot().unaccounted) == ("too_many_deliveries", 0)
    assert letter.error == "delivered 6 times, never stored; last failure: ZeroDivisionError: a mistake of ours"
    assert "scoring failed" in caplog.text


@pytest.mark.parametrize(
    ("found", "size", "scoring_s", "expected"),
    [
        (255, 10, 0.0, 256),  # nothing more waits
        (255, 1_000_000, 0.0, 8),
        (256, 10, 1e-4, 1024),
        (256, 10, 5e-4, 500),  # as many as take a quarter of a second
        (256, 10, 1.0, 256),
        (256, 16_000, 1e-4, 500),  # as many as have 8 MB
        (256, 1_000_000, 1.0, 8),
        (256, 20_000_000, 1e-4, 1),
        (256, 0, 0.0, 1024),
    ],
)
def test_a_batch_grows_while_more_waits_and_entries_are_cheap(
    found: int, size: int, scoring_s: float, expected: int
) -> None:
    entries = [StreamEntry("1-0", {b"res": bytes(size)})] * found
    assert next_count(entries, 256, ConsumerTiming(), ScoringTime(scoring_s)) == expected


def test_a_batch_that_was_read_small_grows_again() -> None:
    assert next_count([StreamEntry("1-0", {b"res": b""})] * 8, 8, ConsumerTiming(), ScoringTime()) == 1024
    assert next_count([], 1024, ConsumerTiming(), ScoringTime()) == 256


@pytest.mark.parametrize(("wall_s", "expected"), [(0.001, 1024), (0.02, 500), (0.25, 256)])
def test_a_batch_does_not_outgrow_the_queue_of_a_judge(wall_s: float, expected: int) -> None:
    entries = [StreamEntry("1-0", {b"res": b""})] * 256
    assert next_count(entries, 256, ConsumerTiming(), ScoringTime(0.0, wall_s)) == expected
