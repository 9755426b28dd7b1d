"""Data that are deleted after keep_days are gone everywhere: store, dead letters, and the stream server's file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fixtures.rooms import QUICK, Room

from gateway.store.retention import RetentionLimits
from gateway.stream import Corridor

SECRET = "the-words-of-a-client-7c1d"


def holding(directory: Path) -> list[str]:
    """The files below a directory that hold the words."""
    return [str(f) for f in directory.rglob("*") if f.is_file() and SECRET.encode() in f.read_bytes()]


async def test_deleted_words_are_nowhere(
    room: Room, exchange: Callable[..., Any], stream_server: Any, tmp_path: Path
) -> None:
    corridor = Corridor(stream_server.url, "del")
    here = replace(room, stream_url=stream_server.url, stream_name="del", corridor=corridor)
    await here.send(exchange("1", request=f'{{"messages":[{{"role":"user","content":"{SECRET}"}}]}}'.encode()))
    await corridor.append([{b"kind": b"junk", b"head": SECRET.encode()}])
    assert holding(stream_server.directory), "the words are in the append-only file"
    timing = replace(QUICK, retention_s=0.0, rewrite_s=1)
    limits = RetentionLimits(keep_s=0.5, protected_s=0.0)
    async with here.opened("c1", timing, limits) as (consumer, _), asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        await here.until(lambda: here.shown and here.sql("SELECT count(*) FROM scores")[0][0] == 0)
        async with asyncio.timeout(60):
            while await corridor.dead_letters.count() or holding(stream_server.directory):
                await asyncio.sleep(0.05)
        consumer.stop()
    await here.until(lambda: not holding(tmp_path / "data"))
    await corridor.aclose()


async def test_without_a_retention_nothing_expires(
    room: Room, exchange: Callable[..., Any], stream_server: Any
) -> None:
    corridor = Corridor(stream_server.url, "keep")
    here = replace(room, stream_url=stream_server.url, stream_name="keep", corridor=corridor)
    await corridor.append([{b"kind": b"junk", b"head": b"x"}])
    async with here.consuming("c1", replace(QUICK, retention_s=0.0, rewrite_s=1)):
        await here.until_read()
        await here.send(exchange("1"))
        await here.until_read()
    assert await corridor.dead_letters.count() == 1
    assert await corridor.state.recall("rewritten") is None
    await corridor.aclose()
