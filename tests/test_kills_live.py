"""Two gateways with two workers each, two consumers, a stream server and PostgreSQL, of which one process after the
other is killed under load: every call is stored, or its loss is counted with a reason. Runs, shadows and guards are
on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import yaml
from fixtures.program_command import gateway_command, program_pid, send_signal

from gateway.fake import FakeUpstream

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(sys.platform != "linux", reason="it looks for the workers in /proc"),
]
SECONDS = 600.0
CALLERS, PAUSE_S = 8, 0.4
SECRET = "my key is sk-proj-" + "Ab1" * 16


@dataclass
class Program:
    """A `gateway serve` or `gateway evaluate` that is killed and started again with the same command."""

    words: list[str]
    folder: Path
    name: str
    url: str
    process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return program_pid(self.process.pid)

    async def start(self) -> None:
        """Starts it, and again whenever it ends, as a supervisor does: workers of a killed parent hold the port until
        they have noticed."""
        async with asyncio.timeout(200), httpx2.AsyncClient(timeout=5) as client:
            await self._begin()
            while True:
                await asyncio.sleep(0.1)
                if self.process is None or self.process.returncode is not None:
                    await self._begin()
                    continue
                with contextlib.suppress(httpx2.HTTPError):
                    if (await client.get(self.url)).status_code == 200 and self._is_its_own():
                        return

    async def _begin(self) -> None:
        with self.log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(
                *gateway_command(*self.words), cwd=self.folder, stdout=out, stderr=out
            )

    def _is_its_own(self) -> bool:
        """Whether this process answers: its own workers run, and none of a parent before it."""
        return self.words[0] == "evaluate" or len(workers_of(self.pid)) == 2

    async def kill(self) -> None:
        assert self.process is not None
        send_signal(self.process.pid, signal.SIGKILL)
        await self.process.wait()

    async def end(self) -> None:
        if self.process is not None and self.process.returncode is None:
            send_signal(self.process.pid, signal.SIGTERM)
            async with asyncio.timeout(120):
                await self.process.wait()


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((path / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.name))
    return sorted(found)


def workers_of(pid: int) -> list[int]:
    """Workers of a parent, without multiprocessing's tracker and the process that ends the workers."""
    found = []
    for child in children(pid):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"spawn_main" in command or b"evaluate" in command:
                found.append(child)
    return found


@dataclass
class Load:
    """Callers that begin a run every five calls; one call of ten is refused by the guard."""

    urls: list[str]
    sent: int = 0
    answered: set[str] = field(default_factory=set)
    """Ids of the calls whose whole answer the client has."""
    outcomes: Counter[str] = field(default_factory=Counter)
    stopped: bool = False

    async def caller(self, n: int) -> None:
        async with httpx2.AsyncClient(timeout=60, base_url=self.urls[n % 2]) as client:
            turn = 0
            while not self.stopped:
                await self._call(client, n, turn)
                turn += 1
                await asyncio.sleep(PAUSE_S)

    async def _call(self, client: httpx2.AsyncClient, n: int, turn: int) -> None:
        text = SECRET if turn % 10 == 9 else f"say it, {n} {turn}"
        body = {"model": "chat", "stream": turn % 2 == 0, "messages": [{"role": "user", "content": text}]}
        self.sent += 1
        try:
            headers = {"x-gateway-run": f"run-{n}-{turn // 5}"}
            reply = await client.post("/v1/chat/completions", json=body, headers=headers)
        except httpx2.HTTPError:
            self.outcomes["cut or refused"] += 1
            return
        whole = "[DONE]" in reply.text if body["stream"] and reply.status_code == 200 else bool(reply.content)
        if whole and reply.status_code in (200, 400):
            self.answered.add(reply.headers["x-request-id"])
        self.outcomes[str(reply.status_code) if whole else "cut"] += 1


