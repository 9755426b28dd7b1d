"""A certificate in `gateway up`, over sockets: a decision model that is too sure judges answers, people label them, a
share is automated, the model drifts, and the consumer takes the certificate back."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from gateway.fake import FakeAnswer, FakeUpstream, Received
from gateway.features.decisions.model import CertificateFinding, Promise
from gateway.features.decisions.work import certify
from gateway.features.labels.blind import LabelVerdict
from gateway.features.labels.desk import Desk, LabelRequest, save_labels
from gateway.scoring.http_client import HttpConnections
from gateway.store.query import reading, writing
from tests.scorers.test_judging_live import free_port, program, scored, until

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
SCORER = "quality.solved"
PROMISE = Promise("auto", SCORER, 0.05, 0.9, "threshold", alias="decide")
CALLS, LATER = 800, 300
AT_ONCE = 8


@dataclass
class Worker:
    """The model that answers, and the decision model that judges it: "p=0.993 good=1" is an answer's text."""

    drifted: bool = False
    draws: random.Random = field(default_factory=lambda: random.Random(51))
    decisions: int = 0

    def answers(self, received: Received) -> FakeAnswer | str:
        if received.path == "/v1/decisions":
            return self._decides(received.body.decode())
        easy = self.draws.random() < 0.4
        p = self.draws.uniform(0.97, 0.998) if easy else self.draws.uniform(0.2, 0.8)
        good = self.draws.random() < (0.5 if self.drifted else 1.0) if easy else self.draws.random() < p - 0.2
        return f"p={p:.4f} good={int(good)}"

    def _decides(self, body: str) -> FakeAnswer:
        self.decisions += 1
        [p] = re.findall(r"p=(0\.\d+) good=", body)
        answers = [{"type": "predicate", "name": "solved", "probability": float(p)}]
        return FakeAnswer(json.dumps({"answers": answers, "usage": {"input_tokens": 70, "output_tokens": 0}}).encode())


@dataclass
class Deployment:
    url: str
    metrics: str
    store: str
    worker: Worker
    labels: int = 0

    async def call(self, n: int) -> None:
        """Asks n questions, and waits until all their answers are judged."""
        before = await asyncio.to_thread(self.judged)
        body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "Solve it."}]}).encode()
        slots = asyncio.Semaphore(AT_ONCE)
        async with HttpConnections() as connections:

            async def one() -> int:
                async with slots:
                    to = f"{self.url}/chat/completions"
                    kind = {"content-type": "application/json"}
                    return (await connections.send("POST", to, body, deadline_s=60, headers=kind)).status

            assert set(await asyncio.gather(*(one() for _ in range(n)))) == {200}
        await until(lambda: self.judged() == before + n)

    def judged(self) -> float:
        return scored({"metrics": self.metrics}, SCORER)

    def label(self, n: int, favour: float) -> None:
        given = []
        with reading(self.store) as connection:
            desk = Desk(connection, LabelRequest(SCORER, "ada", favour=favour))
            for _ in range(n):
                drawn = desk.next(connection)
                assert drawn is not None, "no answer is left"
                given.append(desk.label(drawn, LabelVerdict(float(drawn.blind.answers[0][-1]))))
        save_labels(self.store, given)
        self.labels += n

    def certify(self) -> CertificateFinding:
        with writing(self.store) as connection:
            return certify(connection, PROMISE, time.time())


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    """`gateway up` with one model, its judge, and a certificate."""
    worker = Worker()
    async with FakeUpstream() as upstream:
        upstream.replies(worker.answers)
        target = {"upstream": "up", "model": "small"}
        questions = {"solved": {"predicate": "The answer solves it."}}
        config = {
            "open": True,
            "upstreams": {"up": {"kind": "openai", "base_url": upstream.base_url, "api_key": "sk-upstream"}},
            "models": {"chat": {"targets": [target]}, "decide": {"targets": [{**target, "model": "judge"}]}},
            "sampling": {"rate": 1.0},
            "scorers": {"quality": {"use": "decision", "model": "decide", "questions": questions}},
            "decisions": {"certificates": {"auto": {"scorer": SCORER}}},
        }
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config))
        async with program(tmp_path, b"Ctrl-C stops everything", "up", "--port", str(free_port())) as log:
            text = log.read_text()
            base, metrics = re.search(r"base_url +(\S+)", text), re.search(r"metrics .*?(http\S+)\s*$", text, re.M)
            assert base is not None
            assert metrics is not None
            yield Deployment(base[1], metrics[1], f"sqlite:///{tmp_path}/.gateway/gateway.db", worker)


async def test_a_share_is_automated_until_the_model_drifts(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    await deployment.call(CALLS)
    await asyncio.to_thread(deployment.label, 100, 1.0)
    found = await asyncio.to_thread(deployment.certify)
    while found.certified is None:
        await asyncio.to_thread(deployment.label, 20, 0.01)
        found = await asyncio.to_thread(deployment.certify)
    share, labels = found.certified.share, deployment.labels
    assert 0.2 <= share <= 0.6
    assert found.truth.raw is not None
    assert found.truth.raw.said > found.truth.raw.rate, "the model is too sure"
    deployment.worker.drifted = True
    await deployment.call(LATER)
    await asyncio.to_thread(deployment.label, 120, 0.01)
    async with asyncio.timeout(180):
        while 'gateway_decision_certificate{name="auto",state="lapsed"} 1.0' not in await asyncio.to_thread(
            page, deployment.metrics
        ):
            await asyncio.sleep(1.0)
    ended = await asyncio.to_thread(deployment.certify)
    assert ended.attempt is not None
    with capsys.disabled():
        print(  # noqa: T201 - the story in figures
            f"\n{CALLS} calls and {deployment.worker.decisions} decisions; {labels} labels: {share:.0%} automated at "
            f"≤ 5 % wrong; after the drift {deployment.labels - labels} more, and it lapsed"
        )


def page(url: str) -> str:
    import urllib.request

    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - of our own program
        text: str = answer.read().decode()
    return text
