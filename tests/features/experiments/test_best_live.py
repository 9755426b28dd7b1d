"""The best of four candidates, end to end: clients, a fleet of two gateways, a stream server, a consumer, and upstreams
with planted answers. It is right, and it pays for fewer calls than four experiments do.

Which answers are right is fixed by seeds. The experiment is looked at after each wave of requests, until it stops by
itself. `make test` plays large differences once, and counts separate experiments by their fixed number of pairs;
`make test-long` plays smaller ones, and the separate experiments too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from statistics import NormalDist, median
from typing import Any

import httpx2 as httpx
import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.plan import current_plan
from gateway.fake import FakeUpstream
from gateway.features.experiments.rows.dropped import dropped_of
from gateway.reports.model import BestOfK
from gateway.store.engine import StoreUnavailable
from gateway.store.location import default_url
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import stored_plans
from gateway.store.query import reading
from gateway.verdict.ending import is_decided
from gateway.verdict.findings import drops_of, finding
from tests.features.experiments.test_worlds import program

RIGHT, WRONG = "yes", "no"
AT_ONCE = 16
USD = {"old": 2.0, "good": 1.0, "same": 0.5, "worse": 0.25, "broken": 4.0, "second": 1.5}  # per million tokens


@dataclass(frozen=True)
class Several:
    """A control and candidates whose answers are right with known probabilities, each drawn by a seed."""

    name: str
    control: float
    candidates: Mapping[str, float]
    best: str | None  # None: no candidate may replace the control
    margin: float
    wave: int
    alone: str | None = None  # the only candidate, of a separate experiment

    def right(self, prompt: int, model: str) -> bool:
        words = f"{self.name.partition(' alone')[0]} {prompt} {model}".encode()
        chance = self.control if model == "old" else self.candidates[model]
        return int.from_bytes(sha256(words).digest()[:7]) / 2**56 < chance

    def fixed_pairs(self, candidate: str) -> float:
        """Pairs of a fixed-n test with this candidate alone: alpha 0.05, power 0.8, at its true difference."""
        a, b = self.control, self.candidates[candidate]
        z = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)
        return z**2 * (a * (1 - a) + b * (1 - b)) / (b - a + self.margin) ** 2

    @property
    def planned_pairs(self) -> float:
        """Pairs of a fixed-n test that is planned for a candidate as good as the control."""
        z = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)
        return z**2 * 2 * self.control * (1 - self.control) / self.margin**2


LARGE = Several("large", 0.6, {"good": 0.97, "same": 0.55, "worse": 0.2, "broken": 0.05}, "good", 0.15, 20)
SMALLER = Several("smaller", 0.8, {"good": 0.95, "same": 0.8, "worse": 0.65, "broken": 0.3}, "good", 0.1, 20)
HOPELESS = Several("none is as good", 0.9, {"good": 0.6, "same": 0.5, "worse": 0.4, "broken": 0.1}, None, 0.15, 20)


@dataclass
class Fleet:
    """All programs of one run."""

    directory: Path
    worlds: Sequence[Several]
    ports: tuple[int, ...]
    metrics_port: int
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(alias, model) → requests that reached the candidates' upstream."""
    requests: Counter[str] = field(default_factory=Counter)

    @property
    def url(self) -> str:
        return default_url(self.directory / "data")

    def answer(self, received: Any) -> str:
        body = received.json
        alias, model = body["model"].split(".")
        world = next(each for each in self.worlds if alias_of(each) == alias)
        if model != "old":
            self.calls[alias, model] += 1
        prompt = int(body["messages"][0]["content"].split()[-1])
        return RIGHT if world.right(prompt, model) else WRONG

    def config(self, control: str, candidates: str, stream: str) -> dict[str, Any]:
        return {
            "open": True,
            "upstreams": {
                "a": {"kind": "openai", "base_url": control, "api_key": "k"},
                "b": {"kind": "openai", "base_url": candidates, "api_key": "k"},
            },
            "models": {
                alias_of(w): {"targets": [{"upstream": "a", "model": f"{alias_of(w)}.old"}]} for w in self.worlds
            },
            "stream": {"url": stream, "name": f"best-{uuid.uuid4().hex[:12]}"},
            "scorers": {"exact": {}},
            "prices": {"as_of": "2026-11-29", "models": self._prices()},
            "experiments": {alias_of(w): self._experiment(w) for w in self.worlds},
        }

    def _prices(self) -> dict[str, dict[str, float]]:
        models = [(w, m) for w in self.worlds for m in ("old", *w.candidates)]
        return {
            f"{'a' if m == 'old' else 'b'}/{alias_of(w)}.{m}": {"input": USD[m], "output": USD[m]} for w, m in models
        }

    def _experiment(self, world: Several) -> dict[str, Any]:
        alias = alias_of(world)
        made: dict[str, Any] = {
            "model": alias, "control": {"upstream": "a", "model": f"{alias}.old"}, "shadow": 1.0, "primary": "exact",
            "margin": world.margin, "guardrails": {}, "min_hours": 0, "budget": {"concurrency": 512},
            "gate": {"latency": False, "load": None},
        }  # fmt: skip
        targets = {arm: {"upstream": "b", "model": f"{alias}.{arm}"} for arm in world.candidates}
        if world.alone is not None:
            return made | {"candidate": targets[world.alone]}
        return made | {"candidates": targets, "family": "best"}

    def states(self) -> dict[str, str]:
        with reading(self.url) as connection:
            plans = {alias_of(w): current_plan(stored_plans(connection, alias_of(w))) for w in self.worlds}
        return {alias: "" if plan is None else plan.state for alias, plan in plans.items()}

    def best(self, world: Several) -> BestOfK:
        with reading(self.url) as connection:
            plan = current_plan(stored_plans(connection, alias_of(world)))
            assert plan is not None
            found = finding(StoredEvidence(connection, plan), plan.plan.candidates[0][0]).best
        assert found is not None
        return found

    async def play(self, clients: Sequence[httpx.AsyncClient], waves: int) -> None:
        """Plays until every experiment has stopped. A wave goes to all gateways of the fleet, once all of them know
        what the consumer has found in the previous one."""
        for _ in range(waves):
            states = self.states()
            running = [world for world in self.worlds if states[alias_of(world)] == "running"]
            if not running:
                return
            turn = asyncio.Semaphore(AT_ONCE)
            jobs = [
                self._ask(clients[i % len(clients)], turn, world, self.requests[alias_of(world)] + i)
                for world in running
                for i in range(world.wave)
            ]
            await asyncio.gather(*jobs)
            for world in running:
                self.requests[alias_of(world)] += world.wave
            await self._settled(running)
            await asyncio.gather(*(self._known(clients, world) for world in running))
        raise AssertionError(f"still running: {self.states()}")

    async def _ask(self, client: httpx.AsyncClient, turn: asyncio.Semaphore, world: Several, i: int) -> None:
        body = {"model": alias_of(world), "messages": [{"role": "user", "content": f"Is it so? {i}"}]}
        async with turn:
            reply = await client.post("/v1/chat/completions", json=body, headers={"x-gateway-reference": RIGHT})
        assert reply.status_code == 200, reply.text

    async def _settled(self, running: Sequence[Several]) -> None:
        """Waits until every request is a pair, or was left out, and the consumer has looked at them."""
        async with asyncio.timeout(900):
            while not all(map(self._is_settled, running)):
                await asyncio.sleep(0.1)

    async def _known(self, clients: Sequence[httpx.AsyncClient], world: Several) -> None:
        """Waits until the consumer has looked at all pairs, and every gateway does what it found; it may stop
        meanwhile."""
        alias = alias_of(world)
        async with asyncio.timeout(900):
            while True:
                found = self._found(world)
                texts = [(await client.get("/metrics")).text for client in clients] if found is not None else []
                if found is not None and all(_does(text, alias, found) for text in texts):
                    return
                await asyncio.sleep(0.1)

    def _found(self, world: Several) -> tuple[str, ...] | None:
        """The candidates that are dropped; ("",): the experiment has stopped; None if the look is not in force yet."""
        with reading(self.url) as connection:
            plan = current_plan(stored_plans(connection, alias_of(world)))
            assert plan is not None
            if plan.state == "stopped":
                return ("",)
            if is_decided(StoredEvidence(connection, plan)):
                return None
            found = tuple(drops_of(StoredEvidence(connection, plan, 0.0))) if plan.plan.finds_best else ()
            return found if found == tuple(dropped_of(connection, plan.hash)) else None

    def _is_settled(self, world: Several) -> bool:
        alias = alias_of(world)
        with reading(self.url) as connection:
            plan = current_plan(stored_plans(connection, alias))
            query = "SELECT count(*) FROM pairs WHERE experiment = ? AND state <> 'open'"
            n = int(connection.exec_driver_sql(query, (alias,)).scalar() or 0)
        return n >= self.requests[alias] or (plan is not None and plan.state == "stopped")