@dataclass
class Fleet:
    gateways: list[Program]
    consumers: list[Program]
    stream: Any
    postgres: Any
    store: str
    config: Path
    rng: random.Random = field(default_factory=lambda: random.Random(45))

    async def kill_parent(self, program: Program) -> None:
        await program.kill()
        await program.start()

    async def kill_worker(self, program: Program) -> None:
        while not (workers := workers_of(program.pid)):
            await asyncio.sleep(0.1)
        os.kill(self.rng.choice(workers), signal.SIGKILL)
        while not set(workers_of(program.pid)) - set(workers):
            await asyncio.sleep(0.1)

    async def kill_stream(self) -> None:
        self.stream.kill()
        await asyncio.to_thread(self.stream.start)

    async def kill_database(self) -> None:
        """The server ends all sessions and recovers when one of its processes is killed."""
        while not (sessions := children(self.postgres.pid)):
            await asyncio.sleep(0.1)
        os.kill(self.rng.choice(sessions), signal.SIGKILL)

    @property
    def victims(self) -> dict[str, Callable[[], Awaitable[None]]]:
        one, two = self.gateways
        first, second = self.consumers
        return {
            "gateway 1, a worker": lambda: self.kill_worker(one),
            "consumer 1, a worker": lambda: self.kill_worker(first),
            "stream server": self.kill_stream,
            "gateway 2, the parent": lambda: self.kill_parent(two),
            "consumer 2": lambda: self.kill_parent(second),
            "a process of PostgreSQL": self.kill_database,
            "gateway 2, a worker": lambda: self.kill_worker(two),
            "consumer 1, the parent": lambda: self.kill_parent(first),
            "gateway 1, the parent": lambda: self.kill_parent(one),
        }

    async def status(self) -> dict[str, Any]:
        words = gateway_command("status", "--config", str(self.config), "--json")
        program = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, cwd=self.config.parent)
        out, _ = await program.communicate()
        found: dict[str, Any] = json.loads(out)
        return found

    async def delivered(self) -> dict[str, Any]:
        """The accounts, once nothing is on its way and those of all killed processes are closed, a minute after their
        last tally."""
        ends = time.monotonic() + 300
        while True:
            delivery: dict[str, Any] = (await self.status())["delivery"]
            still = delivery["in_flight"] == delivery["waiting"] == 0
            if (still and self._open() == 0) or time.monotonic() > ends:
                return delivery
            await asyncio.sleep(2)

    def _open(self) -> int:
        """Killed processes whose accounts are open: those that have no end, but for the four that run."""
        with psycopg.connect(self.store) as connection:
            row = connection.execute("SELECT count(*) FROM ledgers WHERE state = ''").fetchone()
        return 0 if row is None else max(0, int(row[0]) - 4)

    def logs(self) -> str:
        """The last lines of each program that are not about calls."""
        lines = []
        for program in (*self.gateways, *self.consumers):
            said = [line for line in program.log.read_text().splitlines() if "gateway.access" not in line]
            lines += [program.name, *(line[:300] for line in said[-12:])]
        return "\n".join(lines)

    def stored(self) -> dict[str, set[str]]:
        """Ids of the stored exchanges, by role."""
        found: dict[str, set[str]] = {}
        with psycopg.connect(self.store) as connection:
            for role, id in connection.execute("SELECT role, id FROM exchanges"):
                found.setdefault(role, set()).add(id)
        return found

    def runs(self) -> int:
        with psycopg.connect(self.store) as connection:
            row = connection.execute("SELECT count(*) FROM runs").fetchone()
        return 0 if row is None else int(row[0])


def config_of(doubles: dict[str, FakeUpstream], stream: str, store: str) -> dict[str, Any]:
    to = {name: {"upstream": name, "model": "m"} for name in doubles}
    return {
        "open": True,
        "upstreams": {name: {"kind": "vllm", "base_url": double.base_url} for name, double in doubles.items()},
        "models": {"chat": {"targets": [to["control"]]}},
        "sampling": {"rate": 1.0},
        "stream": {"url": stream, "name": "killed", "claim_idle_s": 15},
        "store": {"url": store},
        "scorers": {"valid_json": {}},
        "guards": {"keys": {"on": "request", "scorer": "secrets", "action": "block"}},
        "experiments": {
            "swap": {
                "model": "chat", "control": to["control"], "candidate": to["candidate"], "shadow": 0.5,
                "primary": "valid_json", "margin": 0.3, "min_hours": 1000, "budget": {"concurrency": 64},
                "gate": {"latency": False, "load": None},
            }
        },
    }  # fmt: skip


