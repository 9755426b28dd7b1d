"""Means of scorers of runs: weighted as those of calls are, of the running version, with a closed set of labels."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import update

from gateway.config.derive import model_names
from gateway.consumer.consumer import Consumer, ConsumerTiming
from gateway.consumer.gauges import Gauges
from gateway.core.backoff import Backoff
from gateway.core.score import Score, ScoreResult
from gateway.features.hooks import Hooks
from gateway.features.runs.metrics import cost_figures, costs_of_runs, means_of_runs, run_figures
from gateway.features.runs.rows import RunCosts, ScoredRuns, run_costs, save_scores, scored_runs
from gateway.observability.eval_metrics import EvalFigures, EvalMetrics
from gateway.scoring.registry import RegisteredRun
from gateway.statistics.sampled_mean import StratumSums, weighted_mean
from gateway.store.tables import exchanges

QUICK = ConsumerTiming(block_ms=40, tick_s=0.05, heartbeat_s=0.05, retry=Backoff(0.01, 0.02))
MODELS = frozenset({"local/small"})


class FinishedRun:
    name, version, kind, direction, bounds, heavy = "finished", "1", "code", "maximise", (0.0, 1.0), False


SCORERS: Any = {"finished": RegisteredRun(FinishedRun(), 1.0, 10.0, "c1")}  # type: ignore[arg-type]


def cell(pi: float, scored: int, total: float, **fields: Any) -> ScoredRuns:
    plain: dict[str, Any] = {
        "scorer": "finished", "version": "1", "config_hash": "c1", "alias": "chat", "model": "local/small", "arm": "",
        "stratum": "default", "pi": pi, "scored": scored, "not_applicable": 0, "nonresponse": 0, "total": total,
        "squares": total, "inverse_pi": scored / pi,
    }  # fmt: skip
    return ScoredRuns(**{**plain, **fields})


def test_a_run_represents_the_inverse_of_its_probability() -> None:
    [found] = run_figures([cell(1.0, 100, 100.0), cell(0.1, 30, 0.0)], SCORERS, MODELS)
    assert found.mean == pytest.approx(100 / (100 + 300))
    same = [StratumSums("a", 100, 100.0, 100.0, inverse_pi=100.0), StratumSums("b", 30, 0.0, 0.0, inverse_pi=300.0)]
    expected = weighted_mean(same, (0.0, 1.0))
    assert (found.low, found.high, found.effective_n) == (expected.low, expected.high, expected.effective_n)
    assert 0.0 < found.low < found.mean < found.high < 1.0


def test_runs_that_do_not_apply_have_no_mean() -> None:
    [found] = run_figures([cell(0.5, 0, 0.0, not_applicable=4, inverse_pi=8.0)], SCORERS, MODELS)
    assert (found.mean, found.low, found.high, found.effective_n) == (None, None, None, 0.0)


def test_only_the_running_version_counts() -> None:
    old = [cell(1.0, 9, 0.0, version="0"), cell(1.0, 9, 0.0, config_hash="c0"), cell(1.0, 9, 0.0, scorer="gone")]
    [found] = run_figures([*old, cell(1.0, 2, 2.0)], SCORERS, MODELS)
    assert (found.mean, found.effective_n) == (1.0, 2.0)


def test_labels_are_a_closed_set() -> None:
    odd = [cell(1.0, 1, 1.0, model=f"x/{n}", arm=f"a{n}") for n in range(20)]
    assert [(f.model, f.arm) for f in run_figures(odd, SCORERS, MODELS)] == [("other", "other")]


def test_a_metric_without_a_mean_is_not_exported() -> None:
    registry = CollectorRegistry()
    metrics = EvalMetrics(registry)
    cells = [cell(1.0, 4, 3.0), cell(1.0, 0, 0.0, arm="candidate", not_applicable=1, inverse_pi=1.0)]
    metrics.figures = EvalFigures(runs=run_figures(cells, SCORERS, MODELS))
    lines = [line for line in generate_latest(registry).decode().splitlines() if line.startswith("gateway_eval_run")]
    labels = '{arm="",model="local/small",scorer="finished"}'
    assert f"gateway_eval_run_score_mean{labels} 0.75" in lines
    assert f"gateway_eval_run_score_effective_samples{labels} 4.0" in lines
    assert not any("mean" in line and "candidate" in line for line in lines)


@pytest.mark.dialect
def test_sums_are_of_the_scores_of_runs_that_ended_lately(store: Any, exchange: Any) -> None:
    for n, (received, value) in enumerate([(100.0, 1.0), (200.0, 0.0), (300.0, None)]):
        call = exchange(run=f"r{n}", received=received, pi=0.5)
        store.write(call)
        place = {
            "id": call.id, "experiment": None, "plan": None, "arm": None, "stratum": "default", "pi": 0.5,
            "answered": received,
        }  # fmt: skip
        status = "not_applicable" if value is None else "scored"
        score = None if value is None else Score(value)
        result = ScoreResult("finished", "1", "c1", status, score, "", 0.0, 1.0)  # type: ignore[arg-type]
        store.run(lambda c, place=place, result=result, n=n: save_scores(c, f"run_{n}", place, SCORERS, [result], 1.0))
    found = store.run(lambda c: scored_runs(c, ["finished"], 150.0))
    assert [(f.model, f.arm, f.pi, f.scored, f.not_applicable, f.total, f.inverse_pi) for f in found] == [
        ("local/small", "", 0.5, 1, 1, 0.0, 4.0)
    ]


async def test_a_consumer_shows_the_means_of_its_scorers_of_runs(room: Any, exchange: Any) -> None:
    call = exchange(run="r", received=time.time())
    await room.send(call)
    async with room.opened() as (_, context):
        gauges = Gauges(room.config, room.scorers, SCORERS)
        hooks = Hooks(figures=(means_of_runs(SCORERS, model_names(room.config), every_s=0.0),))
        consumer = Consumer(replace(context, gauges=gauges, hooks=hooks), "c1", QUICK)
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(60):
            running = tasks.create_task(consumer.run())
            await room.until_read()
            score = ScoreResult("finished", "1", "c1", "scored", Score(1.0), "", 0.0, 1.0)
            place = {
                "id": call.id, "experiment": None, "plan": None, "arm": None, "stratum": "default", "pi": 1.0,
                "answered": time.time(),
            }  # fmt: skip
            await context.store.run(lambda c: save_scores(c, "run_1", place, SCORERS, [score], 1.0))
            while not context.metrics.figures.runs:
                await asyncio.sleep(0.01)
            consumer.stop()
            await running
    [shown] = context.metrics.figures.runs
    assert (shown.scorer, shown.model, shown.arm, shown.mean) == ("finished", "local/small", "", 1.0)


BOUNDS = (1.0, 5.0)


def test_costs_of_runs_are_a_histogram_by_alias() -> None:
    registry = CollectorRegistry()
    metrics = EvalMetrics(registry)
    found = [RunCosts("chat", 0, 3.0, 0.01), RunCosts("chat", 12, 1.0, 70.0), RunCosts("gone", 1, 2.0, 0.03)]
    metrics.figures = EvalFigures(run_costs=cost_figures(found, frozenset({"chat"})))
    lines = generate_latest(registry).decode().splitlines()
    name = "gateway_eval_run_cost_usd"
    assert f'{name}_bucket{{alias="chat",le="0.01"}} 3.0' in lines
    assert f'{name}_bucket{{alias="chat",le="50"}} 3.0' in lines
    assert f'{name}_bucket{{alias="chat",le="+Inf"}} 4.0' in lines
    assert f'{name}_sum{{alias="chat"}} 70.01' in lines
    assert f'{name}_count{{alias="other"}} 2.0' in lines, "an alias that the config does not name"


@pytest.mark.dialect
def test_a_run_costs_what_its_calls_cost_together(store: Any, exchange: Any) -> None:
    calls = [
        *((exchange(run="dear", received=100.0 + n, pi=1.0, alias=alias), usd)
          for n, (alias, usd) in enumerate([("chat", 1.5), ("small", 0.5), ("chat", 2.0), ("small", 1.75)])),
        (exchange(run="cheap", received=100.0, pi=1.0, alias="small"), 0.25),
        (exchange(run="old", received=10.0, pi=1.0), 0.25),
        (exchange(run="going on", received=900.0, pi=1.0), 0.25),
        (exchange(run="of unknown cost", received=100.0, pi=1.0), None),
        (exchange(run="some calls", received=100.0, pi=0.25), 0.25),
        (exchange(run="drawn whole", received=100.0, pi=0.25, unit="u1", alias="drawn"), 0.5),
    ]  # fmt: skip
    for call, usd in calls:
        store.write(call)
        price(store, usd, call.id)
    found = store.run(lambda c: run_costs(c, 50.0, 500.0, BOUNDS))
    assert sorted(found, key=lambda cell: cell.alias) == [
        RunCosts("chat", 2, 1.0, 5.75),
        RunCosts("drawn", 0, 4.0, 2.0),
        RunCosts("small", 0, 1.0, 0.25),
    ]


def price(store: Any, usd: float | None, id: str) -> None:
    store.run(lambda c: c.execute(update(exchanges).where(exchanges.c.id == id).values(cost_usd=usd)))


async def test_a_consumer_shows_what_its_runs_cost(room: Any, exchange: Any) -> None:
    call = exchange(run="r", received=time.time() - 60, pi=1.0, alias="chat")
    await room.send(call)
    async with room.opened() as (_, context):
        hooks = Hooks(figures=(costs_of_runs(frozenset({"chat"}), quiet_s=1.0, every_s=0.0),))
        consumer = Consumer(replace(context, hooks=hooks), "c1", QUICK)
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(60):
            running = tasks.create_task(consumer.run())
            await room.until_read()
            priced = update(exchanges).where(exchanges.c.id == call.id).values(cost_usd=0.25)
            await context.store.run(lambda c: c.execute(priced))
            while not context.metrics.figures.run_costs:
                await asyncio.sleep(0.01)
            consumer.stop()
            await running
    (shown,) = context.metrics.figures.run_costs
    assert (shown.alias, sum(weight for _, weight in shown.buckets)) == ("chat", 1.0)
