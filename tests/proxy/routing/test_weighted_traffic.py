"""Shows that figures of biased, lossy traffic are those of all of it, through a real gateway, stream and store.
Failures are recorded always and everything else at 1 %; failures come in bursts, in which the stream server hangs and
most of what is recorded is dropped.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
from fixtures.metric_samples import sample_sum
from prometheus_client import CollectorRegistry

from gateway.config.loading import parse
from gateway.consumer.serve import opened
from gateway.core.score import Bounds, Score
from gateway.fake.answers import FakeAnswer
from gateway.proxy.recording.recorder import Recorder
from gateway.scoring.types import Golden, Subject
from gateway.store.query import reading

CALM, BURST, ROUNDS = 700, 300, 4
FAILURES = {"calm": 0.01, "burst": 0.08}  # 3 % of all
CLIENTS = 32


@dataclass(frozen=True)
class Quality:
    """The number that an answer says; 0 for a failure."""

    name: str = "quality"
    version: str = "1"
    kind: str = "code"
    direction: str = "maximise"
    bounds: Bounds = (0.0, 1.0)
    heavy: bool = False

    async def score(self, subject: Subject) -> Score:
        return Score(float(subject.completion.text) if subject.exchange.outcome == "ok" else 0.0)

    def golden(self) -> tuple[Golden, ...]:
        return ()


@pytest.fixture
def quality(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which a config finds the scorer Quality."""
    module = ModuleType("scored_in_this_test")
    module.Quality = Quality  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return f"{module.__name__}:Quality"


@dataclass
class Truth:
    """The upstream's side: how good every answer was that it gave."""

    rng: random.Random
    phase: str = "calm"
    values: list[float] = field(default_factory=list)
    failed: int = 0

    def answer(self, _: Any) -> FakeAnswer | str:
        failed = self.rng.random() < FAILURES[self.phase]
        value = 0.0 if failed else self.rng.uniform(0.5, 1.0)
        self.values.append(value)
        self.failed += failed
        return FakeAnswer(b'{"error": {"message": "out of order"}}', status=500) if failed else f"{value}"

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)


async def ask(running: Any, times: int, conversations: Iterator[int]) -> None:
    """Asks over CLIENTS connections at once. Each call is a conversation of its own, whose name decides whether it is
    drawn: the sample is about the same in every run, and 3 standard errors are missed once in 300 times."""
    host, port = running.base_url.removeprefix("http://").removesuffix("/v1").split(":")
    body = b'{"model":"chat","messages":[{"role":"user","content":"how good?"}]}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer test-key\r\n"
    rest = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    left = iter(range(times))

    async def client(turns: Iterator[int]) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in turns:
            writer.write(head + b"x-gateway-conversation: c%d\r\n" % next(conversations) + rest)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = answer.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        writer.close()

    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(client(left))


async def standing_still(server: Any, running: Any, times: int, conversations: Iterator[int]) -> None:
    server.pause()
    try:
        await ask(running, times, conversations)
    finally:
        server.resume()
    recorder: Recorder = running.gateway.recorder
    async with asyncio.timeout(60):
        while recorder.waiting:
            await asyncio.sleep(0.01)


def shown(registry: CollectorRegistry, name: str) -> float:
    value = sample_sum(registry, name, scorer="quality", model="u0/model-u0", arm="")
    assert value is not None
    return value


def by_stratum(store: str) -> dict[str, tuple[int, float, float, int]]:
    """Moments of the scores (n, sum, sum of squares), and N."""
    query = "SELECT stratum, n_scored, total, squares, population FROM score_cells"
    with reading(store) as connection:
        return {row[0]: tuple(row[1:]) for row in connection.exec_driver_sql(query)}  # type: ignore[misc]


def standard_error(strata: dict[str, tuple[int, float, float, int]]) -> float:
    """Standard error of a stratified mean: sum of (N_h / N)^2 s_h^2 / n_h."""
    everything = sum(s[3] for s in strata.values())
    variance = 0.0
    for n, total, squares, population in strata.values():
        variance += (population / everything) ** 2 * (squares - total**2 / n) / (n - 1) / n
    return float(variance**0.5)


async def test_the_weighted_mean_is_that_of_all_traffic(
    start: Any, configured: Any, upstream: Any, stream_server: Any, quality: str, tmp_path: Any
) -> None:
    truth, conversations = Truth(random.Random(11)), itertools.count()
    upstream.replies(truth.answer)
    config = configured(upstream, chat={"retries": {"attempts": 1}})
    config["sampling"] = {
        "rate": 0.01,
        "unit": "conversation",
        "rules": [{"when": {"outcome": "error"}, "rate": 1.0, "name": "errors"}],
    }
    config["stream"] = {"url": stream_server.url, "name": "t", "buffer_mb": 0.012}
    config["scorers"] = {"quality": {"use": quality}}
    store, registry = f"sqlite:///{tmp_path / 'gateway.db'}", CollectorRegistry()
    running = await start(config)
    parsed = parse(running.config_path.read_text())
    async with opened(parsed, store, stream_server.url, registry) as consumer:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            for _ in range(ROUNDS):
                truth.phase = "calm"
                await ask(running, CALM, conversations)
                truth.phase = "burst"
                await standing_still(stream_server, running, BURST, conversations)
            ledger = running.gateway.recorder.ledger
            async with asyncio.timeout(60):
                while not (
                    sum(s[3] for s in by_stratum(store).values()) == len(truth.values)
                    and sum(s[0] for s in by_stratum(store).values()) == ledger.sampled.total() - ledger.dropped.total()
                ):
                    await asyncio.sleep(0.02)
            consumer.stop()
        names = ("score_mean", "score_mean_low", "score_mean_high", "score_effective_samples")
        mean, low, high, effective = (shown(registry, f"gateway_eval_{name}") for name in names)

    strata, seen = by_stratum(store), len(truth.values)
    scored, total = sum(s[0] for s in strata.values()), sum(s[1] for s in strata.values())
    error = standard_error(strata)
    dropped = await running.metric("gateway_eval_dropped_total", reason="buffer_full")
    assert (seen, strata["errors"][3]) == (CALM * ROUNDS + BURST * ROUNDS, truth.failed), "every call is counted"
    assert dropped > truth.failed / 4, "much of what was recorded was lost, and with it mostly failures"
    assert scored + dropped == await running.metric("gateway_eval_sampled_total"), "nothing else was"
    assert abs(mean - truth.mean) < 3 * error
    assert abs(total / scored - truth.mean) > 3 * error, "the plain mean of what is there is wrong"
    assert low < truth.mean < high
    assert effective < scored
    print(  # noqa: T201 — the figures are what one wants to see of it
        f"truth {truth.mean:.4f}, shown {mean:.4f} ± {error:.4f}, plain "
        f"{total / scored:.4f}; {seen} calls, {truth.failed} failed, {scored} scored, {dropped:.0f} dropped"
    )
