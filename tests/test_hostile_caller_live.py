"""One hostile caller among six, end to end: gateway, consumer and stream server as processes, over real sockets.

*Back*: it finds conversations that the candidate answers, and sends requests there that the upstream refuses. *Blind*:
it does so in conversations of the control, while the candidate fails 30 % of the others' calls. A plan of the first
rules, as an earlier version started it, shows that both attacks succeeded.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from test_ramp_live import Program, until

from gateway.config.derive import plans_of
from gateway.config.loading import load
from gateway.core.plan import PlanState
from gateway.fake import FakeUpstream, Fault
from gateway.stream import Corridor

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
TEAMS = [f"team{i}" for i in range(5)]
SPOILT = "a request that is not valid"


def key(name: str) -> str:
    return f"sk-live-{name}"


def spoils(fails: float = 0.0) -> Fault:
    """400 to spoilt requests, 500 to a share of the others (every so-manieth), the correct answer to the rest."""
    refused, broken, right = Fault.status(400), Fault.status(500), Fault.slow_head(0.0)
    seen = 0.0

    def bend(received: Any, answer: Any) -> Iterable[Any]:
        nonlocal seen
        if SPOILT.encode() in received.body:
            return refused.bend(received, answer)
        seen += fails
        if seen >= 1.0:
            seen -= 1.0
            return broken.bend(received, answer)
        return right.bend(received, answer)

    return Fault("spoils", bend)


class Room:
    """Everything, running."""

    def __init__(self, directory: Path, url: str, corridor: Corridor) -> None:
        self.directory, self.url, self.corridor = directory, url, corridor
        self.client = httpx2.AsyncClient(timeout=60)
        self.calls = 0

    async def ask(self, who: str, conversation: str, text: str = "Say it.") -> str:
        """The upstream that answered, which tells a caller its arm whatever the headers say."""
        reply = await self.client.post(
            f"{self.url}/v1/chat/completions",
            json={"model": "chat", "messages": [{"role": "user", "content": text}]},
            headers={"authorization": f"Bearer {key(who)}", "x-gateway-conversation": f"{who}-{conversation}"},
        )
        self.calls += 1
        return str(reply.headers.get("x-gateway-upstream", ""))

    async def traffic(self, who: str, conversations: int, calls: int) -> None:
        for i in range(conversations):
            await asyncio.gather(*(self.ask(who, str(i)) for _ in range(calls)))

    async def attack(self, arm: str, conversations: int, calls: int) -> None:
        """Makes up conversations, and spoils those that this arm answers."""
        for i in range(conversations):
            if await self.ask("mallory", str(i)) == arm:
                for _ in range(calls):
                    await self.ask("mallory", str(i), SPOILT)

    async def verb(self, *words: str) -> str:
        program = Program(self.directory, f"ab-{words[0]}", "ab", *words, "--data", "data")
        await program.start()
        assert program.process is not None
        assert await program.process.wait() == 0, program.log.read_text()
        return program.log.read_text()

    def history(self) -> list[tuple[str, str]]:
        """(kind, reason) of the ramp's events."""
        with closing(sqlite3.connect(self.directory / "data" / "gateway.db", timeout=30)) as store:
            return list(store.execute("SELECT kind, reason FROM ramp_events ORDER BY version"))

    def stored(self) -> bool:
        """Every call is in the store, or the ramp has left its step."""
        with closing(sqlite3.connect(self.directory / "data" / "gateway.db", timeout=30)) as store:
            n = store.execute("SELECT count(*) FROM exchanges WHERE role = 'served' AND arm IS NOT NULL").fetchone()[0]
        return n >= self.calls or self.rolled_back()

    def rolled_back(self) -> str:
        return next((reason for kind, reason in self.history() if kind == "rolled_back"), "")


