"""Exemplars of calls with a sampled trace, in OpenMetrics: of one process, and of several workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar

from gateway.observability.exemplars import MOST, ExemplarFiles, SeriesExemplar
from gateway.observability.fast_counters import FastCounters
from gateway.observability.worker_metrics import WorkerMetrics, exposition, wants_openmetrics

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from observability.test_exemplars import count_in
from gateway.observability.exemplars import ExemplarFiles
from prometheus_client import CollectorRegistry
counts = count_in(CollectorRegistry(), float(sys.argv[1]))
ExemplarFiles(Path(sys.argv[2])).write(counts.exemplars())
"""


def count_in(registry: CollectorRegistry, at: float) -> FastCounters:
    """A latency of 3 s and a failure that ended at this time, and an untraced call of each."""
    counts = FastCounters()
    calls = Counter("calls", "Calls", ["outcome", "alias"], registry=registry)
    seconds = Histogram("seconds", "Seconds", ["alias"], buckets=[1, 10], registry=registry)
    spread, failed = counts.spread(seconds, 'odd "name"'), counts.of(calls, "timeout", "chat")
    spread.observe_all([0.5, 3.0])
    spread.exemplars_by_bucket[1] = (3.0, at, 0xABC, f"call-{at:g}")
    failed.n += 2
    failed.exemplar = (1.0, at, 0xDEF, f"call-{at:g}")
    counts.flush()
    return counts


def exemplars(page: bytes) -> dict[tuple[str, str], Exemplar]:
    """Exemplars of an OpenMetrics page by series and bucket."""
    families = text_string_to_metric_families(page.decode())
    samples = (sample for family in families for sample in family.samples)
    return {(s.name, s.labels.get("le", "")): s.exemplar for s in samples if s.exemplar is not None}


def test_a_scraper_gets_openmetrics_where_it_asks_for_it() -> None:
    assert wants_openmetrics(PROMETHEUS)
    for accept in ("", "*/*", "text/plain;version=0.0.4", "application/openmetrics-text;version=0.0.1"):
        assert not wants_openmetrics(accept)


def test_one_process_shows_the_exemplars_of_openmetrics_alone() -> None:
    registry = CollectorRegistry()
    count_in(registry, 1000.5)
    found = exemplars(exposition(registry, openmetrics=True))
    slow = found["seconds_bucket", "10.0"]
    assert slow.labels == {"trace_id": f"{0xABC:032x}", "call_id": "call-1000.5"}
    assert (slow.value, float(slow.timestamp or 0)) == (3.0, 1000.5)
    assert found["calls_total", ""].labels["trace_id"] == f"{0xDEF:032x}"
    assert len(found) == 2
    assert b"trace_id" not in exposition(registry)


def test_a_scrape_shows_the_newest_exemplar_of_all_workers(tmp_path: Path) -> None:
    program = WORKER.format(tests=str(Path(__file__).parents[1]))
    for at in (2000.0, 1000.0):
        words = [sys.executable, "-c", program, str(at), str(tmp_path)]
        subprocess.run(words, env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}, check=True)
    merged = WorkerMetrics(tmp_path)
    found = exemplars(merged.text(openmetrics=True))
    assert {key: e.labels["call_id"] for key, e in found.items()} == {
        ("seconds_bucket", "10.0"): "call-2000",
        ("calls_total", ""): "call-2000",
    }
    assert b"trace_id" not in merged.text()
    counted = {s.name: s.value for f in text_string_to_metric_families(merged.text(openmetrics=True).decode())
               for s in f.samples}  # fmt: skip
    assert (counted["calls_total"], counted["seconds_count"], counted["seconds_sum"]) == (4.0, 4.0, 7.0)


def test_a_worker_writes_its_newest_exemplars(tmp_path: Path) -> None:
    files = ExemplarFiles(tmp_path)
    files.write(SeriesExemplar(f"s{n}", 1.0, float(n), "0", "c") for n in range(2 * MOST))
    assert set(files.read()) == {f"s{n}".encode() for n in range(MOST, 2 * MOST)}
    (path,) = tmp_path.glob("exemplars_*.json")
    before = path.stat().st_mtime_ns
    files.write(SeriesExemplar(f"s{n}", 1.0, float(n), "0", "c") for n in range(2 * MOST))
    assert path.stat().st_mtime_ns == before, "nothing has changed"
