"""A chat replaced by decisions, over sockets, without a change of the application: a draft, an experiment that ships,
decisions behind the façade, labels, a certificate that automates a share, drift, and the large model again."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest
import yaml
from fixtures.labellers import label_answers
from fixtures.program_command import gateway_command
from servers import free_ports

from gateway.config.loading import load
from gateway.core.plan import current_plan
from gateway.fake import FakeAnswer, FakeUpstream, Received
from gateway.features.decisions.model import CertificateFinding
from gateway.features.decisions.work import certify, look, promises_of
from gateway.features.labels.blind import BlindItem
from gateway.store.location import default_url
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import stored_plans
from gateway.store.query import reading, writing
from gateway.verdict.findings import finding
from tests.features.experiments.test_worlds import program

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]
SCORER, QUESTION = "refund", "The customer asks for money back."
MEMBER = {"type": "boolean", "description": QUESTION}
SCHEMA = {
    "type": "object",
    "properties": {"refund": MEMBER},
    "required": ["refund"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "ticket", "strict": True, "schema": SCHEMA}}
EASY, SURE, UNSURE, LARGE = 0.6, 0.996, 0.7, 0.9
"""Share of easy tickets; how often the decision model is right about them and about the others; how often the large
model is right. The experiment allows a loss of MARGIN, and the truth is 0.022."""
MARGIN = 0.1
FIRST, WAVE, MOST_PAIRS, SERVED = 60, 100, 1_500, 300
FEW, MOST_LABELS = 25, 1_000
AT_ONCE, WAIT_S = 8, 300


@dataclass(frozen=True)
class Ticket:
    """A call of the application. Its text holds what the decision model states, what the large model says, and what is
    true."""

    number: int
    p: float
    right: bool
    truth: bool
    large: bool

    @property
    def sure(self) -> bool:
        return self.p > 0.9

    @property
    def text(self) -> str:
        says = self.truth == self.right
        stated = self.p if says else 1.0 - self.p
        return f"ticket {self.number}: p={stated:.6f} large={json.dumps(self.large)} truth={json.dumps(self.truth)}"


@dataclass
class Models:
    asked: Counter[str] = field(default_factory=Counter)

    def answers(self, received: Received) -> FakeAnswer:
        body = received.json
        self.asked[body["model"]] += 1
        decides = received.path == "/v1/decisions"
        text = body["input"] if decides else body["messages"][0]["content"]
        [(p, large)] = re.findall(r"p=(\S+) large=(\S+)", text)
        if decides:
            answers = [{"type": "predicate", "name": "refund", "probability": float(p)}]
            usage = {"input_tokens": 70, "output_tokens": 0, "total_tokens": 70}
            return FakeAnswer(json.dumps({"model": "decider", "answers": answers, "usage": usage}).encode())
        message = {"role": "assistant", "content": f'{{"refund": {large}}}'}
        usage = {"prompt_tokens": 120, "completion_tokens": 8, "total_tokens": 128}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        made = {"id": "c", "object": "chat.completion", "created": 1, "model": "large", "choices": [choice]}
        return FakeAnswer(json.dumps(made | {"usage": usage}).encode())


@dataclass(frozen=True)
class Answered:
    model: str
    action: str
    right: bool


@dataclass
class Story:
    """The deployment, its application and the people who label."""

    directory: Path
    url: str
    models: Models
    draws: random.Random
    calls: int = 0
    labels: int = 0
    began: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.directory / "gateway.yaml"

    @property
    def store(self) -> str:
        return default_url(self.directory / "data")

    def ticket(self, *, drifted: bool = False, sure: bool = False) -> Ticket:
        draw = self.draws.random
        easy = sure or draw() < EASY
        p = round(self.draws.uniform(0.998, 0.999), 6) if easy else self.draws.choice((0.75, 0.8, 0.85))
        truth = draw() < 0.5
        right = draw() < (0.5 if easy and drifted else SURE if easy else UNSURE)
        return Ticket(self.draws.getrandbits(40), p, right, truth, truth == (draw() < LARGE))

    async def ask(self, n: int, **kinds: bool) -> list[Answered]:
        """The application's calls, by the official client. None of them fails."""
        slots = asyncio.Semaphore(AT_ONCE)
        async with openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="-", max_retries=0, timeout=60) as client:

            async def one(ticket: Ticket) -> Answered:
                async with slots:
                    raw = await client.chat.completions.with_raw_response.create(
                        model="triage",
                        messages=[{"role": "user", "content": ticket.text}],
                        response_format=FORMAT,
                        extra_headers={"x-gateway-reference": json.dumps({"refund": ticket.truth})},
                    )
                content = raw.parse().choices[0].message.content
                assert content is not None
                action = raw.headers.get("x-gateway-decision-action", "")
                answer = json.loads(content)
                assert answer.keys() == {"refund"}, "no member is invented"
                return Answered(raw.headers["x-gateway-model"], action, answer["refund"] == ticket.truth)

            self.calls += n
            return list(await asyncio.gather(*(one(self.ticket(**kinds)) for _ in range(n))))

    async def verb(self, *words: str) -> str:
        """Standard output of `gateway WORDS`."""
        where = ("--config", str(self.path), "--data", str(self.directory / "data"))
        process = await asyncio.create_subprocess_exec(
            *gateway_command(*words, *where), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert process.returncode == 0, (out + err).decode()
        self.lines += [line for line in err.decode().splitlines() if "USD" in line]
        return out.decode()

    def change(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Edits gateway.yaml, which the programs read again."""
        config = yaml.safe_load(self.path.read_text())
        change(config)
        self.path.write_text(yaml.safe_dump(config))

    async def page(self) -> str:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{self.url}/metrics")).text

    async def usd(self) -> float:
        lines = (await self.page()).splitlines()
        return sum(float(x.rpartition(" ")[2]) for x in lines if x.startswith("gateway_cost_usd_total{"))

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not await holds():
                await asyncio.sleep(0.2)

    async def until_answered_by(self, model: str, action: str) -> None:
        """Waits until sure answers come from a model, with this action."""

        async def holds() -> bool:
            [answered] = await self.ask(1, sure=True)
            return (answered.model, answered.action) == (model, action)

        await self.until(holds)

    async def experiment(self) -> str:
        """The verdict, and the pairs that it took."""
        pairs = 0
        while pairs < MOST_PAIRS:
            await self.ask(WAVE)
            pairs += WAVE
            await self.until(partial(asyncio.to_thread, self._joined, pairs))
            found = await asyncio.to_thread(self._found)
            if found.decision.verdict != "hold":
                return f"{found.decision.verdict} after {found.pairs.joined} pairs"
        return f"hold: {found.decision} {[gate for gate in found.gates if gate.state <= 0]}"

    def _found(self) -> Any:
        with reading(self.store) as connection:
            plan = current_plan(stored_plans(connection, "triage-decision"))
            assert plan is not None
            return finding(StoredEvidence(connection, plan), "candidate")

    def _joined(self, pairs: int) -> bool:
        with reading(self.store) as connection:
            query = "SELECT count(*) FROM pairs WHERE state != 'open'"
            return bool(connection.exec_driver_sql(query).scalar_one() >= pairs)

    def judged(self, n: int) -> bool:
        with reading(self.store) as connection:
            query = "SELECT count(*) FROM scores WHERE scorer = ? AND value01 IS NOT NULL"
            return bool(connection.exec_driver_sql(query, (SCORER,)).scalar_one() >= n)

    def label(self, n: int) -> None:
        """Somebody who knows the truth labels answers of the decision model."""

        def right(shown: BlindItem) -> bool:
            truth = shown.question[0][1].rpartition("truth=")[2].strip()
            return bool(json.loads(shown.answers[0])["refund"] == json.loads(truth))

        label_answers(self.store, SCORER, n, right)
        self.labels += n

    def certify(self) -> CertificateFinding:
        [promise] = promises_of(load(self.path))
        with writing(self.store) as connection:
            return certify(connection, promise, time.time())

    def holds(self) -> bool:
        [promise] = promises_of(load(self.path))
        with reading(self.store) as connection:
            return look(connection, promise, time.time()).certified is not None

    async def tell(self, what: str) -> None:
        seconds = time.monotonic() - self.began
        self.lines.append(
            f"{seconds:6.0f} s {self.calls:6d} calls {await self.usd():9.5f} USD {self.labels:5d} labels: {what}"
        )


@pytest.fixture
async def story(tmp_path: Path, stream_url: str) -> AsyncIterator[Story]:
    """A gateway and its consumer; `triage` is answered by the large model."""
    models, (port, metrics) = Models(), free_ports(2)
    async with FakeUpstream(remember=False) as upstream:
        upstream.replies(models.answers)
        section = {"kind": "openai", "base_url": upstream.base_url, "api_key": "sk-upstream"}
        prices = {"big/large": {"input": 2.0, "output": 8.0}, "small/decider": {"input": 0.1, "output": 0.0}}
        decided = {"use": "decided", "target": "small/decider[decision]", "question": {"predicate": QUESTION}}
        config = {
            "open": True,
            "upstreams": {"big": section, "small": section},
            "models": {"triage": {"targets": [{"upstream": "big", "model": "large"}]}},
            "stream": {"url": stream_url, "name": f"story-{uuid.uuid4().hex[:12]}"},
            "sampling": {"rate": 1.0},
            "prices": {"as_of": "2026-12-01", "models": prices},
            "scorers": {"decision_right": {}, SCORER: decided},
            "decisions": {"certificates": {"refund": {"scorer": SCORER}}},
        }
        told = Story(tmp_path, f"http://127.0.0.1:{port}", models, random.Random(53))
        told.path.write_text(yaml.safe_dump(config))
        async with (
            program(told, "serve", "--port", str(port)),  # type: ignore[arg-type]
            program(told, "evaluate", "--metrics-port", str(metrics)),  # type: ignore[arg-type]
        ):
            yield told


async def test_decisions_take_over_a_chat_and_give_it_back(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    async def up() -> bool:
        try:
            return bool(await story.page())
        except httpx.HTTPError:
            return False

    await story.until(up)
    assert {one.model for one in await story.ask(FIRST)} == {"large"}
    await story.tell("the large model answers")

    async def drafted() -> bool:
        try:
            return "triage" in await story.verb(
                "ab", "draft", "triage", "--as", "decision", "--successor", "small/decider"
            )
        except AssertionError:
            return False

    await story.until(drafted)
    words = ("ab", "draft", "triage", "--as", "decision", "--successor", "small/decider")
    [(name, draft)] = yaml.safe_load(await story.verb(*words))["experiments"].items()
    assert (name, draft["candidate"]["as"]) == ("triage-decision", "decision")
    draft |= {"shadow": 1.0, "margin": MARGIN, "min_hours": 0, "guardrails": {}, "start": "auto"}
    draft |= {"repeat_control": 0.25, "budget": {"concurrency": 512}, "gate": {"latency": False, "load": None}}
    story.change(lambda config: config.update(experiments={name: draft}))

    async def runs() -> bool:
        return f'gateway_experiment_running{{experiment="{name}"}} 1' in await story.page()

    await story.until(runs)
    verdict = await story.experiment()
    assert verdict.startswith("ship"), verdict
    await story.tell(f"the experiment: {verdict}")

    decider = {"upstream": "small", "model": "decider", "as": "decision"}
    large = {"upstream": "big", "model": "large"}

    def switch(config: dict[str, Any]) -> None:
        config["models"]["triage"] = {"targets": [decider], "fallback": [large]}
        del config["experiments"]

    story.change(switch)
    await story.until_answered_by("decider", "")
    decided = await story.ask(SERVED)
    assert {one.model for one in decided} == {"decider"}
    await story.tell("decisions answer all, since the experiment has shipped them")

    await story.until(lambda: asyncio.to_thread(story.judged, SERVED))
    await asyncio.to_thread(story.label, 100)
    found = await asyncio.to_thread(story.certify)
    while found.certified is None and story.labels < MOST_LABELS:
        await asyncio.to_thread(story.label, FEW)
        found = await asyncio.to_thread(story.certify)
    assert found.certified is not None
    paid = story.labels
    await story.tell(f"certified: {found.certified.share:.0%} may be automated at ≤ 5 % wrong")

    story.change(lambda config: config["models"]["triage"]["targets"][0].update(accept="certificate refund"))
    await story.until_answered_by("decider", "act")
    before = await story.usd()
    served = await story.ask(SERVED)
    acted = [one for one in served if one.model == "decider"]
    assert {one.action for one in acted} == {"act"}
    assert {one.action for one in served if one.model == "large"} == {""}
    assert 0.4 <= len(acted) / SERVED <= 0.8
    wrong = sum(not one.right for one in acted)
    assert wrong <= 0.05 * len(acted)
    share = (await story.usd() - before) / SERVED
    await story.tell(f"{len(acted)} of {SERVED} automated, {wrong} of them wrong; {share * 1e6:.0f} µUSD a call")

    await story.ask(SERVED, drifted=True)
    await story.tell("the decision model drifts")
    for _ in range(8):
        await asyncio.to_thread(story.label, 50)
        if not await asyncio.to_thread(story.holds):
            break
    await story.until_answered_by("large", "")
    asked = story.models.asked["decider"]
    assert {one.model for one in await story.ask(100)} == {"large"}
    assert story.models.asked["decider"] == asked, "the model that drifted is not asked"
    await story.tell(f"the certificate has lapsed by {story.labels - paid} labels; the large model answers all again")
    with capsys.disabled():
        print("", *story.lines, sep="\n")  # noqa: T201 - the story in figures
