"""Judges as their owners run them: through a real gateway, with a scripted model, and with a real one."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.program_command import gateway_command
from servers import free_port

from gateway.config.scorers import ScorerConfig as Section
from gateway.core.completion import Completion
from gateway.fake import FakeAnswer, FakeUpstream, Received
from gateway.scoring.asker import ExternalServices
from gateway.scoring.golden import PLAIN_EXCHANGE
from gateway.scoring.http_client import GatewayClient, HttpConnections
from gateway.scoring.registry import build_all
from gateway.scoring.run import run_scorer
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.types import Pair, Subject
from gateway.store.query import reading
from gateway.up import engines
from tests.scorers.judging.attacks import ATTACKS, Attack
from tests.scorers.judging.test_attacks import judges, swayed, table

CALLS = 12


@asynccontextmanager
async def program(directory: Path, ready: bytes, *words: str) -> AsyncIterator[Any]:
    """`gateway WORDS`, until it prints `ready`; ended with the test. Its output is a file."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "HF_HUB_OFFLINE": "1"}
    log = directory / f"{words[0]}.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *gateway_command(*words), cwd=directory, env=environ, stdout=file, stderr=file
        )
    try:
        async with asyncio.timeout(180):
            while ready not in log.read_bytes():
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.05)
        yield log
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), 60)
        finally:
            with suppress(ProcessLookupError):
                process.kill()


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(300):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.2)  # a page of metrics takes the consumer longer than what is waited for


def says(received: Received) -> FakeAnswer | str:
    """One model answers; the others judge, until their key is rejected."""
    if received.path == "/v1/decisions":
        answers = [{"type": "predicate", "name": q["name"], "probability": 0.25} for q in received.json["questions"]]
        return FakeAnswer(json.dumps({"answers": answers, "usage": {"input_tokens": 7, "output_tokens": 0}}).encode())
    if received.json["model"] != "judge-1":
        return "It is blue."
    if "please fail" in received.body.decode():
        return FakeAnswer(b'{"error": {"message": "no credit"}}', status=402)
    return json.dumps({"reason": "it is a colour", "score": 4})


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """A double that plays the judge's model."""
    async with FakeUpstream() as upstream:
        upstream.replies(says)
        yield upstream


@pytest.fixture
async def up(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Any]:
    """`gateway up` over the double: base_url, the metrics' URL, its log."""
    target = {"upstream": "up", "model": "small"}
    config = {
        "open": True,
        "upstreams": {"up": {"kind": "openai", "base_url": upstream.base_url, "api_key": "sk-upstream"}},
        "models": {
            "chat": {"targets": [target]},
            "referee": {"targets": [{**target, "model": "judge-1"}]},
            "decide": {"targets": [{**target, "model": "judge-2"}]},
        },
        "sampling": {"rate": 1.0},
        "scorers": {
            "helpful": {"use": "judge", "model": "referee", "criterion": "It is a colour.", "budget_usd": 5},
            "quality": {
                "use": "decision",
                "model": "decide",
                "questions": {"kind": {"predicate": "It is kind."}, "short": {"predicate": "It is short."}},
            },
            "length": {},
        },
        "prices": {"as_of": "2026-11-01", "models": {"judge-1": {"input": 1000, "output": 1000}}},
    }
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config))
    ports = ("--port", str(free_port()))
    async with program(tmp_path, b"Ctrl-C stops everything", "up", *ports) as log:
        text = log.read_text()
        base = re.search(r"base_url +(\S+)", text)
        metrics = re.search(r"metrics .*?(http\S+)\s*$", text, re.MULTILINE)
        assert base is not None
        assert metrics is not None
        yield {
            "base_url": base[1],
            "metrics": metrics[1],
            "log": log,
            "store": f"sqlite:///{tmp_path}/.gateway/gateway.db",
        }


def metric(up: Any, start: str) -> float:
    with urllib.request.urlopen(up["metrics"], timeout=5) as answer:  # noqa: S310 - of our own program
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


async def ask(up: Any, text: str) -> None:
    async with HttpConnections() as connections:
        body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": text}]}).encode()
        url = f"{up['base_url']}/chat/completions"
        reply = await connections.send("POST", url, body, deadline_s=10, headers={"content-type": "application/json"})
    assert reply.status == 200, reply.body


def scored(up: Any, scorer: str, status: str = "scored") -> float:
    with urllib.request.urlopen(up["metrics"], timeout=5) as answer:  # noqa: S310 - the same
        lines = answer.read().decode().splitlines()
    mine = [x for x in lines if x.startswith("gateway_eval_scores_total{") and f'scorer="{scorer}"' in x]
    return sum(float(line.rpartition(" ")[2]) for line in mine if f'status="{status}"' in line)


