"""The catalogue of metrics equals what a scrape of each program shows."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gateway.observability.catalog import catalogue, specs, unknown
from gateway.observability.eval_metrics import EvalMetrics
from gateway.observability.proxy_metrics import ConsoleMetrics, ProxyMetrics
from gateway.observability.worker_metrics import exposition


def test_the_catalogue_matches_a_scrape_in_name_type_and_help() -> None:
    for program, metrics in (("gateway", ProxyMetrics), ("consumer", EvalMetrics), ("console", ConsoleMetrics)):
        registry = CollectorRegistry()
        metrics(registry)
        shown = {f.name: f for f in text_string_to_metric_families(exposition(registry, None).decode())}
        listed = [each for each in catalogue() if each.program == program]
        names = {each.name.removesuffix("_total"): each for each in listed}
        assert names.keys() == {n for n in shown if not n.endswith("_created")}
        for name, each in names.items():
            assert (shown[name].type, shown[name].documentation) == (each.kind, each.help)


def test_labels_match_the_code_and_a_histogram_has_three_series() -> None:
    by_name = {each.name: each for each in catalogue()}
    gateway = ProxyMetrics(CollectorRegistry())
    for attribute, spec in specs("gateway").items():
        assert by_name[spec.name].labels == getattr(gateway, attribute)._labelnames
    assert by_name["gateway_eval_scores_total"].labels == ("scorer", "model", "arm", "status")
    parts = tuple(f"gateway_overhead_seconds_{part}" for part in ("bucket", "sum", "count"))
    assert by_name["gateway_overhead_seconds"].series == parts


def test_a_name_that_nobody_exports_comes_with_what_may_be_meant() -> None:
    assert unknown({"gateway_requests_total"}) == []
    assert unknown({"gateway_reqests_total"}) == ['gateway_reqests_total; did you mean "gateway_requests_total"?']
