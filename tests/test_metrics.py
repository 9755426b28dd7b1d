"""Room 1's metrics: the names that dashboards and alerts keep, closed labels, and one truth for several workers."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.metrics import ProxyMetrics, exposition

PACKAGE = Path(__file__).parent.parent / "gateway"

# The contract: these names and labels are kept by later versions.
NAMES: dict[str, set[str]] = {
    "gateway_requests_total": {"alias", "upstream", "outcome"},
    "gateway_overhead_seconds": set(),
    "gateway_inflight_requests": set(),
    "gateway_attempts_total": {"upstream", "result"},
    "gateway_breaker_open": {"upstream", "model"},
    "gateway_config_ok": set(),
    "gateway_tokens_total": {"alias", "upstream", "type"},
    "gateway_cost_usd_total": {"alias", "upstream"},
    "gateway_unpriced_total": {"alias", "upstream"},
    "gateway_eval_seen_total": {"stratum"},
    "gateway_eval_sampled_total": {"stratum"},
    "gateway_eval_enqueued_total": {"stratum"},
    "gateway_eval_unsampled_total": {"reason"},
    "gateway_eval_dropped_total": {"stratum", "reason"},
}
GENAI = {"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model"}
GENAI_NAMES: dict[str, tuple[set[str], list[float]]] = {
    "gen_ai_client_token_usage": (
        {*GENAI, "gen_ai_token_type"},
        [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864],
    ),
    "gen_ai_server_request_duration_seconds": (
        {*GENAI, "error_type"},
        [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92],
    ),
    "gen_ai_server_time_to_first_token_seconds": (
        GENAI,
        [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 15, 20, 30, 45, 60],
    ),
    "gen_ai_server_time_per_output_token_seconds": (
        GENAI,
        [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5],
    ),
}


@pytest.fixture
def metrics() -> ProxyMetrics:
    return ProxyMetrics(CollectorRegistry())


def all_of(metrics: ProxyMetrics) -> Iterator[tuple[str, Any]]:
    for attribute, metric in vars(metrics).items():
        if isinstance(metric, Counter | Gauge | Histogram):
            yield attribute, metric


def exposed(metric: Any) -> str:
    return metric._name + ("_total" if isinstance(metric, Counter) else "")


def test_the_names_and_labels_that_later_versions_keep_are_there(metrics: ProxyMetrics) -> None:
    there = {exposed(m): set(m._labelnames) for _, m in all_of(metrics)}
    for name, labels in NAMES.items():
        assert there[name] == labels, name


def test_the_genai_names_and_buckets_are_those_of_the_conventions(metrics: ProxyMetrics) -> None:
    there = {exposed(m): m for _, m in all_of(metrics)}
    for name, (labels, buckets) in GENAI_NAMES.items():
        assert set(there[name]._labelnames) == labels
        bounds = there[name]._kwargs["buckets"]
        assert [float(b) for b in bounds] == buckets


def test_everything_of_our_own_is_named_so_and_explained(metrics: ProxyMetrics) -> None:
    for _, metric in all_of(metrics):
        assert metric._name.startswith(("gateway_", "gen_ai_"))
        assert len(metric._documentation) > 10


def test_every_metric_is_raised_somewhere(metrics: ProxyMetrics) -> None:
    """One that nobody raises reads as zero for ever, which is a lie."""
    used = set()
    for path in (PACKAGE / "proxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1] in (
                "m",
                "metrics",
                "_metrics",
            ):
                used.add(node.attr)
    assert {attribute for attribute, _ in all_of(metrics)} - used == set()


def test_a_gauge_says_how_workers_are_put_together(metrics: ProxyMetrics) -> None:
    """Without it each scrape would show one worker's, by its process id."""
    for attribute, metric in all_of(metrics):
        if isinstance(metric, Gauge):
            assert metric._multiprocess_mode in ("livesum", "livemax", "livemin"), attribute


WORKER = """
import os, sys
from prometheus_client import CollectorRegistry
from gateway.metrics import ProxyMetrics
metrics = ProxyMetrics(CollectorRegistry())
metrics.counts.of(metrics.requests, "chat", "u", "ok").n += int(sys.argv[1])
metrics.counts.flush()
metrics.inflight.set(int(sys.argv[1]))
metrics.config_ok.set(sys.argv[1] != "2")
metrics.breaker_open.labels("u", "m").set(sys.argv[1] == "2")
print("counted", flush=True)
sys.stdin.read()
"""
SCRAPE = """
import sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from gateway.metrics import exposition
sys.stdout.buffer.write(exposition(CollectorRegistry(), Path(sys.argv[1])))
"""


def test_several_workers_are_one_gateway_and_a_dead_ones_counts_stay(tmp_path: Path) -> None:
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": environ, "text": True}
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, str(n)], **pipes) for n in (2, 3)]

    def scraped() -> dict[str, float]:
        command = [sys.executable, "-c", SCRAPE, str(tmp_path)]
        said = subprocess.run(command, env=environ, capture_output=True, check=True, text=True).stdout
        rows = (line.rpartition(" ") for line in said.splitlines() if line.startswith("gateway_"))
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