@pytest.fixture
async def fleet(servers: Any, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Two gateways with two workers each, a consumer with two and one with one, and what they need."""
    programs = servers.postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    async with contextlib.AsyncExitStack() as stack:
        postgres = servers.Postgres(programs, durable=True)
        stack.callback(postgres.kill)
        postgres.start()
        store = postgres.new()
        ports = servers.free_ports(5)
        stream = servers.Node(servers.programs()["valkey"], ports[4], tmp_path / "stream").start()
        stack.callback(stream.kill)
        doubles = {name: await stack.enter_async_context(FakeUpstream()) for name in ("control", "candidate")}
        for double in doubles.values():
            double.remember = False
            double.says('{"ok": ', "true}")
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(config_of(doubles, stream.url, store)))
        serve = [["serve", "--port", str(port), "--workers", "2", "--data", f"data-{port}"] for port in ports[:2]]
        evaluate = [["evaluate", "--metrics-port", str(port), "--data", f"data-{port}"] for port in ports[2:4]]
        evaluate[0] += ["--workers", "2"]
        gateways, consumers = (
            [
                Program(words, tmp_path, f"{words[0]}-{n}", f"http://127.0.0.1:{words[2]}/health")
                for n, words in enumerate(all_)
            ]
            for all_ in (serve, evaluate)
        )
        for program in (*consumers, *gateways):
            stack.push_async_callback(program.end)
            await program.start()
        yield Fleet(gateways, consumers, stream, postgres, store, path)


async def test_every_call_is_accounted_for_while_processes_are_killed(fleet: Fleet) -> None:
    load = Load([program.url.removesuffix("/health") for program in fleet.gateways])
    kills: Counter[str] = Counter()
    async with asyncio.TaskGroup() as group:
        for n in range(CALLERS):
            group.create_task(load.caller(n))
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            for name, kill in fleet.victims.items():
                await asyncio.sleep(fleet.rng.uniform(1.0, 4.0))
                try:
                    async with asyncio.timeout(120):
                        await kill()
                except TimeoutError as error:
                    error.add_note(f"{name} did not come back; so far {dict(kills)}\n{fleet.logs()}")
                    raise
                kills[name] += 1
        load.stopped = True
    found, stored = await fleet.delivered(), fleet.stored()
    served, lost = stored.get("served", set()), sum(found["lost"].values())
    missing = load.answered - served
    unseen = load.sent - len(load.answered)
    print(f"\nkilled {kills.total()}: {dict(kills)}")  # noqa: T201
    print(f"sent {load.sent} = answered {len(load.answered)} + without an answer {unseen}: {dict(load.outcomes)}")  # noqa: T201
    print(  # noqa: T201
        f"answered {len(load.answered)} = stored {len(load.answered & served)} + not stored {len(missing)} (counted as "
        f"lost: {lost}, dropped: {sum(found['dropped'].values())}); stored without an answer at the client: "
        f"{len(served - load.answered)}; stored by role: { ({role: len(ids) for role, ids in stored.items()}) }; "
        f"runs: {fleet.runs()}; not stored: {sorted(missing)}"
    )
    print(f"delivery: { ({name: found[name] for name in found if name != 'scores'}) }")  # noqa: T201
    assert set(kills) == set(fleet.victims)
    assert found["unaccounted"] == 0
    assert len(missing) <= lost + sum(found["dropped"].values())
    assert load.outcomes["400"] > 0, "the guard has refused"
    assert stored.keys() > {"served"}, "shadows are stored"
