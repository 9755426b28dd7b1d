"""Tests the way from calls to a verdict through both programs: a gateway over two engines, a stream, a store and a
consumer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.config.loading import parse
from gateway.consumer.consumer import Consumer, ConsumerContext, ConsumerTiming
from gateway.consumer.entry_scoring import EntryScorer
from gateway.consumer.gauges import Gauges
from gateway.fake import FakeUpstream, PromptScores
from gateway.features.experiments.report.build import report_of
from gateway.features.experiments.work import EngineTiming, ExperimentEngine, hooks_around
from gateway.observability.eval_metrics import EvalMetrics
from gateway.scoring.threads import ScoringThreads
from gateway.store.query import reading
from gateway.store.store import Store
from gateway.stream import Corridor

CALLS = 44
TEXT = "The sea is cold and deep while ships wait."


@contextlib.asynccontextmanager
async def consuming(url: str, config: str, stream_url: str, stream_name: str) -> AsyncIterator[None]:
    corridor, threads = Corridor(stream_url, stream_name), ScoringThreads()
    async with Store(url) as store, asyncio.TaskGroup() as tasks:
        timing = EngineTiming(every_s=0.05, settle_s=0.0, show_s=0.0, keep_s=5.0)
        context = ConsumerContext(
            corridor, store, {}, EntryScorer({}, threads), Gauges(parse(config), {}), EvalMetrics(CollectorRegistry()),
            hooks_around(ExperimentEngine(store, corridor, {}, threads, timing), "c1"),
        )  # fmt: skip
        consumer = Consumer(context, "c1", ConsumerTiming(block_ms=20, tick_s=0.0, claim_s=0.0, heartbeat_s=0.05))
        running = tasks.create_task(consumer.run())
        try:
            yield
        finally:
            consumer.stop()
            await running
    threads.close()
    await corridor.aclose()


@pytest.mark.parametrize(
    ("shift", "tokenize", "verdict"),
    [(0.0, None, "ship"), (-0.4, None, "reject"), (0.0, list, "hold")],
    ids=["the same", "another model", "another tokenizer"],
)
async def test_two_engines_come_to_a_verdict(
    start: Any,
    configured: Callable[..., dict[str, Any]],
    place_store: Callable[[Path], str],
    tmp_path: Path,
    stream_url: str,
    stream_name: str,
    shift: float,
    tokenize: Any,
    verdict: str,
) -> None:
    async with FakeUpstream(vllm=True, text=TEXT) as control, FakeUpstream(vllm=True) as candidate:
        base = PromptScores(lambda place, text: -0.05 * (1 + len(text) % 7))
        control.scores = base
        candidate.scores = PromptScores(
            lambda place, text: base.logprob(place, text) + shift, tokenize or base.tokenize
        )
        same = {
            "model": "chat", "control": {"upstream": "u0", "model": "model-u0"},
            "candidate": {"upstream": "u1", "model": "new"}, "mode": "likelihood", "shadow": 1.0, "min_hours": 0,
            "gate": {"latency": False}, "budget": {"concurrency": 256}, "after_verdict": "continue",
        }  # fmt: skip
        config = configured(control, candidate, chat={"fallback": []}, experiments={"same": same})
        gateway = await start(config)
        url = place_store(tmp_path / "data" / "gateway.db")
        async with consuming(url, gateway.config_path.read_text(), stream_url, stream_name):
            for i in range(CALLS):
                assert (await gateway.chat(f"number {i}", temperature=1.0)).status_code == 200
            await settled(url, CALLS)
        with reading(url) as connection:
            made = report_of(connection, "same")
    assert (made.verdict, made.pairs) == (verdict, CALLS), made.reasons
    assert made.likelihood is not None
    if verdict == "hold":
        assert "different tokens" in "; ".join(made.reasons)
    else:
        assert made.likelihood.divergence.value == pytest.approx(-shift)
        assert "estimates the divergence" in made.likelihood.estimates


@pytest.mark.parametrize(
    ("kind", "says"),
    [("adapter", "serves it as a LoRA adapter"), ("written", "other log-probabilities as a prompt"), ("", "")],
    ids=["an adapter", "an engine that contradicts itself", "a sound engine"],
)
async def test_no_verdict_rests_on_an_unreliable_engine(
    start: Any,
    configured: Callable[..., dict[str, Any]],
    place_store: Callable[[Path], str],
    tmp_path: Path,
    stream_url: str,
    stream_name: str,
    kind: str,
    says: str,
) -> None:
    """Both arms have the same figures: without the guards the verdict would be `ship`."""
    async with FakeUpstream(vllm=True, text=TEXT) as control, FakeUpstream(vllm=True) as candidate:
        scores = PromptScores(lambda place, text: -0.05 * (1 + len(text) % 7))
        control.scores = candidate.scores = scores
        if kind == "written":
            control.scores = PromptScores(scores.logprob, written=lambda place, text: scores.logprob(place, text) - 0.3)
        same = {
            "model": "chat", "control": {"upstream": "u0", "model": "model-u0"},
            "candidate": {"upstream": "u1", "model": "new"}, "mode": "likelihood", "shadow": 1.0, "min_hours": 0,
            "gate": {"latency": False}, "budget": {"concurrency": 256}, "after_verdict": "continue",
        }  # fmt: skip
        candidate.adapters = {"new": "fake-model"} if kind == "adapter" else {}
        config = configured(control, candidate, chat={"fallback": []}, experiments={"same": same})
        gateway = await start(config)
        url = place_store(tmp_path / "data" / "gateway.db")
        async with consuming(url, gateway.config_path.read_text(), stream_url, stream_name):
            for i in range(44):
                assert (await gateway.chat(f"number {i}", temperature=1.0)).status_code == 200
            await settled(url, 1 if kind == "adapter" else 44)
        with reading(url) as connection:
            made = report_of(connection, "same")
    assert (made.verdict == "ship") is not bool(says), made.reasons
    assert says in "; ".join(made.reasons)


async def settled(url: str, n: int) -> None:
    async with asyncio.timeout(60):
        while True:
            with reading(url) as connection:
                if connection.exec_driver_sql("SELECT count(*) FROM pairs WHERE state = 'joined'").scalar() >= n:
                    return
            await asyncio.sleep(0.05)
