"""A process says that it lives and what it carries, until it leaves; no call waits for its heartbeat."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.core.errors import StreamDown
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.recording.heartbeat import Heartbeat
from gateway.proxy.recording.recorder import Recorder

CELL = ("default", "chat", "u/m", "", "")


class Shelf:
    """The heartbeats of SharedState, in memory. down: it does not answer."""

    def __init__(self) -> None:
        self.says: dict[str, dict[str, Any]] = {}
        self.down = False
        self.consumer_beats: dict[str, float] = {}

    async def set_gateway_heartbeat(self, incarnation: str, says: dict[str, Any]) -> None:
        if self.down:
            raise StreamDown("away")
        self.says[incarnation] = says

    async def forget_gateway(self, incarnation: str) -> None:
        if self.down:
            await asyncio.Event().wait()
        self.says.pop(incarnation, None)

    async def gateways(self) -> dict[str, dict[str, Any]]:
        return dict(self.says)

    async def consumers(self) -> dict[str, float]:
        return dict(self.consumer_beats)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def recorder() -> Recorder:
    """A recorder on a stream in memory."""
    return Recorder(Shelf(), ProxyMetrics(CollectorRegistry()))  # type: ignore[arg-type]


async def test_rates_are_those_since_the_previous_beat(recorder: Recorder) -> None:
    store, clock = Shelf(), Clock()
    beating = Heartbeat(store, recorder, clock, pace=clock)
    for _ in range(30):
        recorder.saw(CELL, "not_drawn")
    clock.now += 2
    await beating.beat()
    output = store.says[recorder.incarnation]
    assert (output["rates"]["seen"], output["counts"]["seen"], output["pid"]) == (15.0, 30, os.getpid())
    assert (output["at"], output["started"]) == (1002.0, 1000.0)
    clock.now += 2
    await beating.beat()
    assert store.says[recorder.incarnation]["rates"]["seen"] == 0.0


async def test_a_missed_beat_is_sent_later(recorder: Recorder) -> None:
    store = Shelf()
    store.down = True
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(Heartbeat(store, recorder, every_s=0.0).run())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not running.done()
        store.down = False
        while not store.says:
            await asyncio.sleep(0)
        running.cancel()


async def test_the_beat_of_a_killed_process_expires(recorder: Recorder) -> None:
    store, clock = Shelf(), Clock()
    store.says = {"old": {"at": clock.now - 700}, "young": {"at": clock.now - 60}}
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(Heartbeat(store, recorder, clock).run())
        while "old" in store.says:
            await asyncio.sleep(0)
        running.cancel()
    assert set(store.says) == {"young", recorder.incarnation}


async def test_leaving_does_not_wait_for_a_dead_server(recorder: Recorder) -> None:
    store = Shelf()
    beating = Heartbeat(store, recorder, leave_s=0.01)
    await beating.beat()
    await beating.leave()
    assert store.says == {}
    store.down = True
    async with asyncio.timeout(60):
        await beating.leave()
        await beating.run()


async def test_consumers_are_missed_once_all_were_killed(recorder: Recorder) -> None:
    """One that was stopped has left, and none may ever have run."""
    store, clock = Shelf(), Clock()
    beating = Heartbeat(store, recorder, clock, pace=clock, every_s=0.001)
    running = asyncio.get_running_loop().create_task(beating.run())

    async def gone(**beats: float) -> str:
        store.consumer_beats = beats
        store.says.clear()
        async with asyncio.timeout(60):
            for _ in range(2):  # the second beat follows a look at these
                while recorder.incarnation not in store.says:
                    await asyncio.sleep(0.001)
                store.says.clear()
        return beating.consumers_gone

    assert await gone() == ""
    assert await gone(a=900.0, b=990.0) == ""
    assert await gone(a=900.0, b=960.0) == "without a heartbeat: a, b"
    assert await gone(c=990.0) == ""
    running.cancel()
    await asyncio.wait([running])