def alias_of(world: Several) -> str:
    return world.name.replace(" ", "-")


def _ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(n)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _does(metrics: str, alias: str, found: tuple[str, ...]) -> bool:
    """Whether a gateway sends no shadow to these candidates; of ("",), none at all."""
    if found == ("",):
        return f'gateway_experiment_running{{experiment="{alias}"}} 0' in metrics
    return all(f'gateway_shadow_dropped{{arm="{arm}",experiment="{alias}"}} 1' in metrics for arm in found)


@contextlib.asynccontextmanager
async def fleet_of(
    directory: Path, stream: str, worlds: Sequence[Several]
) -> AsyncIterator[tuple[Fleet, list[httpx.AsyncClient]]]:
    """Two gateways and a consumer, ready, and a client of each gateway."""
    *ports, metrics_port = _ports(3)
    fleet = Fleet(directory, worlds, tuple(ports), metrics_port)
    async with (
        FakeUpstream(remember=False) as old,
        FakeUpstream(remember=False) as new,
        contextlib.AsyncExitStack() as s,
    ):
        old.replies(fleet.answer)
        new.replies(fleet.answer)
        (directory / "gateway.yaml").write_text(yaml.safe_dump(fleet.config(old.base_url, new.base_url, stream)))
        for port in ports:
            await s.enter_async_context(program(fleet, "serve", "--port", str(port)))  # type: ignore[arg-type]
        await s.enter_async_context(program(fleet, "evaluate", "--metrics-port", str(metrics_port)))  # type: ignore[arg-type]
        clients = [
            await s.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60))
            for port in ports
        ]
        await _ready(fleet, clients)
        yield fleet, clients


