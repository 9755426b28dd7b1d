"""Means of scorers of runs: weighted as those of calls are, of the running version, with a closed set of labels."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.config.derive import model_names
from gateway.consumer.consumer import Consumer, ConsumerTiming
from gateway.consumer.gauges import Gauges
from gateway.core.backoff import Backoff
from gateway.core.score import Score, ScoreResult
from gateway.features.hooks import Hooks
from gateway.features.runs.metrics import means_of_runs, run_figures
from gateway.features.runs.rows import ScoredRuns, save_scores, scored_runs
from gateway.observability.eval_metrics import EvalFigures, EvalMetrics
from gateway.scoring.registry import RegisteredRun
from gateway.statistics.sampled_mean import StratumSums, weighted_mean

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
