"""A raise, a hang and a slow query in each feature's work stop that work, with its reason, and keep nobody waiting."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.learned_routes import a_route
from fixtures.rooms import HURRIED, QUICK
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.config import Config
from gateway.config.loading import parse
from gateway.config.routes import ConfiguredRoute
from gateway.config.upstreams import TargetRef
from gateway.consumer.consumer import Consumer
from gateway.consumer.serve import start_work
from gateway.core.exchange import Exchange
from gateway.core.plan import Plan
from gateway.core.randomization import draw
from gateway.features import FEATURES
from gateway.features.experiments.advance import SHARE
from gateway.features.experiments.work import ExperimentEngine, hooks_around
from gateway.features.isolation import IsolatedWork, WorkLimits
from gateway.features.manifest import ConsumerTask, Manifest, load
from gateway.features.status.notice_source import WorkNotices
from gateway.features.task import PeriodicWork, TaskContext
from gateway.runtime.tasks import Tasks
from gateway.scoring.http_client import HttpConnections
from gateway.scoring.registry import BuiltScorers
from gateway.scoring.threads import ScoringThreads
from gateway.store import engine
from gateway.store.store import QueryBudget, Store
from gateway.stream import Corridor

TASKS = [task for feature in FEATURES for task in feature.tasks]
SERVERS = ["ingest"]
"""Tasks that answer requests, each of which is alone."""
PERIODIC = [task for task in TASKS if task.name not in SERVERS]
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
KINDS = {"raise": "RuntimeError", "hang": "no progress within 0.2 s", "slow": "a query took longer than 0.1 s",
         "mistake": "QueryMistake"}  # fmt: skip
FAULTY = WorkLimits(tries=2, failing_s=0.0, deadline_s=0.2, retry_s=0.0, queries=QueryBudget(0.1, 0.1))
SLOW = replace(FAULTY, deadline_s=60.0)
"""Limits under which a query is slow long before its step is."""


def everything() -> Config:
    """A config that needs every task of the features."""
    text = yaml.safe_dump({
        "open": True,
        "upstreams": {name: {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"} for name in ("u0", "u1")},
        "models": {"chat": {"targets": [{"upstream": "u0", "model": "model-u0"}]}},
        "budgets": {"estimate": "request"},
        "guards": {"cards": {"scorer": "personal_data", "on": "request"}},
        "webhooks": {"hook": {"url": "http://127.0.0.1:1/", "secret": "whsec_" + "MDEy" * 8}},
        "notify": {"targets": {"chat": {"kind": "slack", "url": "http://127.0.0.1:1/"}}},
        "otel": {"endpoint": "http://127.0.0.1:1"},
        "ingest": {"bind": "127.0.0.1:0", "sha256": "0" * 64},
        "watch": {"probes": "packaged"},
    })  # fmt: skip
    targets = TargetRef(upstream="u0", model="model-u0"), TargetRef(upstream="u1", model="small")
    return parse(text).with_routes({"learned": ConfiguredRoute(a_route(), *targets)})


class PlantedStore(Store):
    """A store in which the queries of one task have a fault, and those of all others are noted."""

    task = fault = ""
    seen: set[str]

    def planted(self, task: str, fault: str) -> PlantedStore:
        self.task, self.fault, self.seen = task, fault, set()
        return self

    def bounded(self, budget: QueryBudget, done: Any = None) -> Store:
        name = "" if done is None else done.args[0].name
        bounded = super().bounded(budget, partial(self._note, name, done))
        assert isinstance(bounded, PlantedStore)
        bounded.fault = self.fault if name == self.task else ""
        return bounded

    def _note(self, name: str, done: Callable[[], object] | None) -> None:
        self.seen.add(name)
        if done is not None:
            done()

    async def look(self, work: Any) -> Any:
        return await super().look(await self._faulty(work))

    async def run(self, work: Any) -> Any:
        return await super().run(await self._faulty(work))

    async def _faulty(self, work: Any) -> Any:
        if self.fault == "raise":
            raise RuntimeError("planted")
        if self.fault == "hang":
            await asyncio.Event().wait()
        statement = {"slow": ENDLESS, "mistake": "SELECT no_such_column FROM exchanges"}.get(self.fault)
        return work if statement is None else lambda c: c.exec_driver_sql(statement).scalar()


@asynccontextmanager
async def context(room: Any, store: Store, limits: WorkLimits) -> AsyncIterator[TaskContext]:
    threads = ScoringThreads()
    async with HttpConnections() as connections, Tasks() as tasks:
        sources = [load(entry) for feature in FEATURES for entry in feature.notices]
        built, isolated = BuiltScorers({}, {}), IsolatedWork(tasks, limits)
        yield TaskContext(
            everything(), store, room.corridor, connections, built, threads, "c1", isolated=isolated,
            notice_sources=sources,
        )  # fmt: skip
    threads.close()


async def test_a_new_feature_is_in_the_walk(room: Any) -> None:
    """The config needs each task; those that are no servers take steps, which the loop of all tasks isolates."""
    async with Store(room.store_url) as store, context(room, store, WorkLimits()) as of:
        made = {task.name: load(task.entry)(of) for task in TASKS}
    for name in SERVERS:
        made.pop(name).close()
    assert {name: type(work) for name, work in made.items()} == {task.name: PeriodicWork for task in PERIODIC}


@pytest.mark.parametrize("fault", KINDS)
@pytest.mark.parametrize("task", PERIODIC, ids=lambda task: task.name)
async def test_a_fault_in_a_task_stops_it_and_no_other(room: Any, task: ConsumerTask, fault: str) -> None:
    """The others have limits of their own, which a busy machine does not reach."""
    others = [each for each in PERIODIC if each is not task]
    async with (
        PlantedStore(room.store_url) as store,
        context(room, store.planted(task.name, fault), SLOW if fault == "slow" else FAULTY) as of,
        context(room, store, WorkLimits()) as fine,
        Tasks() as tasks,
    ):
        start_work(tasks, [Manifest("faulty", tasks=(task,))], of)
        async with asyncio.timeout(60):
            while task.name not in of.isolated.stopped():
                await asyncio.sleep(0.01)
            store.seen.clear()
            start_work(tasks, [Manifest("fine", tasks=tuple(others))], fine)
            while not {each.name for each in others} <= store.seen:
                await asyncio.sleep(0.01)
        assert {name: stopped.kind for name, stopped in of.isolated.stopped().items()} == {task.name: KINDS[fault]}
        assert fine.isolated.stopped() == {}


TRIGGERS = {
    "raise": "SELECT RAISE(ABORT, 'planted')",
    "slow": f"SELECT ({ENDLESS})",
}
"""Statements that the store runs when the first sequence of the experiment `bad` is stored."""


_PLANS = WorkLimits(tries=2, failing_s=0.0, deadline_s=60.0, patience_s=0.1, queries=QueryBudget(60.0, 60.0))
OF_PLANS = {
    "raise": _PLANS,
    "hang": replace(_PLANS, deadline_s=5.0),
    "slow": replace(_PLANS, queries=QueryBudget(60.0, 2.0)),
}
"""Limits that the other experiment does not reach on a busy machine."""


class PlantedPlan:
    """Two experiments in a consumer, whose work on the first one, `bad`, has a fault."""

    def __init__(self, room: Any, plan: Plan, fault: str) -> None:
        self.room, self.fault = room, fault
        self.bad, self.good = replace(plan, name="bad"), plan
        self.mended = False

    async def rescore(self, exchange: Any, names: Any) -> list[Any]:
        """Hangs in the work on `bad`."""
        if exchange.experiment == "bad" and self.fault == "hang" and not self.mended:
            await asyncio.Event().wait()
        return []

    def plant(self) -> None:
        if self.fault in TRIGGERS:
            when = f"WHEN NEW.plan = '{self.bad.hash}' BEGIN {TRIGGERS[self.fault]}; END"
            self._sql(f"CREATE TRIGGER planted BEFORE INSERT ON sequences {when}")

    def mend(self) -> None:
        self.mended = True
        self._sql("DROP TRIGGER IF EXISTS planted")

    def _sql(self, statement: str) -> None:
        opened = engine.connect_writer(self.room.store_url)
        with opened.begin() as connection:
            connection.exec_driver_sql(statement)
        opened.dispose()

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator[IsolatedWork]:
        limits = OF_PLANS[self.fault]
        threads = ScoringThreads()
        async with self.room.opened("c1", QUICK) as (_, context), Tasks() as tasks:
            isolated = IsolatedWork(tasks, limits)
            work = ExperimentEngine(
                context.store, context.corridor, {}, threads, HURRIED, rescore=self.rescore, isolated=isolated
            )
            consumer = Consumer(replace(context, hooks=hooks_around(work, "c1"), isolated=isolated), "c1", QUICK)
            running = tasks.start(consumer.run(), "consumer")
            yield isolated
            consumer.stop()
            await running
        threads.close()

    def settled(self, plan: Plan) -> int:
        rows = self.room.sql("SELECT experiment, count(*) FROM pairs WHERE place IS NOT NULL GROUP BY experiment")
        return int(dict(rows).get(plan.name, 0))

    async def states(self) -> Mapping[str, str]:
        return {name: state.state for name, state in (await self.room.corridor.state.plans()).items()}


@pytest.fixture
def status(room: Any, tmp_path: Path) -> Callable[[], Any]:
    """Runs `gateway status`; returns its exit code, and its output on one line."""
    config = tmp_path / "gateway.yaml"
    stream = {"url": room.stream_url, "name": room.stream_name}
    config.write_text(yaml.safe_dump({"stream": stream, "store": {"url": room.store_url}}))

    async def run() -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["status", "--config", str(config)])
        return done.exit_code, " ".join(done.output.split())

    return run


@pytest.fixture
def planted(room: Any, plan: Plan, request: pytest.FixtureRequest) -> PlantedPlan:
    """Two experiments, one with a fault."""
    return PlantedPlan(room, plan, request.param)


def pairs_scored_again(n: int, plan: Plan, paired: Callable[..., list[Exchange]]) -> Iterator[list[Exchange]]:
    """Pairs whose served answer is drawn for another scoring, so that any first few of them meet a fault in it."""
    made = (paired(plan, "0.5", {"candidate": "0.5"}) for _ in itertools.count())
    return itertools.islice((pair for pair in made if draw("rescore", pair[0].id) < SHARE), n)


@pytest.mark.parametrize("planted", ["raise", "hang", "slow"], indirect=True)
async def test_a_plan_whose_work_fails_stops_and_others_are_settled(
    planted: PlantedPlan, paired: Any, status: Callable[[], Any]
) -> None:
    """No more shadows are paid for, `gateway status` and a notice name it, and another start begins it again."""
    room, bad, good = planted.room, planted.bad, planted.good
    for plan in (bad, good):
        await room.begin(plan)
    async with planted.consuming() as isolated:
        await room.send(*(e for _ in range(3) for e in paired(good, "0.5", {"candidate": "0.5"})))
        await room.until(lambda: planted.settled(good) == 3)
        planted.plant()
        for plan in (bad, good):
            await room.send(*(record for pair in pairs_scored_again(40, plan, paired) for record in pair))
        async with asyncio.timeout(60):
            while await planted.states() != {"bad": "stopped", "swap": "running"}:
                await asyncio.sleep(0.02)
        await room.until(lambda: planted.settled(good) == 43)
        assert planted.settled(bad) == 0
        assert set(isolated.stopped()) == {"experiment bad"}
        assert "`gateway ab start bad`" in isolated.stopped()["experiment bad"].resume
        async with asyncio.timeout(60):
            while "experiment bad is stopped at c1" not in (found := await status())[1]:
                await asyncio.sleep(0.05)
        assert found[0] == 1
        [notice] = [each for each in await _notices(room) if each.subject == "feature"]
        assert (notice.title, notice.severity) == ("experiment bad is stopped", "warning")
        planted.mend()
        await room.begin(bad)
        await room.until(lambda: planted.settled(bad) == 40)
        assert isolated.stopped() == {}
        assert await planted.states() == {"bad": "running", "swap": "running"}


async def _notices(room: Any) -> list[Any]:
    corridor, absent = Corridor(room.stream_url, room.stream_name), Any
    of = TaskContext(everything(), absent, corridor, absent, BuiltScorers({}, {}), absent, "c2")
    found = list(await WorkNotices(of).look(time.time()))
    await corridor.aclose()
    return found


@pytest.mark.parametrize("planted", ["raise"], indirect=True)
async def test_a_stopped_plan_stays_stopped_after_a_restart(planted: PlantedPlan, paired: Any) -> None:
    room, bad = planted.room, planted.bad
    planted.plant()
    await room.begin(bad)
    for _ in range(2):
        async with planted.consuming() as isolated:
            await room.send(*paired(bad, "0.5", {"candidate": "0.5"}))
            await room.until(lambda isolated=isolated: "experiment bad" in isolated.stopped())
            async with asyncio.timeout(60):
                while await planted.states() != {"bad": "stopped"}:
                    await asyncio.sleep(0.02)
