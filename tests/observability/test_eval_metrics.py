"""The text of a scrape: one truth for several workers, and what a consumer shows."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fixtures.metric_samples import sample_sum
from fixtures.program_command import forked_python
from prometheus_client import CollectorRegistry

from gateway.observability.eval_metrics import (
    ConditionFigures,
    DriftFigures,
    EvalFigures,
    EvalMetrics,
    ExperimentFigures,
    FeedbackFigures,
    GuardFigures,
    GuardKeyFigures,
    GuardTeamFigures,
)
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.observability.worker_metrics import exposition


@pytest.fixture
def metrics() -> ProxyMetrics:
    """The gateway's metrics in a registry of their own."""
    return ProxyMetrics(CollectorRegistry())


WORKER = """
import os, sys
from prometheus_client import CollectorRegistry
from gateway.observability.catalog import specs
from gateway.observability.proxy_metrics import ProxyMetrics
metrics = ProxyMetrics(CollectorRegistry())
metrics.counts.of(metrics.requests, *specs("gateway")["requests"].labels).n += int(sys.argv[1])
metrics.counts.flush()
metrics.inflight.set(int(sys.argv[1]))
metrics.config_ok.set(sys.argv[1] != "2")
metrics.breaker_open.labels(*specs("gateway")["breaker_open"].labels).set(sys.argv[1] == "2")
print("counted", flush=True)
sys.stdin.read()
"""
SCRAPE = """
import sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from gateway.observability.worker_metrics import exposition
from gateway.observability.worker_metrics import WorkerMetrics
sys.stdout.buffer.write(exposition(CollectorRegistry(), WorkerMetrics(Path(sys.argv[1]))))
"""


def test_workers_are_summed_and_a_dead_workers_counts_stay(tmp_path: Path) -> None:
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": environ, "text": True}
    workers = [subprocess.Popen(forked_python(WORKER, str(n)), **pipes) for n in (2, 3)]

    def scraped() -> dict[str, float]:
        command = forked_python(SCRAPE, str(tmp_path))
        text = subprocess.run(command, env=environ, capture_output=True, check=True, text=True).stdout
        rows = (line.rpartition(" ") for line in text.splitlines() if line.startswith("gateway_"))
        return {name.partition("{")[0]: float(value) for name, _, value in rows}

    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "counted\n"
        both = scraped()
        assert (both["gateway_requests_total"], both["gateway_inflight_requests"]) == (5, 5)
        assert (both["gateway_config_ok"], both["gateway_breaker_open"]) == (0, 1)
        workers[0].communicate("")
        one = scraped()
        assert (one["gateway_requests_total"], one["gateway_inflight_requests"]) == (5, 3)
        assert (one["gateway_config_ok"], one["gateway_breaker_open"]) == (1, 0)
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.communicate("")


def test_one_process_shows_its_own(metrics: ProxyMetrics) -> None:
    registry = CollectorRegistry()
    ProxyMetrics(registry).config_ok.set(1)
    assert b"gateway_config_ok 1.0" in exposition(registry, None)


def test_a_consumer_names_every_metric_before_it_has_a_value() -> None:
    """The reference, the dashboards and the alerts can then be held against the code."""
    families = list(EvalMetrics(CollectorRegistry()).collect())
    assert len({family.name for family in families}) == len(families)
    assert all(len(family.documentation) > 10 and family.name.startswith("gateway_") for family in families)


def test_a_consumer_shows_budgets_and_who_lives() -> None:
    registry = CollectorRegistry()
    EvalMetrics(registry).figures = EvalFigures(consumers=2, budget_used={"judge": 0.25})
    text = exposition(registry, None).decode()
    assert 'gateway_eval_budget_used_ratio{scorer="judge"} 0.25' in text
    assert "gateway_eval_consumers 2.0" in text


def test_a_predictor_shows_its_card_and_its_alarms() -> None:
    card = {"held_out": 400, "mae": 0.1, "auc": None, "variance_ratio": 0.6, "psi": {"length": 0.3, "hedges": 0.1}}
    fallen = DriftFigures("judge", "chat", "quality", 11.0, 9.2, "down")
    usual = DriftFigures("judge", "chat", "input", 0.1, 11.5, "0 up")
    registry = CollectorRegistry()
    EvalMetrics(registry).figures = EvalFigures(cards={"labels:judge": card}, drift=(fallen, usual))
    text = exposition(registry, None).decode()
    assert 'gateway_eval_predictor_rows{target="labels:judge"} 400.0' in text
    assert 'gateway_eval_predictor_variance_ratio{target="labels:judge"} 0.6' in text
    assert 'gateway_eval_predictor_psi{target="labels:judge"} 0.3' in text
    assert "gateway_eval_predictor_auc{" not in text
    assert 'gateway_eval_drift{alias="chat",kind="quality",target="judge"} 1.0' in text
    assert 'gateway_eval_drift{alias="chat",kind="input",target="judge"} 0.0' in text


