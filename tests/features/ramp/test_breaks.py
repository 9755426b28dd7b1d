"""A candidate that breaks while the consumer is 200 s behind, and one that only restarts: a real gateway, stream server
and store, and a controller whose clock, like the gateway's breakers and heartbeats, the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
import yaml

from gateway.config.derive import plans_of
from gateway.config.environment import WorkerEnvironment
from gateway.config.loading import parse
from gateway.core.exchange import Exchange
from gateway.core.plan import Plan
from gateway.core.ramp import RampChange, RampPace, RampRecord, advanced
from gateway.fake import FakeUpstream, Fault
from gateway.features.ramp.work import RampController
from gateway.proxy.serve import Process, server_settings
from gateway.store.plans import stored_plans
from gateway.store.store import Store

BEHIND_S = 200.0
CALLS_A_SECOND = 20
STEP = 0.5
MOST_CALLS = 150
PATIENCE_S = 200.0
SERVED = re.compile(r'gateway_split_total\{.*arm="candidate"')
AUTO, ADVISE = RampPace("auto", stale_s=10_000.0), RampPace("advise", stale_s=10_000.0)
pytestmark = pytest.mark.timeout(300)
KEYS = {"web": "sk-web", "app": "sk-app"}


def config(control: FakeUpstream, candidate: FakeUpstream, stream: tuple[str, str]) -> dict[str, Any]:
    to = {"control": {"upstream": "control", "model": "m"}, "candidate": {"upstream": "candidate", "model": "m"}}
    doubles = {"control": control, "candidate": candidate}
    return {
        "keys": [{"name": name, "sha256": sha256(key.encode()).hexdigest()} for name, key in KEYS.items()],
        "upstreams": {name: {"kind": "openai", "base_url": double.base_url} for name, double in doubles.items()},
        "models": {
            "chat": {
                "targets": [to["control"]], "retries": {"attempts": 1, "backoff_s": 0},
                "timeouts": {"connect_s": 60, "first_token_s": 60, "answer_s": 60, "idle_s": 60, "total_s": 120},
            }
        },
        "stream": {"url": stream[0], "name": stream[1]},
        "experiments": {
            "swap": {
                "model": "chat", "control": to["control"], "candidate": to["candidate"], "shadow": 0.1,
                "primary": "error_rate", "margin": 0.1, "unit": "request", "start": "manual", "min_hours": 0,
                "repeat_control": 0.5, "gate": {"latency": False, "load": None}, "budget": {"concurrency": 64},
                "ramp": {"mode": "auto", "steps": [STEP, 0.9, 1.0], "soak_s": 60, "min_units": 10},
            }
        },
    }  # fmt: skip


@dataclass
class Breaking:
    """One ramp at its first step, at which everything holds, with a consumer that reads nothing any more."""

    room: Any
    store: Store
    plan: Plan
    base_url: str
    candidate: FakeUpstream
    passed: list[float]
    keys: tuple[str, ...] = tuple(KEYS)
    states: list[tuple[str, int]] = field(default_factory=list)
    advised: str = ""

    async def served(self) -> int:
        """Users' calls that were sent to the candidate so far."""
        lines = (await metrics(self.base_url)).splitlines()
        return int(sum(float(line.split()[-1]) for line in lines if SERVED.match(line)))

    def now(self) -> float:
        return time.time() + self.passed[0]

    def controller(self, pace: RampPace) -> RampController:
        return RampController(
            self.store, self.room.corridor, {"swap": pace}, every_s=0.0, full_s=0.0, clock=self.now
        )  # fmt: skip

    async def record(self) -> RampRecord:
        found: RampRecord = (await self.room.corridor.ramps.records())["swap"]
        return found

    async def look(self, controller: RampController) -> RampRecord:
        await controller.step(await self.store.run(stored_plans))
        self.advised = controller.standings[0].decision.action if controller.standings else ""
        found = await self.record()
        self.states.append((found.state, found.step))
        return found

    async def second(self, client: httpx2.AsyncClient) -> None:
        """One second of traffic, and a heartbeat that knows of it."""
        body = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
        keys = [KEYS[self.keys[i % len(self.keys)]] for i in range(CALLS_A_SECOND)]
        for four in (keys[i : i + 4] for i in range(0, len(keys), 4)):
            sent = (client.post("/chat/completions", json=body, headers={"authorization": f"Bearer {k}"}) for k in four)
            assert {answer.status_code for answer in await asyncio.gather(*sent)} == {200}
        self.passed[0] += 1.0
        since = self.now()
        async with asyncio.timeout(PATIENCE_S):
            while not any(beat["at"] >= since for beat in (await self.room.corridor.state.gateways()).values()):
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def serving(path: Path, passed: list[float]) -> AsyncIterator[str]:
    process = Process(WorkerEnvironment(path, path.parent / "data", loopback=True), heartbeat_s=0.02,
                      passed_s=lambda: passed[0])  # fmt: skip
    settings = server_settings(process, process.config, "127.0.0.1", 0, 1)
    settings.loop = "asyncio"
    server = uvicorn.Server(settings)
    with contextlib.closing(settings.bind_socket()) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.get_running_loop().create_task(server._serve([sock]))
        while not server.started:
            await asyncio.sleep(0.005)
            assert not task.done(), "the gateway did not start"
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def breaking(
    room: Any, path: Path, paired: Callable[..., list[Exchange]], exchange: Callable[..., Exchange]
) -> AsyncIterator[Breaking]:
    """A ramp for which everything holds to take its second step; then nobody reads the stream for BEHIND_S."""
    passed = [0.0]
    async with FakeUpstream() as control, FakeUpstream() as candidate:
        text = yaml.safe_dump(config(control, candidate, (room.stream_url, room.stream_name)))
        path.write_text(text)  # noqa: ASYNC240 (a test)
        plan = plans_of(parse(text))["swap"]
        async with serving(path, passed) as base_url, Store(room.store_url) as store:
            made = Breaking(room, store, plan, base_url, candidate, passed)
            await room.begin(plan)
            ramps, at = room.corridor.ramps, made.now() - 100.0
            async with room.consuming():
                pairs = (paired(plan, "0.5", {"candidate": "0.5", "repeat": "0.5"}, unit=f"u{i}") for i in range(120))
                await room.send(*chain.from_iterable(pairs))
                await room.until_settled(120)
                await made.look(made.controller(ADVISE))
                known = await made.record()
                assert await ramps.change(known, advanced(known, plan.ramp, RampChange(at, "t", "first step")), b"{}")
                same = {"experiment": "swap", "plan": plan.hash, "stratum": "split:swap"}
                for arm in ("control", "candidate"):
                    served = {"arm": arm, "target": plan.target(arm), **same}
                    # Over several blocks of time, as one block alone raises no alarm.
                    await room.send(*(exchange("0.5", received=at + 2 + i / 4, **served) for i in range(300)))
                await room.until_read()
                async with asyncio.timeout(PATIENCE_S):
                    while made.advised != "ready":
                        await made.look(made.controller(ADVISE))
                        await asyncio.sleep(0.05)
            async with asyncio.timeout(PATIENCE_S):
                while f'gateway_ramp_share{{experiment="swap"}} {STEP}' not in await metrics(base_url):
                    await asyncio.sleep(0.05)
            await room.send(exchange("0.5", experiment="swap", plan=plan.hash, arm="control"))
            passed[0] += BEHIND_S  # in which nobody reads the stream
            made.states.clear()
            yield made


