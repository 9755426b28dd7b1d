"""Room 2 as it runs: a real stream, a real store, and scorers that say what the answer tells them to."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, Engine

from gateway.config.loading import parse
from gateway.config.models import Config
from gateway.config.predictor import PredictorConfig
from gateway.core.backoff import Backoff
from gateway.core.completion import completion_of
from gateway.core.exchange import Count, Exchange, Feedback, Tally, Target, new_id
from gateway.core.plan import REPEAT, Guardrail, Plan, PlanState
from gateway.core.score import Bounds, Direction, Score, ScoreResult, Skipped
from gateway.evals.consumer import Consumer, ConsumerContext, ConsumerTiming
from gateway.evals.entry_scoring import EntryScorer
from gateway.evals.experiments.engine import EngineTiming, ExperimentEngine
from gateway.evals.gauges import Gauges
from gateway.evals.learned.drift import DriftWatch
from gateway.evals.learned.embedding import EmbeddingColumns
from gateway.evals.learned.implicit import ImplicitFeedback
from gateway.evals.learned.predictor import Predictor
from gateway.evals.scoring.registry import RegisteredPair, RegisteredScorer
from gateway.evals.scoring.threads import ScoringThreads
from gateway.evals.scoring.types import Golden, Subject
from gateway.evals.store import engine
from gateway.evals.store import write as writing
from gateway.evals.store.retention import RetentionLimits
from gateway.evals.store.rows import ScoredExchange
from gateway.evals.store.snapshot import ScoreCell, StoreSnapshot, take_snapshot
from gateway.evals.store.store import Store
from gateway.evals.store.write import ScoredBatch
from gateway.observability.eval_metrics import EvalFigures, EvalMetrics
from gateway.stream import Corridor, Lag

QUICK = ConsumerTiming(block_ms=20, tick_s=0.0, claim_s=0.0, heartbeat_s=0.01, retry=Backoff(0.01, 0.02))
HURRIED = EngineTiming(every_s=0.01, settle_s=0.0, show_s=0.0, keep_s=1.0)
CONFIG = """
open: true
upstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}
models: {chat: {targets: [{upstream: local, model: small}]}}
"""


@dataclass(frozen=True)
class StatedScorer:
    """Scores an answer by the number it states; "n/a": not applicable; anything else is an error."""

    name: str = "stated"
    version: str = "1"
    kind: str = "code"
    direction: Direction = "maximise"
    bounds: Bounds = (0.0, 1.0)
    heavy: bool = False

    async def score(self, subject: Subject) -> Score | Skipped:
        text = subject.completion.text
        return Skipped("a number") if text == "n/a" else Score(float(text), "number", f"it says {text}")

    def golden(self) -> tuple[Golden, ...]:
        return ()


@pytest.fixture
def stated_scorer() -> Callable[..., RegisteredScorer]:
    """Builds a StatedScorer, with the given fields replaced."""

    def make(config_hash: str = "c1", share: float = 1.0, **fields: Any) -> RegisteredScorer:
        return RegisteredScorer(StatedScorer(**fields), share, 10.0, config_hash)  # type: ignore[arg-type]

    return make


Make = Callable[..., Exchange]


@pytest.fixture
def exchange() -> Make:
    """Makes exchanges of one gateway process, numbered in order. text: the answer's."""
    seqs: Counter[str] = Counter()

    def make(text: str = "1", **fields: Any) -> Exchange:
        incarnation = fields.get("incarnation", "g1")
        seqs[incarnation] += 1
        answer = {"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}]}
        answer["usage"] = {"prompt_tokens": 3, "completion_tokens": 5}  # type: ignore[assignment]
        plain: dict[str, Any] = {
            "id": new_id(), "received": time.time(), "caller": "web", "api": "chat", "alias": "chat",
            "target": Target("local", "small"), "stream": False, "response": orjson.dumps(answer),
            "request": b'{"messages":[{"role":"user","content":"a number?"}]}', "status": 200, "outcome": "ok",
            "total_s": 0.5, "u": 0.1, "pi": 1.0, "stratum": "default", "incarnation": incarnation,
            "seq": seqs[incarnation],
        }  # fmt: skip
        plain["unit"] = plain["id"]
        return Exchange(**{**plain, **fields})

    return make


def _tally(sent: Sequence[Exchange], seen: Mapping[str, int] | None = None, **fields: Any) -> Tally:
    """What the process says once it has sent these. seen: by stratum; None: as many as were sent."""
    enqueued: Counter[tuple[str, str, str, str]] = Counter(
        (e.stratum, e.alias, str(e.target), e.arm or "") for e in sent
    )
    counts = tuple(Count(*cell, n) for cell, n in enqueued.items())
    population = tuple(Count(c.stratum, c.alias, c.target, c.arm, (seen or {}).get(c.stratum, c.n)) for c in counts)
    more = {"incarnation": sent[0].incarnation, "at": time.time(), "last_seq": max(e.seq for e in sent), **fields}
    return Tally(**{"seen": population, "sampled": counts, "enqueued": counts, **more})


@pytest.fixture
def tally() -> Callable[..., Tally]:
    return _tally


@pytest.fixture
def paired(exchange: Make) -> Callable[..., list[Exchange]]:
    """Makes the records of one pair: the served answer, and that of each arm. Each says its text; None: its record is
    lost; "failed": the upstream answered with an error. more: fields of the served one."""

    def make(plan: Plan, control: str, arms: Mapping[str, str | None], **more: Any) -> list[Exchange]:
        same = {"experiment": plan.name, "plan": plan.hash, "target": plan.control, **more}
        served = exchange(control, arm="control", stratum="default+swap", asked=tuple(arms), **same)
        made = [served]
        for arm, text in arms.items():
            role = "control" if arm == REPEAT else "shadow"
            its = {"arm": arm, "role": role, "pair": served.id, "unit": served.unit, "target": plan.target(arm)}
            bad = {"status": 502, "outcome": "upstream_error"} if text == "failed" else {}
            its["stratum"] = f"{'repeat' if arm == REPEAT else 'shadow'}:{plan.name}"
            if text is not None:
                made.append(exchange("0" if bad else text, **{**same, **its, **bad}))
        return made

    return make


@pytest.fixture
def plan() -> Plan:
    """Of `chat`: every call is shadowed, and for half of these the control is asked again."""
    candidate = (("candidate", Target("local", "new")),)
    return Plan("swap", "chat", Target("local", "small"), candidate, shadow=1.0, repeat_control=0.5, primary="stated",
                margin=0.1, guardrails=(Guardrail("error_rate", 0.1),), deadline_s=1.0)  # fmt: skip


class Watched(Gauges):
    """Gauges that keep all they ever showed."""

    shown: list[EvalFigures]

    def show(self, standing: StoreSnapshot, lag: Lag, labelled: Sequence[Mapping[str, Any]] = ()) -> EvalFigures:
        self.shown.append(super().show(standing, lag, labelled))
        return self.shown[-1]


@dataclass
class Room:
    """One stream and one store, for consumers that come and go."""

    store_url: str
    stream_url: str
    stream_name: str
    scorers: dict[str, RegisteredScorer]
    config: Config
    corridor: Corridor
    shown: list[EvalFigures] = field(default_factory=list)
    pairs: dict[str, RegisteredPair] = field(default_factory=dict)
    predictor: PredictorConfig | None = None
    embedding: EmbeddingColumns | None = None
    implicit: ImplicitFeedback | None = None
    _reader: Engine | None = field(default=None, init=False)

    async def send(self, *records: Exchange | Tally | Feedback) -> None:
        await self.corridor.append([r.to_fields() for r in records])

    @contextlib.asynccontextmanager
    async def opened(
        self, name: str = "c1", timing: ConsumerTiming = QUICK, retention: RetentionLimits | None = None
    ) -> AsyncIterator[tuple[Consumer, ConsumerContext]]:
        """A consumer that does not run yet, and its context, for tests that break something on it first."""
        corridor = Corridor(self.stream_url, self.stream_name)
        threads = ScoringThreads()
        async with Store(self.store_url, retention=retention) as store:
            gauges = Watched(self.config, self.scorers)
            gauges.shown = self.shown
            predictor = None if self.predictor is None else Predictor(self.predictor, self.scorers, self.embedding)
            judge = EntryScorer(self.scorers, threads, predictor=predictor, implicit=self.implicit)
            experiments = ExperimentEngine(store, corridor, self.pairs, threads, HURRIED, rescore=judge.score_again)
            metrics = EvalMetrics(CollectorRegistry())
            drift = None if self.predictor is None else DriftWatch(self.predictor.key, self.predictor.floor(0.4))
            context = ConsumerContext(corridor, store, self.scorers, judge, gauges, metrics, experiments, drift=drift)
            yield Consumer(context, name, timing), context
        threads.close()
        await corridor.aclose()

    @contextlib.asynccontextmanager
    async def consuming(self, name: str = "c1", timing: ConsumerTiming = QUICK) -> AsyncIterator[ConsumerContext]:
        """A consumer at work; stopped in order at the end."""
        async with self.opened(name, timing) as (consumer, context), asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            yield context
            consumer.stop()

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.005)

    async def until_read(self) -> None:
        """Everything in the stream is stored and acknowledged."""
        async with asyncio.timeout(60):
            lag = await self.corridor.lag()
            while lag.waiting or lag.pending:
                await asyncio.sleep(0.005)
                lag = await self.corridor.lag()

    async def begin(self, plan: Plan) -> None:
        """As `gateway ab start` does."""
        before = (await self.corridor.state.plans()).get(plan.name)
        assert await self.corridor.state.set_plan(PlanState(plan, "running", time.time()), before)

    async def until_settled(self, n: int) -> None:
        """So many pairs have their place in the sequences."""
        async with asyncio.timeout(60):
            while self.sql("SELECT count(*) FROM pairs WHERE place IS NOT NULL")[0][0] < n:
                await asyncio.sleep(0.01)

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        with self._reading() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def snapshot(self) -> StoreSnapshot:
        with self._reading() as connection:
            return take_snapshot(connection)

    def cells(self) -> tuple[ScoreCell, ...]:
        return self.snapshot().cells

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        """By one engine for all polls: to make one costs 20 times what a query does. No connection stays open."""
        self._reader = self._reader or engine.reader(self.store_url)
        with self._reader.connect() as connection:
            yield connection
        self._reader.dispose()


