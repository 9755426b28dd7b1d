"""The text that adds up all workers is what prometheus_client's own collector says, at each moment of their lives."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from fixtures.program_command import forked_python
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from gateway.observability.label_history import ExpiredLabels
from gateway.observability.worker_metrics import WorkerMetrics

WORKER = """
import sys
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
registry = CollectorRegistry()
n = Counter("n", 'a "help"\\nin two lines \\\\', ["alias"], registry=registry)
h = Histogram("h", "h", ["alias"], buckets=(0.5, 10, 5000), registry=registry)
gauges = {mode: Gauge(mode, mode, ["alias"], multiprocess_mode=mode, registry=registry)
          for mode in ("livesum", "livemax", "livemin")}
for line in sys.stdin:
    label, value = line.split()
    label = {"odd": 'x"\\\\\\n'}.get(label, label)
    n.labels(label).inc(float(value))
    h.labels(label).observe(float(value))
    for gauge in gauges.values():
        gauge.labels(label).set(float(value))
    print("done", flush=True)
"""


class Worker:
    def __init__(self, directory: Path) -> None:
        environ = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(forked_python(WORKER), env=environ, **pipes)
        self.pid = self._process.pid

    def count(self, label: str, value: float) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{label} {value}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def end(self) -> None:
        self._process.communicate()


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: bytes) -> Samples:
    families = list(text_string_to_metric_families(text.decode()))
    assert len({f.name for f in families}) == len(families), "each metric has one head"
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def library(directory: Path) -> Samples:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    return samples(generate_latest(registry))


@pytest.fixture
def workers(tmp_path: Path) -> Any:
    """Two processes that count into one directory."""
    started = [Worker(tmp_path) for _ in range(2)]
    yield started
    for worker in started:
        worker.end()


def test_it_says_what_the_library_says_while_workers_come_and_go(tmp_path: Path, workers: list[Worker]) -> None:
    merged = WorkerMetrics(tmp_path)
    first, second = workers
    first.count("x", 0.25)
    assert samples(merged.text()) == library(tmp_path)
    for worker, label, value in ((first, "x", 7), (second, "x", 3), (second, "odd", 9000.5), (first, "late", 1)):
        worker.count(label, value)
        assert samples(merged.text()) == library(tmp_path)
    assert samples(merged.text())["n_total", (("alias", "x"),)] == 10.25
    second.end()
    found = samples(merged.text())
    assert found["n_total", (("alias", "x"),)] == 10.25, "what a dead worker has counted stays"
    assert found["livemax", (("alias", "x"),)] == 7
    assert ("livesum", (("alias", 'x"\\\n'),)) not in found, "a dead worker's gauges go"
    assert found == library(tmp_path)
    workers.append(third := Worker(tmp_path))
    third.count("x", 2)
    assert samples(merged.text()) == library(tmp_path)
    assert samples(WorkerMetrics(tmp_path).text()) == library(tmp_path), "one that starts now says the same"


def test_a_scrape_reads_no_key_twice(tmp_path: Path, workers: list[Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    merged = WorkerMetrics(tmp_path)
    workers[0].count("x", 1)
    workers[1].count("x", 1)
    merged.text()
    parsed: list[str] = []
    monkeypatch.setattr("gateway.observability.worker_metrics.json.loads", parsed.append)
    workers[0].count("x", 1)
    assert samples(merged.text())["n_total", (("alias", "x"),)] == 3
    assert parsed == []


def test_without_workers_there_is_no_text(tmp_path: Path) -> None:
    assert WorkerMetrics(tmp_path).text() == b""


def test_expired_labels_leave_the_page_of_all_workers(tmp_path: Path, workers: list[Worker]) -> None:
    merged = WorkerMetrics(tmp_path)
    for label in ("chat", "old"):
        workers[0].count(label, 1)
    everything = samples(merged.text())
    shown = samples(merged.text(ExpiredLabels(frozenset({"old"}))))
    assert shown.keys() == {key for key in everything if ("alias", "old") not in key[1]}
    assert any(name == "h_bucket" for name, _ in shown)
    assert samples(merged.text()) == everything, "a config that names it again continues its counts"
