"""A learned route from its first pair to a leaf that is taken back: clients, a gateway, a stream server, a consumer, a
receiver of webhooks and two models with planted answers, over real sockets.

The small model is as good but for code. The route is learned, verified, proved by an experiment whose ramp takes it to
all traffic, served and watched; then the small model breaks, and its leaf goes back to the control. Which answers are
right is fixed by seeds. The figures go to the terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import httpx2
import pytest
import yaml
from fixtures.webhooks import SECRET
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.routes import read_route
from gateway.fake import FakeUpstream
from tests.features.experiments.test_worlds import program

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
ROUTE, WATCH = "safe", "safe-watch"
RIGHT, WRONG = "yes", "no"
CODE = "Fix this Python function, please, number {0}."
TALK = "What should I cook tonight, number {0}?"
CODE_SHARE, GOOD, BAD = 0.3, 0.97, 0.35
PAIRS, LATER = 320, 80
AT_ONCE = 8


@dataclass(frozen=True)
class Measured:
    """USD per 1 000 and the share of right answers, with the half-widths of their 95 % intervals."""

    n: int
    usd: float
    usd_half: float
    right: float
    right_half: float

    @classmethod
    def of(cls, rows: list[tuple[float, float]]) -> Measured:
        """rows: (score, USD) of each answer."""
        right, usd = ([row[i] for row in rows] for i in (0, 1))
        halves = [1.96 * pstdev(values) / len(rows) ** 0.5 for values in (right, usd)]
        return cls(len(rows), 1000 * fmean(usd), 1000 * halves[1], fmean(right), halves[0])

    def __str__(self) -> str:
        return f"| {self.n} | {self.right:.2f} ± {self.right_half:.2f} | {self.usd:.4f} ± {self.usd_half:.4f} |"


@dataclass
class Road:
    """All programs, and what has been asked so far."""

    directory: Path
    url: str
    client: httpx2.AsyncClient
    doubles: dict[str, FakeUpstream]
    broken: bool = False
    """The small model answers wrongly whatever it is asked."""
    asked: int = 0
    texts: list[str] = field(default_factory=list)

    def answer(self, model: str) -> Callable[[Any], str]:
        def choose(received: Any) -> str:
            text = str(received.json["messages"][-1]["content"])
            chance = BAD if model == "small" and ("Python" in text or self.broken) else GOOD
            digest = sha256(f"{model} {text}".encode()).digest()
            return RIGHT if int.from_bytes(digest[:7]) / 2**56 < chance else WRONG

        return choose

    async def ask(self, n: int) -> list[httpx2.Response]:
        """n further requests, three in ten about code."""
        waiting = iter(range(self.asked, self.asked + n))
        self.asked += n
        replies: list[httpx2.Response] = []

        async def one_after_the_other() -> None:
            for i in waiting:
                text = (CODE if int.from_bytes(sha256(b"%d" % i).digest()[:2]) / 2**16 < CODE_SHARE else TALK).format(i)
                body = {"model": "chat", "messages": [{"role": "user", "content": text}]}
                headers = {"x-gateway-reference": RIGHT, "x-gateway-user": f"u{i % 240}"}
                replies.append(await self.client.post("/v1/chat/completions", json=body, headers=headers))

        await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
        assert {reply.status_code for reply in replies} == {200}, replies[-1].text
        return replies

    async def verb(self, *words: str, code: int = 0) -> str:
        where = ["--config", str(self.directory / "gateway.yaml"), "--data", str(self.directory / "data")]
        where = where[:2] if words[:2] == ("route", "show") else where
        done = await asyncio.to_thread(CliRunner().invoke, app, [*words, *where])
        assert done.exit_code == code, (done.output, done.exception)
        return done.output

    def rows(self, query: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.directory / "data" / "gateway.db", timeout=60)) as connection:
            return connection.execute(query).fetchall()

    def pairs(self, experiment: str) -> int:
        query = f"SELECT count(*) FROM pairs WHERE experiment = '{experiment}' AND place IS NOT NULL"  # noqa: S608
        return int(self.rows(query)[0][0])

    def caught_up(self) -> bool:
        """Whether the consumer has read and paired nearly all: a ramp takes no step while it is late."""
        stored = int(self.rows("SELECT count(*) FROM exchanges WHERE role = 'served'")[0][0])
        waiting = int(self.rows("SELECT count(*) FROM pairs WHERE state = 'open'")[0][0])
        return stored >= self.asked - 10 and waiting <= 10

    def measured(self, where: str) -> Measured:
        query = "SELECT s.value, e.cost_usd FROM exchanges e JOIN scores s ON s.exchange_id = e.id WHERE "
        return Measured.of(self.rows(f"{query} e.role = 'served' AND s.status = 'scored' AND {where}"))

    async def until(self, holds: Callable[[], Any], what: str, traffic: int = 0) -> None:
        """traffic: requests between two looks."""
        try:
            async with asyncio.timeout(200):
                while True:
                    found = holds()
                    if await found if asyncio.iscoroutine(found) else found:
                        return
                    if traffic and self.caught_up():
                        await self.ask(traffic)
                    await asyncio.sleep(0.2)
        except TimeoutError as error:
            error.add_note(what)
            states = self.rows("SELECT experiment, state, reason, count(*) FROM pairs GROUP BY 1, 2, 3")
            error.add_note(f"{states} of {self.asked}")
            error.add_note(str(await self.gate()))
            error.add_note("\n".join(log.read_text()[-3000:] for log in self.directory.glob("*.log")))
            raise

    def configure(self, **sections: Any) -> None:
        """Rewrites gateway.yaml; the programs read it again by themselves."""
        path = self.directory / "gateway.yaml"
        raw = {**yaml.safe_load(path.read_text()), **sections}
        path.write_text(yaml.safe_dump({name: value for name, value in raw.items() if value is not None}))

    async def gate(self) -> dict[str, Any]:
        where = ["--config", str(self.directory / "gateway.yaml"), "--data", str(self.directory / "data")]
        done = await asyncio.to_thread(CliRunner().invoke, app, ["ab", "gate", ROUTE, "--json", *where])
        return json.loads(done.stdout) if done.stdout.startswith("{") else {}

    async def shows(self, metric: str) -> bool:
        text = (await self.client.get("/metrics")).text
        return any(line.startswith(metric) for line in text.splitlines())


LARGE, SMALL = {"upstream": "large", "model": "m"}, {"upstream": "small", "model": "m"}
SWAP: dict[str, Any] = {
    "model": "chat", "control": LARGE, "candidate": SMALL, "shadow": 1.0, "repeat_control": 0.1, "primary": "exact",
    "margin": 0.15, "method": "anytime", "min_hours": 0, "after_verdict": "continue", "budget": {"concurrency": 512},
    "gate": {"latency": False, "load": None},
}  # fmt: skip


def _usd(amount: float) -> dict[str, float]:
    return {"input": amount, "output": 3 * amount}


def config(doubles: dict[str, FakeUpstream], stream: str, hook: str) -> dict[str, Any]:
    return {
        "open": True,
        "upstreams": {name: {"kind": "vllm", "base_url": double.base_url} for name, double in doubles.items()},
        "models": {"chat": {"targets": [LARGE]}},
        "stream": {"url": stream, "name": "road"},
        "scorers": {"exact": {}},
        "prices": {"as_of": "2026-11-29", "models": {"large/m": _usd(10), "small/m": _usd(1)}},
        "webhooks": {"ops": {"url": hook, "secret": SECRET}},
        "sampling": {"rate": 1.0},
        "log": {"access": False},
        "experiments": {"swap": SWAP},
    }  # fmt: skip


@pytest.fixture
async def road(tmp_path: Path, stream_url: str, servers: Any, receiver: Any) -> AsyncIterator[Road]:
    """A gateway and a consumer with the experiment of the two models."""
    port, metrics_port = servers.free_ports(2)
    async with contextlib.AsyncExitStack() as stack:
        doubles = {name: await stack.enter_async_context(FakeUpstream(remember=False)) for name in ("large", "small")}
        url = f"http://127.0.0.1:{port}"
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, timeout=60))
        made = Road(tmp_path, url, client, doubles)
        for name, double in doubles.items():
            double.replies(made.answer(name))
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config(doubles, stream_url, receiver.url)))
        await stack.enter_async_context(program(made, "serve", "--port", str(port)))  # type: ignore[arg-type]
        await stack.enter_async_context(program(made, "evaluate", "--metrics-port", str(metrics_port)))  # type: ignore[arg-type]
        await made.until(lambda: running(made, "swap"), "the experiment does not begin")
        yield made


async def running(road: Road, experiment: str) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return await road.shows(f'gateway_experiment_running{{experiment="{experiment}"}} 1')
    return False


async def test_a_route_is_learned_proved_ramped_watched_and_taken_back(
    road: Road, receiver: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    learned = await is_learned(road)
    await is_ramped_up(road)
    await serves(road)
    await road.ask(200)
    await road.until(lambda: road.rows(_OF_ROUTE)[0][0] >= 180, "the answers are not scored")
    before, after = road.measured("e.experiment = 'swap'"), road.measured("e.experiment = 'safe-watch'")
    everything = road.measured("e.route IS NOT NULL AND e.arm IS NOT 'candidate'")
    await breaks(road, receiver)
    with capsys.disabled():
        print(f"\n{learned}\n| served by | answers | right | USD per 1 000 |\n|---|---|---|---|")  # noqa: T201
        for name, row in (("all on the large model", before), ("the route", everything), ("of these, moved", after)):
            print(f"| {name} {row}")  # noqa: T201
    assert everything.usd + everything.usd_half < before.usd - before.usd_half
    assert everything.right + everything.right_half > before.right - before.right_half - 0.05


_OF_ROUTE = (
    "SELECT count(*) FROM exchanges e JOIN scores s ON s.exchange_id = e.id "
    "WHERE e.role = 'served' AND e.route IS NOT NULL AND e.experiment IS NOT 'safe' AND s.status = 'scored'"
)


async def is_learned(road: Road) -> str:
    """1 and 2: from pairs to a route that keeps code, and newer pairs that say the same."""
    await road.until(lambda: road.pairs("swap") >= PAIRS, "the pairs do not settle", traffic=40)
    learned = await road.verb("route", "learn", "swap", "--name", ROUTE, "--write")
    route = read_route(road.directory / "gateway.yaml", ROUTE)
    assert 0.55 < sum(leaf.share for leaf in route.leaves if leaf.moved) < 0.85, learned
    assert all("code" in leaf.says for leaf in route.leaves), learned
    await road.until(lambda: road.pairs("swap") >= PAIRS + LATER, "the newer pairs do not settle", traffic=40)
    verified = json.loads(await road.verb("route", "verify", ROUTE, "--json"))
    assert verified["state"] in ("holds", "undecided"), verified
    assert verified["loss"]["value"] < 0.1
    return learned


async def is_ramped_up(road: Road) -> None:
    """3 and 4: as the candidate of an experiment, proved with exact ties, then step by step to all traffic."""
    ramp = {"mode": "auto", "steps": [0.5, 1.0], "soak_s": 2, "min_units": 30, "holdout": 0}
    proof = {**SWAP, "candidate": {"route": ROUTE}, "ramp": ramp, "headers": "all", "unit": "user", "margin": 0.3,
             "guardrails": {"error_rate": 0.3}}  # fmt: skip
    await road.verb("ab", "stop", "swap")
    road.configure(experiments={ROUTE: proof})
    await road.until(lambda: running(road, ROUTE), "the proof does not begin")

    async def promoted() -> bool:
        gate = await road.gate()
        assert gate.get("state") != "rolled_back", gate
        return gate.get("state") == "promoted"

    await road.until(promoted, "it is not promoted", traffic=60)
    tied = road.rows("SELECT count(*) FROM exchanges WHERE experiment = 'safe' AND tied")[0][0]
    asked = road.rows(
        "SELECT count(*) FROM exchanges WHERE experiment = 'safe' AND arm = 'candidate' AND pair NOT NULL"
    )
    assert 0 < tied < asked[0][0]
    assert await road.shows('gateway_ramp_share{experiment="safe"} 1.0')
    replies = await road.ask(30)
    assert {reply.headers["x-gateway-arm"] for reply in replies} == {"candidate"}
    assert {reply.headers["x-gateway-upstream"] for reply in replies} == {"large", "small"}


async def serves(road: Road) -> None:
    """Step 5: as the target of the model; each moved call is watched, so that the test need not wait for one in
    fifty.
    """
    await road.verb("ab", "stop", ROUTE)
    road.configure(experiments=None, models={"chat": {"targets": [{"route": ROUTE, "watch": 1.0}]}})
    await road.until(lambda: running(road, WATCH), "the watch does not begin")
    replies = await road.ask(20)
    assert {reply.headers["x-gateway-route"].partition("/")[0] for reply in replies} == {ROUTE}


async def breaks(road: Road, receiver: Any) -> None:
    """Step 6: the small model breaks, and what it had goes back to the control."""
    road.broken = True

    async def taken_back() -> bool:
        return await road.shows(f'gateway_route_leaves_returned{{route="{ROUTE}"}} 1.0')

    await road.until(taken_back, "its leaf is not taken back", traffic=20)
    replies = await road.ask(40)
    assert {reply.headers["x-gateway-upstream"] for reply in replies} == {"large"}
    assert "is taken back: it loses" in (road.directory / "evaluate.log").read_text()
    await road.until(lambda: any(each.body["type"] == "route.leaf_returned" for each in receiver.got), "nobody is told")
    [told] = [each for each in receiver.got if each.body["type"] == "route.leaf_returned"]
    data = told.body["data"]
    assert (told.genuine(), data["route"], data["experiment"]) == (True, ROUTE, WATCH)
    assert data["low"] > data["tolerated"]
