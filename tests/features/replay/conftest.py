"""Datasets, two upstreams that are right about a part of them, and what it takes to replay one against the other."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from gateway.config.config import Config
from gateway.config.loading import load
from gateway.config.scorers import ScorerConfig
from gateway.core.randomization import draw
from gateway.fake import FakeAnswer, FakeUpstream, Received
from gateway.features.gateway_choice import GatewayLocation
from gateway.features.replay.datasets.datasets import Dataset, scan
from gateway.features.replay.design import ReplayDesign
from gateway.features.replay.rows import Replay, ReplayStore
from gateway.features.replay.rows import ReplayAnswer as Row
from gateway.features.replay.sending.asking import ReplayRequest, RequestPacing
from gateway.features.replay.sending.run import LocalScoring, ReplayJob, ReplayProgress, ReplayRun
from gateway.features.targets import ReplayTarget, RequestSettings
from gateway.scoring.registry import RegisteredScorer, build
from gateway.scoring.threads import ScoringThreads
from gateway.store.query import reading


def right(target: str, question: str, share: float) -> bool:
    """Whether a target knows the answer: the same in every run."""
    return draw(f"test:{target}", question) < share


def saying(target: str, share: float) -> Callable[[Received], str]:
    def choose(asked: Received) -> str:
        question = asked.json["messages"][-1]["content"]
        return answer_to(question) if right(target, question, share) else "no idea"

    return choose


def answer_to(question: str) -> str:
    return question.replace("question", "answer")


@pytest.fixture
def questions(tmp_path: Path) -> Callable[[int], Path]:
    """Writes a CSV with `count` questions, each with its answer."""

    def write(n: int) -> Path:
        path = tmp_path / "questions.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["examples", "ground_truth"])
            rows.writerows([f"question {i}", f"answer {i}"] for i in range(n))
        return path

    return write


@pytest.fixture
async def upstreams() -> AsyncIterator[dict[str, FakeUpstream]]:
    """Two doubles: `one` is right in 80 % of the questions, `two` in 60 %."""
    async with FakeUpstream() as one, FakeUpstream() as two:
        one.replies(saying("one", 0.8))
        two.replies(saying("two", 0.6))
        yield {"one": one, "two": two}


Write = Callable[..., Path]


@pytest.fixture
def gateway_yaml(tmp_path: Path, upstreams: dict[str, FakeUpstream]) -> Write:
    """Writes their config: models `one` and `two`, each of one target. more: further sections."""

    def write(**more: Any) -> Path:
        path = tmp_path / "gateway.yaml"
        config = {
            "open": True,
            "upstreams": {name: {"kind": "fake", "base_url": each.base_url} for name, each in upstreams.items()},
            "models": {name: {"targets": [{"upstream": name, "model": "m"}]} for name in upstreams},
            "prices": {"as_of": "2026-11-01", "models": PRICES},
            **more,
        }
        path.write_text(yaml.safe_dump(config))
        return path

    return write


@pytest.fixture
def place(gateway_yaml: Write, tmp_path: Path) -> GatewayLocation:
    """The location of the replay's gateway: the config and a data directory."""
    path = gateway_yaml()
    return GatewayLocation(path, load(path), tmp_path / "data")


@pytest.fixture
def config(place: GatewayLocation) -> Config:
    """The loaded config of `place`."""
    return place.config


PRICES = {"one/m": {"input": 2, "output": 8}, "two/m": {"input": 1, "output": 1}}


@pytest.fixture
async def served() -> AsyncIterator[FakeUpstream]:
    """A double in place of the gateway, which answers for models `one` and `two` as `saying` does."""
    choose = {"one": saying("one", 0.8), "two": saying("two", 0.6)}

    def answer(asked: Received) -> FakeAnswer:
        name = asked.json["model"]
        message = {"role": "assistant", "content": choose[name](asked)}
        body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 2}}  # fmt: skip
        return FakeAnswer(orjson.dumps(body), headers=(("x-gateway-upstream", name), ("x-gateway-model", "m")))

    async with FakeUpstream() as fake:
        fake.replies(answer)
        yield fake


