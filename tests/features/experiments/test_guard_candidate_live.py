"""Guards as candidates end to end: a gateway, a stream server, a consumer and the commands. One guard refuses answers
that are wrong anyway, the other right ones; each gets its verdict, and no request is sent for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.loading import load
from gateway.consumer.serve import opened
from gateway.fake import FakeUpstream
from tests.features.guards.ramp.test_sockets import serving

pytestmark = pytest.mark.timeout(300)
PATIENCE_S = 250.0
RIGHT, PAID, LEAK = "yes", "yes, by invoice 7", "no, but 4111-leak-9"
CALLS = 400


def config(upstream: FakeUpstream, stream: tuple[str, str], store: str) -> dict[str, Any]:
    def guard(name: str, regex: str) -> dict[str, Any]:
        return {"on": "answer", "scorer": "patterns", "patterns": [{"name": name, "regex": regex}]}

    experiment = {
        "model": "chat", "control": {"upstream": "local", "model": "m"},
        "candidates": {"careful": {"guard": "leaks"}, "eager": {"guard": "invoices"}},
        "primary": "begins", "margin": 0.05, "guardrails": {"refusal": 0.25}, "min_hours": 0, "start": "manual",
    }  # fmt: skip
    return {
        "open": True,
        "upstreams": {"local": {"kind": "openai", "base_url": upstream.base_url}},
        "models": {"chat": {"targets": [{"upstream": "local", "model": "m"}]}},
        "stream": {"url": stream[0], "name": stream[1]},
        "store": {"url": store},
        "scorers": {"begins": {"use": "regex", "pattern": "^yes"}, "refusal": {}},
        "guards": {"leaks": guard("leak", "leak-[0-9]{1,3}"), "invoices": guard("invoice", "invoice [0-9]{1,3}")},
        "experiments": {"guarded": experiment},
    }


def answer(asked: Any) -> str:
    """Two of ten answers name an invoice, and one leaks, although it must not."""
    i = int(asked.json["messages"][-1]["content"].split()[-1]) % 10
    return PAID if i < 2 else LEAK if i == 2 else RIGHT


@dataclass
class Deployment:
    """A gateway and its consumer."""

    path: Path
    client: httpx2.AsyncClient
    upstream: FakeUpstream
    sent: int = 0

    async def calls(self, n: int) -> None:
        for i in range(self.sent, self.sent + n, 8):
            await asyncio.gather(*(self._ask(f"question {each}") for each in range(i, min(i + 8, self.sent + n))))
        self.sent += n

    async def _ask(self, text: str) -> None:
        body = {"model": "chat", "messages": [{"role": "user", "content": text}]}
        reply = await self.client.post("/chat/completions", json=body)
        assert reply.json()["choices"][0]["finish_reason"] == "stop", "the guards only observe"

    async def command(self, *words: str) -> str:
        def run() -> str:
            result = CliRunner().invoke(app, [*words, "--config", str(self.path)], catch_exceptions=False)
            return result.output

        return await asyncio.to_thread(run)

    async def runs(self) -> None:
        metrics = str(self.client.base_url).replace("/v1/", "/metrics")
        async with asyncio.timeout(PATIENCE_S):
            while 'gateway_experiment_running{experiment="guarded"} 1.0' not in (await self.client.get(metrics)).text:
                await asyncio.sleep(0.05)


@pytest.fixture
async def deployment(room: Any, tmp_path: Path) -> AsyncIterator[Deployment]:
    """A gateway with two guards as candidates, and its consumer at work."""
    path = tmp_path / "gateway.yaml"
    async with FakeUpstream() as upstream, contextlib.AsyncExitStack() as stack:
        upstream.replies(answer)
        path.write_text(yaml.safe_dump(config(upstream, (room.stream_url, room.stream_name), room.store_url)))
        url = await stack.enter_async_context(serving(path))
        read = load(path)
        consumer = await stack.enter_async_context(opened(read, room.store_url, room.stream_url, CollectorRegistry()))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(consumer.run())
        stack.callback(consumer.stop)
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, timeout=PATIENCE_S))
        yield Deployment(path, client, upstream)


async def test_each_guard_gets_the_verdict_it_deserves(deployment: Deployment, room: Any) -> None:
    made = deployment
    price = (await made.command("ab", "power", "guarded")).splitlines()[0]
    assert "requests." in price
    assert "paid call" not in price
    assert "no more calls are copied" in await made.command("ab", "start", "guarded")
    await made.runs()
    await made.calls(CALLS)
    await room.until_settled(CALLS, PATIENCE_S)
    await until_decided(made)
    assert len(made.upstream.calls) == CALLS, "no request is sent for a guard"
    status = await made.command("ab", "status", "guarded")
    assert "  careful   guard/leaks[" in status
    assert f"careful:refused {CALLS // 10}, careful:tied {9 * CALLS // 10}" in status
    assert "With guard invoices: begins in 70\u202f% instead of 90\u202f%; worse by" in status
    report = " ".join((await made.command("report", "guarded", "--full")).split())
    assert "With guard leaks: begins in" in report
    assert "Enforce it: gateway guard promote leaks." in report
    assert "a guard's arm is a copy of the served answer, or the guard's refusal; no request is sent for it" in report
    assert "with marks in place of what matched" in report
    page = made.path.parent / "report.html"
    await made.command("report", "guarded", "--html", str(page))
    assert "With guard leaks" in page.read_text()
    assert "Price so far" not in page.read_text(), "nothing is paid"
    assert "The candidate is asked after the served answer has ended" not in report


async def until_decided(made: Deployment) -> None:
    """Waits for both verdicts: one ships, the other is rejected."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = json.loads(await made.command("ab", "status", "guarded", "--json"))
            verdicts = {each["candidate"]: each["verdict"] for each in found["candidates"]}
            if verdicts == {"careful": "ship", "eager": "reject"}:
                return
            assert set(verdicts.values()) <= {"ship", "reject", "hold"}, verdicts
            await asyncio.sleep(0.5)