@pytest.fixture
async def room(
    tmp_path: Path,
    stream_url: str,
    stream_name: str,
    stated_scorer: Callable[..., RegisteredScorer],
    place_store: Callable[[Path], str],
) -> AsyncIterator[Room]:
    corridor = Corridor(stream_url, stream_name)
    url = place_store(tmp_path / "data" / "gateway.db")
    yield Room(url, stream_url, stream_name, {"stated": stated_scorer()}, parse(CONFIG), corridor)
    await corridor.aclose()


@pytest.fixture
def keep(
    tmp_path: Path, stated_scorer: Callable[..., RegisteredScorer], place_store: Callable[[Path], str]
) -> Callable[..., str]:
    """keep(exchanges, …): a store that holds them, each scored by the number it says; the scorer does not apply to one
    that says "none". Returns its URL."""
    url = place_store(tmp_path / "kept" / "gateway.db")

    def write(exchanges: Sequence[Exchange], now: float = 1000.0, **fields: Any) -> str:
        registered = stated_scorer(**fields)
        name = registered.scorer.name
        judged = []
        for each in exchanges:
            completion = completion_of(each)
            word = completion.text.split()[0]
            score = None if word == "none" else Score(float(word), "label", "why")
            status = "not_applicable" if score is None else "scored"
            result = ScoreResult(
                name, registered.scorer.version, registered.config_hash, status, score, "why", 0.1, 1.0
            )
            judged.append(ScoredExchange(each, completion, [result]))
        opened = engine.writer(url)
        with opened.begin() as connection:
            writing.write(connection, ScoredBatch({name: registered}, judged, [], []), now)
        opened.dispose()
        return url

    return write