async def metrics(base_url: str) -> str:
    async with httpx2.AsyncClient() as client:
        return (await client.get(base_url.removesuffix("/v1") + "/metrics")).text


WORLDS = [(0.6, 1), (1.0, 2), (0.6, 2), (1.0, 1)]  # share of calls that fail, callers
RUNS = [
    pytest.param(*world, run, id=f"{world[0]:.0%} fail, {world[1]} callers, run {run}",
                 marks=[pytest.mark.long] if run or n else [])
    for n, world in enumerate(WORLDS) for run in range(10)
]  # fmt: skip


@pytest.mark.parametrize(("share", "callers", "run"), RUNS)
async def test_a_broken_candidate_rolls_back_before_outcomes_are_read(
    share: float, callers: int, run: int, room: Any, tmp_path: Path, paired: Any, exchange: Any
) -> None:
    """No step is taken meanwhile."""
    async with breaking(room, tmp_path / "gateway.yaml", paired, exchange) as made:
        made.keys = made.keys[:callers]
        made.candidate.always(Fault.status(500), share)
        auto, seconds = made.controller(AUTO), 0
        async with httpx2.AsyncClient(base_url=made.base_url, timeout=PATIENCE_S) as client:
            while (await made.look(auto)).state == "ramp":
                await made.second(client)
                seconds += 1
                assert seconds < BEHIND_S, auto.standings
        calls = await made.served()
        print(f"{share:.0%} of calls fail, {callers} callers: {calls} calls of users in {seconds} s, "  # noqa: T201
              f"{len(made.candidate.calls)} with shadows")  # fmt: skip
        assert made.states == [("ramp", 0)] * seconds + [("rolled_back", -1)]
        assert "circuit breaker" in (await made.record()).reason
        assert calls <= MOST_CALLS


async def test_a_candidate_that_restarts_is_held_and_not_taken_back(
    room: Any, tmp_path: Path, paired: Any, exchange: Any
) -> None:
    """Every call of two callers fails for 5 s; afterwards its share returns, and no step was taken."""
    async with breaking(room, tmp_path / "gateway.yaml", paired, exchange) as made:
        auto = made.controller(AUTO)
        held: set[str] = set()
        async with httpx2.AsyncClient(base_url=made.base_url, timeout=PATIENCE_S) as client:
            for second in range(25):
                made.candidate.always(Fault.status(503) if second < 5 else None)
                await made.second(client)
                await made.look(auto)
                held.add(auto.standings[0].decision.reason.partition(":")[0])
        assert set(made.states) == {("ramp", 0)}
        assert f'gateway_ramp_share{{experiment="swap"}} {STEP}' in await metrics(made.base_url)
        async with room.consuming():
            await room.until_read()
        assert (await made.look(auto)).state != "rolled_back", auto.standings