def test_a_guard_shows_what_is_known_with_its_bounds() -> None:
    keys = (GuardKeyFigures("bot", 100, 40), GuardKeyFigures("other", 900, 2))
    teams = (GuardTeamFigures("search", 600, 41), GuardTeamFigures("none", 400, 1))
    known = GuardFigures("mails", (0.042, 0.03, 0.06), (0.7, 0.5, 0.8), None, 40, True, 12.0, keys, teams)
    fresh = GuardFigures("fresh", (0.0, 0.0, 0.1), None, None, 0, False, None)
    registry = CollectorRegistry()
    EvalMetrics(registry).figures = EvalFigures(guards=(known, fresh))
    text = exposition(registry, None).decode()
    for line in (
        'gateway_guard_hit_ratio{guard="mails"} 0.042', 'gateway_guard_hit_ratio_high{guard="fresh"} 0.1',
        'gateway_guard_precision{guard="mails"} 0.7', 'gateway_guard_precision_low{guard="mails"} 0.5',
        'gateway_guard_labels{guard="mails"} 40.0', 'gateway_guard_drift{guard="mails"} 1.0',
        'gateway_guard_drift{guard="fresh"} 0.0', 'gateway_guard_drift_log_evalue{guard="mails"} 12.0',
        'gateway_guard_key_hits{guard="mails",key="bot"} 40.0',
        'gateway_guard_key_calls{guard="mails",key="other"} 900.0',
        'gateway_guard_team_hits{guard="mails",team="search"} 41.0',
        'gateway_guard_team_calls{guard="mails",team="none"} 400.0',
    ):  # fmt: skip
        assert line in text, line
    assert "gateway_guard_recall{" not in text
    assert 'gateway_guard_precision{guard="fresh"}' not in text


def test_an_experiment_shows_how_far_its_verdict_is() -> None:
    registry = CollectorRegistry()
    shown = EvalMetrics(registry)
    gate = ConditionFigures("gate", "aa", -0.084, 0.059, 554, 2900)
    unknown = ConditionFigures("guardrail", "total_s", None, None, 3, None)
    figures = ExperimentFigures("swap", "new", "hold", 2250, (), (), (), None, (gate, unknown), 14_500, 0.5)
    shown.figures = EvalFigures(experiments=(figures,))
    of = {"experiment": "swap", "candidate": "new"}
    aa = {**of, "kind": "gate", "condition": "aa"}
    assert sample_sum(registry, "gateway_experiment_pairs_needed", **aa) == 2900
    assert sample_sum(registry, "gateway_experiment_condition_low", **aa) == -0.084
    assert sample_sum(registry, "gateway_experiment_condition_pairs", **aa) == 554
    assert sample_sum(registry, "gateway_experiment_requests_needed", **of) == 14_500
    assert sample_sum(registry, "gateway_experiment_seconds_needed", **of) == 43_200
    other = {**of, "kind": "guardrail", "condition": "total_s"}
    assert sample_sum(registry, "gateway_experiment_pairs_needed", **other) is None, "unknown"


def test_feedback_is_shown_by_arm_with_the_share_that_was_answered() -> None:
    registry = CollectorRegistry()
    shown = EvalMetrics(registry)
    given = (
        FeedbackFigures("feedback:thumb", "control", 0.7, 0.2, 50),
        FeedbackFigures("feedback:thumb", "candidate", None, 0.0, 40),
    )
    shown.figures = EvalFigures(experiments=(ExperimentFigures("swap", "new", "hold", 0, feedback=given),))
    of = {"experiment": "swap", "candidate": "new", "metric": "feedback:thumb"}
    control, candidate = {**of, "arm": "control"}, {**of, "arm": "candidate"}
    assert sample_sum(registry, "gateway_experiment_feedback_mean", **control) == 0.7
    assert sample_sum(registry, "gateway_experiment_feedback_mean", **candidate) is None
    assert sample_sum(registry, "gateway_experiment_feedback_answered_ratio", **control) == 0.2
    assert sample_sum(registry, "gateway_experiment_feedback_answers", **candidate) == 40


def test_figures_grow_old_whatever_the_wall_clock_says() -> None:
    registry, now = CollectorRegistry(), [5.0]
    shown = EvalMetrics(registry, lambda: now[0])
    assert registry.get_sample_value("gateway_eval_shown_age_seconds") is None
    shown.figures = EvalFigures(at=4_000_000_000.0)
    now[0] += 60
    assert registry.get_sample_value("gateway_eval_shown_age_seconds") == 60
