"""A stream server that loses its data while experiments run: the consumer puts their plans back, and they go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

from gateway.fake import FakeUpstream
from gateway.features.experiments.work import EngineTiming, ExperimentEngine
from gateway.scoring.threads import ScoringThreads
from gateway.store.plans import stored_plans
from gateway.store.query import reading
from gateway.store.store import Store
from gateway.stream import Corridor

SHADOWED: dict[str, Any] = {
    "model": "chat", "control": {"upstream": "u0", "model": "model-u0"}, "mode": "shadow", "shadow": 1.0,
    "candidate": {"upstream": "u1", "model": "shadowed"}, "min_hours": 0, "gate": {"latency": False},
    "budget": {"concurrency": 256}, "primary": "total_s", "margin": 0.1,
}  # fmt: skip
SPLIT: dict[str, Any] = {
    "model": "second", "control": {"upstream": "u0", "model": "model-u0"}, "mode": "split", "split": 0.5,
    "candidate": {"upstream": "u1", "model": "split"}, "min_hours": 0, "unit": "request", "primary": "total_s",
    "margin": 0.1,
}  # fmt: skip


@contextlib.asynccontextmanager
async def experimenting(url: str, stream_url: str, name: str) -> AsyncIterator[None]:
    """The part of a consumer that looks after experiments."""
    corridor, threads = Corridor(stream_url, name), ScoringThreads()
    stopping = asyncio.Event()
    async with Store(url) as store, asyncio.TaskGroup() as tasks:
        engine = ExperimentEngine(store, corridor, {}, threads, EngineTiming(every_s=0.05, keep_s=5.0))
        tasks.create_task(engine.run("c1", stopping))
        try:
            yield
        finally:
            stopping.set()
    threads.close()
    await corridor.aclose()


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(50):
        while not await holds():
            await asyncio.sleep(0.05)


async def test_experiments_continue_after_the_server_lost_everything(
    start: Any,
    configured: Callable[..., dict[str, Any]],
    place_store: Callable[[Path], str],
    tmp_path: Path,
    stream_server: Any,
    stream_name: str,
) -> None:
    """No config is loaded and no command is given: calls are shadowed and split again, by the same plans."""
    url = place_store(tmp_path / "data" / "gateway.db")
    async with FakeUpstream() as one, FakeUpstream() as two:
        config = configured(one, two, chat={"fallback": []}, experiments={"swap": SHADOWED, "half": SPLIT})
        config["models"]["second"] = config["models"]["chat"]
        config["stream"]["url"] = stream_server.url
        gateway = await start(config)

        async def both() -> bool:
            """Whether a shadow and a split call have come to the candidates since the last look."""
            for model in ("chat", "second") * 4:
                assert (await gateway.chat(model=model)).status_code == 200
            return {"shadowed", "split"} <= {orjson.loads(call.body)["model"] for call in two.calls[seen:]}

        async def stored() -> bool:
            with reading(url) as connection:
                return {plan.plan.name for plan in stored_plans(connection)} == {"swap", "half"}

        async with experimenting(url, stream_server.url, stream_name):
            seen = 0
            await until(both)
            await until(stored)
            plans = await gateway.corridor.state.plans()
            await gateway.corridor.client.flushall()

            async def back() -> bool:
                return set(await gateway.corridor.state.plans()) == {"swap", "half"}

            await until(back)
            assert await gateway.corridor.state.plans() == plans
            seen = len(two.calls)
            await until(both)