def config(doubles: dict[str, FakeUpstream], stream: str) -> dict[str, Any]:
    to = {name: {"upstream": name, "model": "m"} for name in doubles}
    names = [*TEAMS, "mallory"]
    never = {"breaker": {"failures": 100_000}}  # the evidence is to roll back, and not the breaker
    return {
        "keys": [{"name": name, "sha256": sha256(key(name).encode()).hexdigest()} for name in names],
        "upstreams": {n: {"kind": "vllm", "base_url": d.base_url, **never} for n, d in doubles.items()},
        "models": {"chat": {"targets": [to["control"]], "retries": {"attempts": 1, "backoff_s": 0}}},
        "stream": {"url": stream, "name": "hostile"},
        "scorers": {"refusal": {}},
        "experiments": {
            "swap": {
                "model": "chat", "control": to["control"], "candidate": to["candidate"], "shadow": 0.0,
                "mode": "both", "primary": "refusal", "margin": 0.3, "min_hours": 0,
                "ramp": {"mode": "auto", "steps": [0.5, 1.0], "soak_s": 3600, "min_units": 40},
            }
        },
    }  # fmt: skip


@asynccontextmanager
async def running(stream_server: Any, servers: Any, rules: int, fails: float) -> AsyncIterator[Room]:
    directory = Path(tempfile.mkdtemp(prefix="gwhostile"))
    async with AsyncExitStack() as stack:
        doubles = {name: await stack.enter_async_context(FakeUpstream()) for name in ("control", "candidate")}
        doubles["control"].always(spoils())
        doubles["candidate"].always(spoils(fails))
        (directory / "gateway.yaml").write_text(yaml.safe_dump(config(doubles, stream_server.url)))
        port, metrics = servers.free_ports(2)
        corridor = Corridor(stream_server.url, "hostile")
        stack.push_async_callback(corridor.aclose)
        plan = plans_of(load(directory / "gateway.yaml"))["swap"]
        if rules == 1:  # as an earlier version started it
            assert plan.ramp is not None
            design = replace(plan.ramp, holdout=0.0, holdout_days=0.0)
            plan = replace(plan, rules=1, empty="allowed", headers="all", ramp=design)
        elif rules == 2:  # whose alarms are by step, and not by quarter-hours
            plan = replace(plan, rules=2, population=None)
        await corridor.state.set_plan(PlanState(plan, "running", 1.0))
        programs = [
            Program(directory, "serve", "serve", "--port", str(port), "--data", "data-serve"),
            Program(directory, "evaluate", "evaluate", "--metrics-port", str(metrics), "--data", "data"),
        ]
        room = Room(directory, f"http://127.0.0.1:{port}", corridor)
        stack.push_async_callback(room.client.aclose)
        for each in programs:
            stack.push_async_callback(each.end)
            await each.start()

        async def shadows() -> bool:
            try:
                return (await corridor.ramps.records())["swap"].plan == plan.hash
            except KeyError:
                return False

        await until(shadows, "the ramp does not begin")
        await room.verb("override", "swap", "--reason", "the shadows are not what is tried here")

        async def steps() -> bool:
            try:
                text = (await room.client.get(f"{room.url}/metrics")).text
            except httpx2.TransportError:
                return False
            return 'gateway_ramp_share{experiment="swap"} 0.5' in text

        await until(steps, "the step is not taken")
        yield room


@pytest.mark.parametrize("rules", [1, 2])
async def test_back_a_good_candidate_is_rolled_back_by_nobody_alone(
    stream_server: Any, servers: Any, rules: int
) -> None:
    async with running(stream_server, servers, rules, 0.0) as room:
        await asyncio.gather(*(room.traffic(team, 40, 2) for team in TEAMS), room.attack("candidate", 120, 3))
        await until(room.stored, "not every call is stored")
        if rules == 1:
            await until(room.rolled_back, "by the first rules the attack succeeds")
            return

        async def named() -> bool:
            return b"worse in the calls of mallory alone" in await room.corridor.ramps.evidence("swap")

        await until(named, "the reason does not name the caller")
        assert [kind for kind, _ in room.history()] == ["shadowing", "overridden"]


@pytest.mark.parametrize("rules", [1, 2])
async def test_blind_nobody_hides_a_candidate_that_fails(stream_server: Any, servers: Any, rules: int) -> None:
    async with running(stream_server, servers, rules, 0.3) as room:
        await room.attack("control", 200, 4)
        await asyncio.gather(*(room.traffic(team, 40, 3) for team in TEAMS))
        if rules == 1:
            await until(room.stored, "not every call is stored")
            await asyncio.sleep(0)
            assert not room.rolled_back(), "by the first rules the attack succeeds"
            return
        await until(room.rolled_back, "the broken candidate is not rolled back")
        assert "error_rate" in room.rolled_back()
        assert "from 6 callers" in room.rolled_back()
