"""The interval of a time window in Grafana is that of weighted_mean over the scores closed within it."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from gateway.cli.dashboards import panels_of
from gateway.config.loading import parse
from gateway.consumer.gauges import Gauges
from gateway.core.exchange import Exchange
from gateway.observability.eval_metrics import EvalMetrics
from gateway.statistics.sampled_mean import StratumSums, WeightedEstimate, weighted_mean
from gateway.stream import Lag

DASHBOARD = Path(__file__).parent.parent.parent / "grafana" / "dashboards" / "evaluation.json"
CONFIG = """
open: true
upstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}
models: {chat: {targets: [{upstream: local, model: small}]}}
"""
WINDOW = "2m1ms"  # exactly what is between the first and the last of three scrapes


def window_queries() -> dict[str, str]:
    """PromQL by "mean", "low" and "high"."""
    panels = panels_of(json.loads(DASHBOARD.read_text("utf-8")))
    (panel,) = (p for p in panels if p["title"] == "Mean in the window")
    found = {}
    for target in panel["targets"]:
        name = target["legendFormat"].split()[0]
        expr = target["expr"].replace("$__rate_interval", WINDOW)
        found["mean" if name.startswith("{{") else name] = expr.replace('"$scorer"', '".*"').replace('"$model"', '".*"')
    return found


def scrape(store: Any) -> dict[str, float]:
    """The consumer's metrics of the scores, by series."""
    registry = CollectorRegistry()
    gauges = Gauges(parse(CONFIG), store.scorers)
    EvalMetrics(registry).figures = gauges.show(store.snapshot(), Lag(0, 0, 0, 0.0))
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, _, value in (x.rpartition(" ") for x in lines if "gateway_eval_score_" in x
                                                      and not x.startswith("#"))}  # fmt: skip


def near(expr: str, expected: float) -> dict[str, Any]:
    """A check that a query gives one series of this value."""
    samples = [{"labels": "{}", "value": 1}]
    return {"expr": f"count(abs(({expr}) - {expected!r}) < 1e-4)", "eval_time": "2m", "exp_samples": samples}


def promtool(tmp_path: Path, before: dict[str, float], after: dict[str, float], checks: list[dict[str, Any]]) -> None:
    """Asks Prometheus after three scrapes, a minute apart."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    series = [
        {"series": name, "values": f"{before.get(name, 0.0)!r} {value!r} {value!r}"} for name, value in after.items()
    ]
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": checks}]
    path = tmp_path / "window.test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [], "tests": tests}))
    done = subprocess.run([program, "test", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def stratum(name: str, scored: Iterable[tuple[str, float]], population: int) -> StratumSums:
    """scored: (unit, score)."""
    by_unit: dict[str, list[float]] = defaultdict(list)
    for unit, value in scored:
        by_unit[unit].append(value)
    values = [v for of in by_unit.values() for v in of]
    units = (sum(len(of) ** 2 for of in by_unit.values()), sum(len(of) * sum(of) for of in by_unit.values()),
             sum(sum(of) ** 2 for of in by_unit.values()))  # fmt: skip
    squares = sum(v * v for v in values)
    return StratumSums(name, len(values), sum(values), squares, population=population, units=units)


def talks(rng: random.Random, n: int, name: str) -> list[tuple[str, float]]:
    """Conversations of three answers that are much alike."""
    levels = [(f"{name}{i}", rng.choice([0.2, 0.5, 0.9])) for i in range(n)]
    return [(unit, level + 0.05 * turn) for unit, level in levels for turn in range(3)]


def expected_and_scrapes(
    store: Any, exchange: Callable[..., Exchange], tally: Callable[..., Any]
) -> tuple[WeightedEstimate, dict[str, float], dict[str, float]]:
    """An hour with other scores and weights comes before the window and must not count in it."""
    rng = random.Random(11)
    earlier = [exchange(f"{rng.random():.3f}", pi=0.5) for _ in range(60)]
    store.write(*earlier, tally(earlier, {"default": 120}))
    store.close()
    before = scrape(store)
    scored = talks(rng, 50, "t")
    failed = [(f"f{i}", 0.0 if i % 5 else 0.4) for i in range(40)]
    sent = [exchange(f"{v:.2f}", unit=unit, pi=0.1) for unit, v in scored]
    sent += [exchange(f"{v:.2f}", unit=unit, stratum="error") for unit, v in failed]
    store.write(*sent, tally([*earlier, *sent], {"default": 120 + 1500, "error": 40}))
    store.close()
    expected = weighted_mean([stratum("default", scored, 1500), stratum("error", failed, 40)], (0.0, 1.0))
    return expected, before, scrape(store)


def test_the_interval_of_a_window_is_that_of_its_scores(
    file_store: Any, exchange: Callable[..., Exchange], tally: Callable[..., Any], tmp_path: Path
) -> None:
    expected, before, after = expected_and_scrapes(file_store, exchange, tally)
    assert expected.mean is not None
    assert 0.1 < expected.low < expected.mean < expected.high < 0.9
    asked = window_queries()
    checks = [near(asked["mean"], expected.mean), near(asked["low"], expected.low), near(asked["high"], expected.high)]
    promtool(tmp_path, before, after, checks)


def test_a_window_with_few_scores_has_a_mean_and_no_interval(
    file_store: Any, exchange: Callable[..., Exchange], tally: Callable[..., Any], tmp_path: Path
) -> None:
    sent = [exchange(text) for text in ("1", "0.5") * 14]
    file_store.write(*sent, tally(sent))
    file_store.close()
    asked = window_queries()
    empty: dict[str, Any] = {"expr": f"({asked['low']}) or ({asked['high']})", "eval_time": "2m", "exp_samples": []}
    promtool(tmp_path, {}, scrape(file_store), [near(asked["mean"], 0.75), empty])


def test_a_window_says_how_many_scores_its_mean_is_of(
    file_store: Any, exchange: Callable[..., Exchange], tally: Callable[..., Any], tmp_path: Path
) -> None:
    """Fourteen calls are recorded at 1 and as many at 0.5, which count twice: (14 + 28)² / (14 + 56) = 25.2."""
    sent = [exchange("1", stratum="all") for _ in range(14)] + [exchange("0.5", pi=0.5) for _ in range(14)]
    file_store.write(*sent, tally(sent, {"all": 14, "default": 28}))
    file_store.close()
    promtool(tmp_path, {}, scrape(file_store), [near(window_queries()["n"], 25.2)])


def test_equal_scores_leave_an_interval_open(
    file_store: Any, exchange: Callable[..., Exchange], tally: Callable[..., Any], tmp_path: Path
) -> None:
    """A rule that all of 400 answers pass may fail for others: the lower end stays below 1."""
    sent = [exchange("1") for _ in range(400)]
    file_store.write(*sent, tally(sent))
    file_store.close()
    low = weighted_mean([stratum("all", [(e.id, 1.0) for e in sent], 400)], (0.0, 1.0)).low
    assert 0.9 < low < 0.999
    promtool(tmp_path, {}, scrape(file_store), [near(window_queries()["low"], low)])