async def _ready(fleet: Fleet, clients: Sequence[httpx.AsyncClient]) -> None:
    async with asyncio.timeout(110):
        while True:
            with contextlib.suppress(httpx.HTTPError, StoreUnavailable):
                texts = [(await client.get("/metrics")).text for client in clients]
                names = [f'gateway_experiment_running{{experiment="{alias_of(w)}"}} 1' for w in fleet.worlds]
                everywhere = all(name in text for name in names for text in texts)
                if everywhere and all(state == "running" for state in fleet.states().values()):
                    return
            await asyncio.sleep(0.05)


async def verb(fleet: Fleet, *words: str) -> str:
    """The output of a command, run in this process."""
    where = ["--config", str(fleet.directory / "gateway.yaml"), "--data", str(fleet.directory / "data")]
    done = await asyncio.to_thread(CliRunner().invoke, app, [*words, *where])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.timeout(600)  # some hundred calls and their verdicts, on a machine that may be busy
async def test_the_best_of_four_is_found_for_fewer_calls(
    tmp_path: Path, stream_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with fleet_of(tmp_path, stream_url, [LARGE]) as (fleet, clients):
        await fleet.play(clients, 40)
        best, alias = fleet.best(LARGE), alias_of(LARGE)
        calls = {model: n for (_, model), n in fleet.calls.items()}
        after = await _after(fleet, clients, alias)
        status, shown = await verb(fleet, "ab", "status", alias), await verb(fleet, "report", alias, "--json")
        gauges = await _gauges(fleet)
    separate = sum(LARGE.fixed_pairs(arm) for arm in LARGE.candidates)
    planned = len(LARGE.candidates) * LARGE.planned_pairs
    with capsys.disabled():
        print(f"\n{best.sentence}\npaid: {calls}; four experiments: {planned:.0f} as planned, {separate:.0f} at best")  # noqa: T201
    assert (best.verdict, best.best) == ("best", "good")
    assert {row.candidate: row.paid_calls for row in best.candidates} == calls
    assert {row.candidate for row in best.candidates if row.state == "dropped"} >= {"worse", "broken"}
    assert calls["broken"] < calls["good"]
    assert calls["worse"] < calls["good"]
    assert sum(calls.values()) < planned
    assert after == calls, "it has stopped"
    assert best.sentence in status
    assert "(dropped: it gets no more requests)" in status
    read = json.loads(shown)
    assert (read["candidate"], read["verdict"], read["best"]["best"]) == ("good", "ship", "good")
    assert read["best"]["candidates"][0]["candidate"] == "good"
    assert gauges == {"good": 1.0, "same": gauges["same"], "worse": -1.0, "broken": -1.0}


async def _after(fleet: Fleet, clients: Sequence[httpx.AsyncClient], alias: str) -> dict[str, int]:
    """Requests by candidate once the stop is known to the fleet, and ten more calls have come."""
    runs = f'gateway_experiment_running{{experiment="{alias}"}} 1'
    async with asyncio.timeout(60):
        for client in clients:
            while runs in (await client.get("/metrics")).text:
                await asyncio.sleep(0.05)
    turn = asyncio.Semaphore(AT_ONCE)
    await asyncio.gather(*(fleet._ask(clients[i % 2], turn, fleet.worlds[0], 10_000 + i) for i in range(10)))
    return {model: n for (_, model), n in fleet.calls.items()}


async def _gauges(fleet: Fleet) -> dict[str, float]:
    """gateway_experiment_best by candidate, once the verdict is in it."""
    async with asyncio.timeout(60), httpx.AsyncClient() as client:
        while True:
            text = (await client.get(f"http://127.0.0.1:{fleet.metrics_port}/metrics")).text
            lines = [line for line in text.splitlines() if line.startswith("gateway_experiment_best{")]
            found = {line.partition('candidate="')[2].partition('"')[0]: float(line.split()[-1]) for line in lines}
            if 1.0 in found.values():
                return found
            await asyncio.sleep(0.2)


def alone(world: Several) -> list[Several]:
    """One experiment for each candidate, with the same answers."""
    return [
        Several(f"{world.name} alone {arm}", world.control, {arm: chance}, None, world.margin, world.wave, arm)
        for arm, chance in world.candidates.items()
    ]


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_the_best_of_four_and_four_experiments(
    tmp_path: Path, stream_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs with other answers each, of both worlds, and of the experiments that they replace. Where no candidate is as
    good as the control, four experiments may pay less: each has an error of its own, and here all share one."""
    rows = []
    for run in range(int(os.environ.get("SEEDS", "3"))):
        several = [
            Several(f"{w.name} {run}", w.control, w.candidates, w.best, w.margin, w.wave) for w in (SMALLER, HOPELESS)
        ]
        worlds = [*several, *(each for world in several for each in alone(world))]
        directory = tmp_path / str(run)
        directory.mkdir()
        async with fleet_of(directory, stream_url, worlds) as (fleet, clients):
            await fleet.play(clients, 150)
            for world in several:
                best, paid = fleet.best(world), _paid(fleet, world)
                separate = sum(_paid(fleet, each) for each in alone(world))
                rows.append((world, best, paid, separate))
    with capsys.disabled():
        print("\nworld                    verdict   paid calls  four experiments")  # noqa: T201
        for world, best, paid, separate in rows:
            print(f"{world.name:24} {best.best or best.verdict:9} {paid:10d} {separate:17d}")  # noqa: T201
    assert [best.best for _, best, *_ in rows] == [world.best for world, *_ in rows]
    of = [(paid, separate) for world, _, paid, separate in rows if world.best is not None]
    assert median(paid for paid, _ in of) < median(separate for _, separate in of)


def _paid(fleet: Fleet, world: Several) -> int:
    return sum(n for (alias, _), n in fleet.calls.items() if alias == alias_of(world))
