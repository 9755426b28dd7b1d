"""Nothing of what was erased is left: in the stream, its dead letters, its server's file, and the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import redis
from fixtures.rooms import Room

from gateway.core.exchange import Exchange, Feedback, user_digest
from gateway.features.calls import erasure
from gateway.features.calls.erasure import ErasureResult
from gateway.features.calls.rows.erase import ErasureRequest
from gateway.store.store import Store
from gateway.stream import Corridor

Make = Callable[..., Exchange]
SECRET = "the-words-of-a-client-5b2e"
BODY = f'{{"user":"zoe","messages":[{{"role":"user","content":"{SECRET}"}}]}}'.encode()


async def run(room: Room, request: ErasureRequest) -> ErasureResult:
    async with Store(room.store_url) as store:
        return await erasure.run(store, room.store_url, room.corridor, request, "tests", lambda done, of: None)


async def preview(room: Room, request: ErasureRequest) -> dict[str, int]:
    found = await erasure.preview(room.store_url, room.corridor, request)
    return {what: n for what, n in found.counts.items() if n}


async def test_entries_that_nobody_has_read_are_erased_and_accounted_for(
    room: Room, exchange: Make, tally: Callable[..., Any]
) -> None:
    hers, his = exchange("1", caller="ada"), exchange("0.5", caller="bob")
    await room.send(hers, his, Feedback(hers.id, "f", "ada", 1.0, "thumb", 1.0), tally([hers, his]))
    async with Store(room.store_url):
        pass
    request = ErasureRequest("caller", "ada")
    assert await preview(room, request) == {"stream entries": 2}
    done = await run(room, request)
    assert (done.counts["stream entries"], done.arrived) == (2, 0)
    assert done.audit is not None
    assert await preview(room, request) == {}
    async with room.consuming():
        await room.until_read()
        await room.until(lambda: room.sql("SELECT count(*) FROM exchanges")[0][0] == 1)
    assert room.sql("SELECT caller FROM exchanges") == [("bob",)]
    assert set(room.sql("SELECT reason, seq FROM dead_letters")) == {("erased", hers.seq), ("erased", None)}
    assert room.sql("SELECT count(*) FROM gaps") == [(0,)], "nothing is unaccounted for"


@pytest.mark.parametrize("of", ["caller", "user", "exchange"])
async def test_unreadable_dead_letters_are_erased_too(room: Room, exchange: Make, of: Literal["caller"]) -> None:
    """A record of a version that nobody reads any more, or one that is cut, still names its caller."""
    hers = exchange("1", caller="ada", request=BODY, user_digest=user_digest("zoe"))
    his = exchange("1", caller="bob", user_digest=user_digest("yan"), client_id='"caller":"ada"')
    later, cut = dict(hers.to_fields()), dict(hers.to_fields())
    later[b"head"] = later[b"head"].replace(b'"v":', b'"v":9', 1)
    cut[b"head"] = cut[b"head"][:-1]
    foreign = dict(his.to_fields())
    foreign[b"head"] = foreign[b"head"][:-1]
    async with Store(room.store_url):
        pass
    await room.corridor.join()
    await room.corridor.append([later, cut, foreign])
    taken = await room.corridor.read("broken", 10, 100)
    for entry in taken:
        await room.corridor.dead_letters.add(entry, "unreadable", "not a record")
    await room.corridor.delete([entry.id for entry in taken])
    await room.corridor.append([later])
    request = ErasureRequest(of, {"caller": "ada", "user": "zoe", "exchange": hers.id}[of])
    assert await preview(room, request) == {"stream entries": 1, "dead letters": 2}
    await run(room, request)
    (left,) = [letter async for letter in room.corridor.dead_letters.all()]
    assert left.fields[b"head"] == foreign[b"head"], "that of another caller stays"
    assert await preview(room, request) == {}


async def test_the_words_are_not_in_the_log_of_a_store_in_use(room: Room, exchange: Make, tmp_path: Path) -> None:
    """A consumer that goes on keeps SQLite's write-ahead log open, where deleted pages would stay."""

    def holding() -> list[str]:
        return [f.name for f in (tmp_path / "data").rglob("*") if f.is_file() and SECRET.encode() in f.read_bytes()]

    async with room.consuming():
        await room.send(*(exchange("1", request=BODY, user_digest=user_digest("zoe"), received=1.0) for _ in range(5)))
        await room.until_read()
        assert holding()
        await run(room, ErasureRequest("user", "zoe"))
        assert not holding()


async def test_the_words_are_in_no_file(room: Room, exchange: Make, stream_server: Any, tmp_path: Path) -> None:
    def holding(directory: Path) -> list[str]:
        return [str(f) for f in directory.rglob("*") if f.is_file() and SECRET.encode() in f.read_bytes()]

    corridor = Corridor(stream_server.url, "erase")
    here = replace(room, stream_url=stream_server.url, stream_name="erase", corridor=corridor)
    digest = user_digest("zoe")
    stored = [exchange("1", request=BODY, user_digest=digest, received=1.0) for _ in range(3)]
    async with here.consuming():
        await here.send(*stored, exchange("1", caller="bob"))
        await here.until_read()
    waiting = exchange("0", request=BODY, user_digest=digest)
    await here.send(waiting)
    await corridor.join()
    (entry,) = await corridor.read("broken", 10, 100)
    await corridor.dead_letters.add(entry, "refused", SECRET)
    assert holding(stream_server.directory)
    request = ErasureRequest("user", "zoe")
    assert (await preview(here, request))["dead letters"] == 1
    done = await run(here, request)
    assert (done.counts["exchanges emptied"], done.counts["dead letters"]) == (3, 1), "stored within the hour"
    assert here.sql("SELECT count(*) FROM exchanges") == [(4,)]
    async with asyncio.timeout(60):
        while holding(stream_server.directory):
            await asyncio.sleep(0.02)
    assert not holding(tmp_path / "data"), "SQLite overwrites, and its journal is folded in when the last one closes"
    await corridor.aclose()


async def rewriting_after(room: Room, url: str, name: str) -> bool | None:
    corridor = Corridor(url, name)
    done = await run(replace(room, corridor=corridor), ErasureRequest("caller", "ada"))
    await corridor.aclose()
    return done.rewriting


def holds_the_words(path: Path) -> bool:
    """False where a rewriting has just removed the file."""
    try:
        return SECRET.encode() in path.read_bytes()
    except FileNotFoundError:
        return False


async def test_it_says_whether_the_server_forgets_the_words(room: Room, stream_server: Any) -> None:
    """The append-only file holds what was deleted until it is rewritten."""
    async with Store(room.store_url):
        pass
    client = redis.Redis.from_url(stream_server.url)
    client.set("words", SECRET)
    client.delete("words")
    assert any(map(holds_the_words, stream_server.directory.rglob("*.aof")))
    assert await rewriting_after(room, stream_server.url, "erased") is True
    async with asyncio.timeout(60):
        while any(map(holds_the_words, stream_server.directory.rglob("*.aof"))):
            await asyncio.sleep(0.02)
    client.execute_command("ACL", "SETUSER", "small", "on", ">pw", "~*", "&*", "+@all", "-bgrewriteaof")
    small = stream_server.url.replace("unix://", "unix://small:pw@")
    assert await rewriting_after(room, small, "erased") is False
    client.config_set("appendonly", "no")
    assert await rewriting_after(room, stream_server.url, "erased") is None
    client.close()
