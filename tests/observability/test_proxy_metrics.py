"""The gateway's metrics: the names that dashboards and alerts keep, closed labels, and how workers become one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fixtures.metric_samples import sample_sum, sample_sum_of_page
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.observability.catalog import specs
from gateway.observability.proxy_metrics import ConsoleMetrics, ProxyMetrics

PACKAGE = Path(__file__).parents[2] / "gateway"

# The contract: these names and labels are kept by later versions.
NAMES: dict[str, tuple[str, ...]] = {
    "gateway_requests_total": ("alias", "upstream", "model", "outcome"),
    "gateway_overhead_seconds": (),
    "gateway_inflight_requests": (),
    "gateway_attempts_total": ("upstream", "model", "result"),
    "gateway_breaker_open": ("upstream", "model"),
    "gateway_config_ok": (),
    "gateway_tokens_total": ("alias", "upstream", "model", "type"),
    "gateway_cost_usd_total": ("alias", "upstream", "model"),
    "gateway_unpriced_total": ("alias", "upstream", "model"),
    "gateway_eval_seen_total": ("stratum",),
    "gateway_eval_sampled_total": ("stratum",),
    "gateway_eval_enqueued_total": ("stratum",),
    "gateway_eval_unsampled_total": ("reason",),
    "gateway_eval_dropped_total": ("stratum", "reason"),
}
GENAI = {"gen_ai_operation_name", "gen_ai_provider_name", "upstream"}
GENAI_NAMES: dict[str, tuple[set[str], list[float]]] = {
    "gen_ai_client_token_usage": (
        {*GENAI, "gen_ai_token_type"},
        [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864],
    ),
    "gen_ai_server_request_duration_seconds": (
        {*GENAI, "alias", "error_type"},
        [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92],
    ),
    "gen_ai_server_time_to_first_token_seconds": (
        {*GENAI, "alias"},
        [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 15, 20, 30, 45, 60],
    ),
    "gen_ai_server_time_per_output_token_seconds": (
        {*GENAI, "alias"},
        [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5],
    ),
}


@pytest.fixture
def metrics() -> ProxyMetrics:
    """The gateway's metrics in a registry of their own."""
    return ProxyMetrics(CollectorRegistry())


def all_of(metrics: ProxyMetrics) -> Iterator[tuple[str, Any]]:
    for attribute, metric in vars(metrics).items():
        if isinstance(metric, Counter | Gauge | Histogram):
            yield attribute, metric


def exposed(metric: Any) -> str:
    return metric._name + ("_total" if isinstance(metric, Counter) else "")


def test_the_names_and_labels_that_later_versions_keep_are_there(metrics: ProxyMetrics) -> None:
    there = {exposed(m): m._labelnames for _, m in all_of(metrics)}
    for name, labels in NAMES.items():
        assert there[name] == labels, name


def test_genai_names_and_buckets_follow_the_conventions(metrics: ProxyMetrics) -> None:
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
    """A metric that nothing raises reads as zero forever, which is wrong."""
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
    """Each scrape would otherwise show one worker's, by its process id."""
    for attribute, metric in all_of(metrics):
        if isinstance(metric, Gauge):
            assert metric._multiprocess_mode in ("livesum", "livemax", "livemin"), attribute


def test_each_attribute_has_its_table_of_the_same_type(metrics: ProxyMetrics) -> None:
    for room, kind in (("gateway", ProxyMetrics), ("console", ConsoleMetrics)):
        declared = specs(room)  # type: ignore[arg-type]
        annotated = {name: annotation.lower() for name, annotation in kind.__annotations__.items()}
        assert annotated == {name: spec.kind for name, spec in declared.items()}
        assert len({spec.name for spec in declared.values()}) == len(declared)
    assert isinstance(metrics.requests, Counter)


def test_sums_of_tests_hold_when_a_label_is_added() -> None:
    registry = CollectorRegistry()
    metric = Counter("calls", "calls", ["alias", "outcome", "added"], registry=registry)
    for values in (("chat", "ok", "a b"), ("chat", "ok", 'quoted "b"'), ("chat", "cut", "a b"), ("chats", "ok", "c")):
        metric.labels(*values).inc()
    page = generate_latest(registry).decode()
    for read in (partial(sample_sum, registry), partial(sample_sum_of_page, page)):
        assert read("calls_total") == 4
        assert read("calls_total", alias="chat") == 3
        assert read("calls_total", alias="chat", outcome="ok") == 2
        assert (read("calls_total", alias="other"), read("calls")) == (None, None)
    assert sample_sum_of_page(page, 'calls_total{outcome="ok",alias="chat"}') == 2
