"""One secret keys the draws of a deployment: made once, kept in the store, put back where the stream server lost it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from fixtures.secret_of_draws import SECRET

from gateway.features.experiments.draw_secret import DrawSecret
from gateway.store.store import Store
from gateway.stream import Corridor


@pytest.fixture
async def corridor(stream_url: str, stream_name: str) -> Any:
    opened = Corridor(stream_url, stream_name)
    yield opened
    await opened.aclose()


async def test_consumers_agree_on_one_secret(corridor: Corridor, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    async with Store(url) as one, Store(url) as other:
        await asyncio.gather(*(DrawSecret(store, corridor.state).keep() for store in (one, other)))
        made = await corridor.state.draw_secret()
        assert made is not None
        assert len(made) == 32
        await asyncio.gather(*(DrawSecret(store, corridor.state).keep() for store in (one, other)))
        assert await corridor.state.draw_secret() == made


async def test_a_server_that_lost_its_data_gets_the_same_secret_back(
    corridor: Corridor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Store(f"sqlite:///{tmp_path}/s.db") as store:
        kept = DrawSecret(store, corridor.state)
        await kept.keep()
        made = await corridor.state.draw_secret()
        for keeper in (kept, DrawSecret(store, corridor.state)):
            await corridor.client.delete(f"{corridor.state.prefix}:draw-secret")
            assert await corridor.state.draw_secret() is None
            await keeper.keep()
            assert await corridor.state.draw_secret() == made
    assert made is not None
    assert made.hex() not in caplog.text


async def test_a_new_store_takes_over_the_servers_secret(corridor: Corridor, tmp_path: Path) -> None:
    await corridor.state.set_draw_secret(SECRET)
    async with Store(f"sqlite:///{tmp_path}/s.db") as store:
        await DrawSecret(store, corridor.state).keep()
        assert await corridor.state.draw_secret() == SECRET
        await corridor.client.delete(f"{corridor.state.prefix}:draw-secret")
        await DrawSecret(store, corridor.state).keep()
        assert await corridor.state.draw_secret() == SECRET


async def test_the_stores_secret_replaces_that_of_another_store(
    corridor: Corridor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Store(f"sqlite:///{tmp_path}/s.db") as store:
        keeper = DrawSecret(store, corridor.state)
        await keeper.keep()
        made = await corridor.state.draw_secret()
        await corridor.state.set_draw_secret(SECRET)
        await keeper.keep()
        assert await corridor.state.draw_secret() == made
    assert "had the secret of another store" in caplog.text
