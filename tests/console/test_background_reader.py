"""A value that takes long is read in the background, once for all who ask, and an old one is given meanwhile."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from gateway.console.background_reader import BackgroundReader
from gateway.console.errors import StoreAway
from gateway.runtime.tasks import Tasks


@pytest.fixture
def url(tmp_path: Path, empty_store: Path) -> str:
    """The URL of an empty store."""
    return f"sqlite:///{empty_store}"


async def test_a_slow_first_value_comes_later(url: str) -> None:
    go, calls = threading.Event(), []

    def read(connection: object) -> int:
        calls.append(1)
        go.wait(30)
        return 7

    async with Tasks() as tasks:
        reader = BackgroundReader(tasks)
        assert await reader.get("k", url, read, 0.01) is None
        assert await reader.get("k", url, read, 0.01) is None
        go.set()
        found = await reader.get("k", url, read, 30)
        assert found is not None
        assert (found.value, len(calls)) == (7, 1), "it is read once for all who ask"


async def test_an_old_value_is_given_while_the_next_one_takes_long(url: str) -> None:
    go, values = threading.Event(), iter(range(100))

    def read(connection: object) -> int:
        value = next(values)
        if value:
            go.wait(30)
        return value

    async with Tasks() as tasks:
        reader = BackgroundReader(tasks, fresh_s=0.0)
        seen = []
        async with asyncio.timeout(30):
            while 1 not in seen:
                found = await reader.get("k", url, read, 30 if not seen or go.is_set() else 0.05)
                assert found is not None
                seen.append(found.value)
                if len(seen) > 2:
                    go.set()
                await asyncio.sleep(0.01)
    assert seen[:2] == [0, 0]
    assert seen == sorted(seen)


async def test_a_value_that_is_quickly_read_is_never_old(url: str) -> None:
    values = iter(range(100))
    async with Tasks() as tasks:
        reader = BackgroundReader(tasks, fresh_s=-1.0, patience=-1.0)
        for expected in range(3):
            found = await reader.get("k", url, lambda c: next(values), 30)
            assert found is not None
            assert found.value == expected


async def test_a_missing_store_is_unreachable_and_tried_again(tmp_path: Path, url: str) -> None:
    async with Tasks() as tasks:
        reader = BackgroundReader(tasks)
        for _ in range(2):
            with pytest.raises(StoreAway):
                await reader.get("k", f"sqlite:///{tmp_path / 'none.db'}", lambda c: 1, 30)
        found = await reader.get("k", url, lambda c: 1, 30)
        assert found is not None