async def test_a_judge_is_called_through_the_gateway_unsampled(up: Any, upstream: FakeUpstream) -> None:
    for _ in range(CALLS):
        await ask(up, "What colour?")
    await until(lambda: scored(up, "helpful") == CALLS)
    judged = [r for r in upstream.calls if r.json["model"] == "judge-1"]
    assert len(judged) == CALLS
    with reading(up["store"]) as connection:
        rows = connection.exec_driver_sql("SELECT model, count(*) FROM exchanges GROUP BY model").all()
        values = connection.exec_driver_sql(
            "SELECT DISTINCT value, judge_model FROM scores WHERE scorer = 'helpful'"
        ).all()
    assert [tuple(r) for r in rows] == [("small", CALLS)], "no call of the judge's was recorded"
    assert [tuple(v) for v in values] == [(0.75, "up/judge-1")]
    assert metric(up, 'gateway_eval_cost_usd_total{scorer="helpful"}') > 0
    await until(lambda: scored(up, "quality.kind") == scored(up, "quality.short") == CALLS)
    decided = [r for r in upstream.calls if r.path == "/v1/decisions"]
    assert [r.json["model"] for r in decided] == ["judge-2"] * CALLS, "one call for both questions"
    assert metric(up, 'gateway_eval_scorer_blocked{scorer="helpful"}') == 0
    log_text = up["log"].read_text()
    assert "sk-upstream" not in log_text
    assert "sk-evals" not in log_text

    await ask(up, "please fail")
    await until(lambda: metric(up, 'gateway_eval_scorer_blocked{scorer="helpful"}') == 1)
    await ask(up, "What colour?")
    await until(lambda: scored(up, "length") == CALLS + 2)
    assert "scorer helpful is blocked: HTTP 402: no credit" in up["log"].read_text()


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[ExternalServices]:
    """The services of scorers, with SmolLM2 as the judge's model."""
    port = free_port()
    async with (
        program(tmp_path, b"", "engine", "--model", "smollm2", "--port", str(port)),
        HttpConnections() as connections,
    ):
        await until(lambda: healthy(port))
        yield ExternalServices(connections, GatewayClient(f"http://127.0.0.1:{port}/v1", None, connections))


def healthy(port: int) -> bool:
    with suppress(OSError):
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status == 200)
    return False


@pytest.mark.long
@pytest.mark.model
@pytest.mark.timeout(180)
@pytest.mark.skipif(bool(engines.missing_packages()), reason="; ".join(engines.missing_packages()))
async def test_a_real_model_judges_with_the_probabilities_of_its_scores(real: ExternalServices) -> None:
    """SmolLM2 is a poor judge. Tested is that its verdicts can be read, weighted and compared."""
    asked = {"messages": [{"role": "user", "content": "What is the capital of Japan?"}]}
    right, wrong = (
        Subject(PLAIN_EXCHANGE, asked, Completion(text, finish_reason="stop"))
        for text in ("It is Tokyo.", "Bananas are yellow.")
    )
    section = {"use": "judge", "model": "smollm2", "max_tokens": 96, "deadline_s": 60}
    built = build_all({"one": Section(**section), "two": Section(**section, kind="pairwise")}, real)
    one = await run_scorer(
        "one", built.single["one"], lambda: built.single["one"].scorer.score(right), ScoringThreads()
    )
    assert one.status == "scored", one.explanation
    assert one.score is not None
    assert sum((one.score.distribution or {}).values()) == pytest.approx(1.0)
    assert set(one.score.distribution or {}) <= set("12345")
    assert one.spent is not None
    assert (one.spent.tokens or 0) > 50
    pair = built.pairs["two"]
    two = await run_scorer("two", pair, lambda: pair.scorer.compare(Pair(right, wrong)), ScoringThreads())
    assert two.status == "scored", two.explanation
    assert two.score is not None
    assert two.score.value in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert set(two.score.detail) == {"flip", "first_slot"}


def first_of_each_kind() -> list[Attack]:
    """One attack of each kind, cut to 400 characters: a small model reads some thirty tokens a second on a CPU."""
    found = {attack.kind: attack._replace(text=attack.text[:400]) for attack in reversed(ATTACKS)}
    return list(found.values())


@pytest.mark.long
@pytest.mark.model
@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(engines.missing_packages()), reason="; ".join(engines.missing_packages()))
async def test_a_real_model_is_swayed_as_often_as_documented(
    real: ExternalServices, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Printed, not bounded: no fence makes a small model a good judge, and some attacks leave it without a verdict."""
    assert real.client is not None
    found = []
    for name, score in zip(
        ("without", "with"), judges(real.client, "smollm2", tmp_path, max_tokens=32, weighted=True), strict=True
    ):
        found.append(await swayed(score, "No.", first_of_each_kind(), at_once=2))
        with capsys.disabled():
            print(f"\n{name} the fence: {[(each.name, yes) for each, yes in found[-1].items()]}")  # noqa: T201
    before, after = found
    with capsys.disabled():
        print(table("SmolLM2 as judge", before, after))  # noqa: T201
    assert len(before) == len(after) == 6
