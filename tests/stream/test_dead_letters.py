"""Dead letters are kept whole with their reason, put back at most once, and counted until they are gone."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.errors import StreamDown
from gateway.stream import StreamEntry


async def buried(corridor, n: int, reason: str = "unreadable") -> None:
    await corridor.append([{b"n": b"%d" % i, b"body": b"\x00\xff"} for i in range(n)])
    await corridor.join()
    for entry in await corridor.read("a", n, 50):
        await corridor.dead_letters.add(entry, reason, f"why {entry.fields[b'n'].decode()}")


async def every(corridor, page: int = 100):
    return [letter async for letter in corridor.dead_letters.all(page)]


async def test_letters_are_read_in_pages_oldest_first_unchanged(corridor):
    await buried(corridor, 7)
    found = await every(corridor, page=3)
    assert [letter.fields for letter in found] == [{b"n": b"%d" % i, b"body": b"\x00\xff"} for i in range(7)]
    assert {(letter.reason, letter.error[:3]) for letter in found} == {("unreadable", "why")}
    assert await corridor.dead_letters.count() == 7
    assert await corridor.dead_letters.get(found[2].id) == found[2]
    assert await corridor.dead_letters.get("1-0") is None
    assert found[0].added_at > 1e9


async def test_letters_are_counted_by_reason_until_removed(corridor):
    await buried(corridor, 3)
    await buried(corridor, 2, "refused")
    assert await corridor.dead_letters.by_reason() == {"unreadable": 3, "refused": 2}
    found = await every(corridor)
    await corridor.dead_letters.replay(found[0])
    assert await corridor.dead_letters.purge(found[1:4]) == 3
    assert await corridor.dead_letters.by_reason() == {"refused": 1}
    assert await corridor.dead_letters.purge(found) == 1, "those that are gone are not counted again"
    assert await corridor.dead_letters.by_reason() == {}


async def test_a_replayed_letter_is_read_again_and_removed(corridor):
    await buried(corridor, 1)
    (letter,) = await every(corridor)
    entry = await corridor.dead_letters.replay(letter)
    (again,) = await corridor.read("a", 10, 50)
    assert (again.id, again.fields, again.deliveries) == (entry, letter.fields, 1)
    assert await every(corridor) == []


async def test_two_who_put_back_the_same_letter_put_it_back_once(corridor):
    await buried(corridor, 1)
    (letter,) = await every(corridor)
    done = await asyncio.gather(*(corridor.dead_letters.replay(letter) for _ in range(5)))
    assert sum(each is not None for each in done) == 1
    assert len(await corridor.read("a", 10, 50)) == 1


async def test_purge_deletes_more_letters_than_a_page(corridor):
    await buried(corridor, 250)
    assert await corridor.dead_letters.purge(await every(corridor)) == 250
    assert await corridor.dead_letters.count() == 0


async def test_an_entry_of_an_unknown_shard_is_an_error(corridor):
    with pytest.raises(StreamDown, match=r"entry 1-0@7 is in shard 7, but stream\.shards is 1"):
        await corridor.dead_letters.add(StreamEntry("1-0@7", {}), "unreadable", "why")
