"""A text judge and a decision judge in `gateway up`, over sockets: people label, and `gateway judge compare` concludes.

Twenty seeds each of a decision judge that is as near to people as the text judge, and of one that agrees with them on
the mean but favours one model."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from fixtures.labellers import label_answers
from fixtures.program_command import gateway_command
from servers import free_port

from gateway.fake import FakeAnswer, FakeUpstream, Received
from gateway.scoring.http_client import HttpConnections
from tests.scorers.test_judging_live import program, scored, until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
CALLS, LABELS, SEEDS = 400, 250, 20


class Models:
    """Two models that answer "big good=1", and the models of both judges. favour: of the decision judge for `big`."""

    def __init__(self, seed: int, favour: float) -> None:
        self._draws, self._favour = random.Random(seed), favour

    def answers(self, received: Received) -> FakeAnswer | str:
        model = received.json["model"]
        if model in ("big", "small"):
            return f"{model} good={self._draws.randint(0, 1)}"
        (name, good), *_ = re.findall(r"(big|small) good=(\d)", received.body.decode())
        if model == "text-judge":
            return json.dumps({"reason": "it is", "score": 4 if good == "1" else 2})
        p = 0.25 + 0.5 * int(good) + self._draws.choice((-0.05, 0.05))
        p += self._favour if name == "big" else -self._favour
        answers = [{"type": "predicate", "name": "solved", "probability": p}]
        return FakeAnswer(json.dumps({"answers": answers, "usage": {"input_tokens": 70, "output_tokens": 0}}).encode())


async def ask(url: str) -> None:
    slots = asyncio.Semaphore(8)
    async with HttpConnections() as connections:

        async def one(alias: str) -> int:
            async with slots:
                body = json.dumps({"model": alias, "messages": [{"role": "user", "content": "Solve it."}]}).encode()
                kind = {"content-type": "application/json"}
                answer = await connections.send("POST", f"{url}/chat/completions", body, deadline_s=60, headers=kind)
                return answer.status

        statuses = await asyncio.gather(*(one(alias) for alias in ("big", "small") for _ in range(CALLS // 2)))
    assert set(statuses) == {200}


def label(store: str) -> None:
    label_answers(store, "text", LABELS, lambda shown: float(shown.answers[0][-1]))


async def concluded(directory: Path, seed: int, favour: float) -> str:
    """The conclusion of `gateway judge compare` at the end."""
    async with FakeUpstream() as upstream:
        upstream.replies(Models(seed, favour).answers)
        names = {"big": "big", "small": "small", "referee": "text-judge", "decide": "decision-judge"}
        config = {
            "open": True,
            "upstreams": {"up": {"kind": "openai", "base_url": upstream.base_url, "api_key": "sk-upstream"}},
            "models": {alias: {"targets": [{"upstream": "up", "model": name}]} for alias, name in names.items()},
            "sampling": {"rate": 1.0},
            "prices": {
                "as_of": "2026-12-01",
                "models": {
                    "up/text-judge": {"input": 2.0, "output": 8.0}, "up/decision-judge": {"input": 0.1, "output": 0.0},
                },
            },
            "scorers": {
                "text": {"use": "judge", "model": "referee", "criterion": "It is solved.", "budget_usd": 50},
                "quality": {
                    "use": "decision", "model": "decide", "questions": {"solved": {"predicate": "It is solved."}},
                },
            },
        }  # fmt: skip
        (directory / "gateway.yaml").write_text(yaml.safe_dump(config))
        async with program(directory, b"Ctrl-C stops everything", "up", "--port", str(free_port())) as log:
            text = log.read_text()
            base, metrics = re.search(r"base_url +(\S+)", text), re.search(r"metrics .*?(http\S+)\s*$", text, re.M)
            assert base is not None
            assert metrics is not None
            await ask(base[1])
            for scorer in ("text", "quality.solved"):
                await until(lambda name=scorer: scored({"metrics": metrics[1]}, name) == CALLS)
    await asyncio.to_thread(label, f"sqlite:///{directory}/.gateway/gateway.db")
    words = gateway_command("judge", "compare", "text", "quality.solved", "--json")
    program_ = await asyncio.create_subprocess_exec(*words, cwd=directory, stdout=asyncio.subprocess.PIPE)
    out, _ = await program_.communicate()
    result = json.loads(out)
    assert (result["answers"], result["labels"]) == (CALLS, LABELS)
    assert 0 < result["second"]["price"]["usd_per_1k"] < result["first"]["price"]["usd_per_1k"]
    conclusion: str = result["conclusion"]
    return conclusion


@pytest.mark.parametrize(("favour", "expected"), [(0.0, "replace"), (0.12, "keep")])
async def test_the_right_judge_replaces_the_other(
    favour: float, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        directory = tmp_path / str(seed)
        directory.mkdir()
        seen[await concluded(directory, seed, favour)] += 1
    with capsys.disabled():
        print(f"\n{SEEDS} seeds with a favour of {favour:g}: {dict(seen)}")  # noqa: T201
    assert seen[expected] >= SEEDS - 2
    assert seen["keep" if expected == "replace" else "replace"] == 0