@pytest.fixture
def named(place: GatewayLocation, served: FakeUpstream) -> GatewayLocation:
    """The place, with the gateway of `served` in its config."""
    return replace(place, url=served.base_url)


TARGETS = (ReplayTarget("one", "one", definition="d1", seeded=True), ReplayTarget("two", "two", definition="d2"))


@dataclass
class Scripted:
    """Answers without a gateway: as `saying` does, or as fails says. at: what was asked, in order."""

    shares: dict[str, float] = field(default_factory=lambda: {"one": 0.8, "two": 0.6})
    fails: Callable[[ReplayRequest, int], bool] = lambda ask, n: False
    at: list[ReplayRequest] = field(default_factory=list)
    cost_usd: float | None = 0.001

    async def ask(self, ask: ReplayRequest) -> Row:
        self.at.append(ask)
        await asyncio.sleep(0)
        if self.fails(ask, len(self.at)):
            return ask.answer("failed", 0.1, 1.0, status=503, error="HTTP 503: no")
        question = ask.item.request["messages"][-1]["content"]
        known = right(ask.target.name, question, self.shares[ask.target.name])
        answer = answer_to(question) if known else "no idea"
        body = b'{"choices":[{"index":0,"message":{"content":"%b"},"finish_reason":"stop"}]}' % answer.encode()
        got = {"upstream": ask.target.name, "model": "m", "cost_usd": self.cost_usd, "text": answer, "response": body}
        return ask.answer("ok", 0.1, 1.0, status=200, input_tokens=2, output_tokens=2, **got)


@dataclass
class Desk:
    """One store, and jobs on one dataset."""

    store: str
    dataset: Dataset
    scorers: dict[str, RegisteredScorer]
    rows: int
    threads: ScoringThreads

    def job(self, targets: Sequence[ReplayTarget] = TARGETS, repeats: int = 1, **pace: Any) -> ReplayJob:
        design = ReplayDesign(self.dataset.hash, tuple(targets), RequestSettings())
        return ReplayJob(
            "replay",
            self.dataset,
            design,
            self.rows,
            repeats,
            self.scorers,
            RequestPacing(**{"concurrency": 4, **pace}),
        )

    async def run(self, asker: Any, job: ReplayJob | None = None, scoring: Any = None) -> ReplayProgress:
        job = job or self.job()
        async with ReplayStore(self.store, lambda: 5.0) as store:
            await store.begin(Replay(job.name, "d", job.design.dataset, job.design.hash, job.design.json, 1.0))
            return await ReplayRun(job, store, asker, scoring or LocalScoring(self.threads), lambda _: None).run()

    def rowsof(self, query: str) -> list[tuple[Any, ...]]:
        with reading(self.store) as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def stored(self) -> list[tuple[Any, ...]]:
        """All that decides a result, in order."""
        return self.rowsof(
            "select a.item, a.target, a.repeat, a.outcome, a.text, s.scorer, s.value from replay_answers a "
            "left join scores s on s.exchange_id = a.answer_id order by 1, 2, 3, 6"
        )


@pytest.fixture
def threads() -> Iterator[ScoringThreads]:
    """The threads that scorers which compute run on."""
    pool = ScoringThreads(grace_s=5)
    yield pool
    pool.close()


@pytest.fixture
def desk(
    questions: Callable[[int], Path], tmp_path: Path, threads: ScoringThreads, place_store: Callable[[Path], str]
) -> Desk:
    """40 questions with the scorers `exact` and `f1`."""
    dataset = scan(questions(40))
    scorers = build({"exact": ScorerConfig(), "f1": ScorerConfig()})
    return Desk(place_store(tmp_path / "store.db"), dataset, scorers, 40, threads)


@pytest.fixture
def scripted() -> type[Scripted]:
    """The class Scripted: a client that answers by a script."""
    return Scripted
