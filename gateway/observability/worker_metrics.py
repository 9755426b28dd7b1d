"""Adds up the metrics of all workers of one `gateway serve`, from the files in which prometheus_client keeps them.

prometheus_client's own collector parses every key of every file at each scrape. A key never moves within its file, so
here it is parsed once; a scrape reads the numbers. The file format is that of prometheus_client.mmap_dict, and a test
holds the result against the library's own.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, disable_created_metrics, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import mark_process_dead
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text
from prometheus_client.registry import Collector

from gateway.observability.exemplars import ExemplarFiles, escaped, series_line
from gateway.observability.label_history import ExpiredLabels

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
_HEAD = 8  # bytes: how much of the file is used, and padding
NONE_EXPIRED = ExpiredLabels()
_COMBINE: dict[str, Callable[[float, float], float]] = {"livemax": max, "livemin": min}


@dataclass(slots=True)
class _File:
    """One worker's values of one type of metric."""

    pid: int
    combine: Callable[[float, float], float] | None
    """Combines the values of several workers; None means that they are added."""
    used: int = _HEAD
    positions: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    """Parallel to positions: which series each value belongs to."""
    values: tuple[float, ...] = ()
    """The values as last read."""
    final: bool = False
    """The worker is dead, and the values are its last ones."""


@dataclass(slots=True)
class _Family:
    """One metric: its head in the text, and its series in the order in which they appeared."""

    head: bytes
    openmetrics_head: bytes
    """The same for OpenMetrics, in which a counter is named without _total."""
    plain: list[tuple[bytes, int]] = field(default_factory=list)
    """(line up to the value, slot of the series)."""
    sums: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    """The sum of a histogram, as in `plain`, by the line of its count."""
    buckets: dict[bytes, list[tuple[float, bytes, int]]] = field(default_factory=dict)
    """Buckets of a histogram, by the line of its count: (bound, line of the bucket, slot), not cumulative."""


class WorkerMetrics:
    """The metrics of all workers, dead ones included, in one text."""

    def __init__(self, directory: Path, alive: Callable[[int], bool] | None = None) -> None:
        """Reads the files of all workers.

        directory: PROMETHEUS_MULTIPROC_DIR.
        alive: whether a process exists; None: the kernel's answer.
        """
        self._directory = directory
        self._alive = alive or (lambda pid: Path(f"/proc/{pid}").exists())
        self._files: dict[Path, _File] = {}
        self._slots: dict[tuple[str, str], int] = {}  # by type of metric and key
        self._labels: list[dict[str, str]] = []  # by slot
        self._exemplars = ExemplarFiles(directory)
        self._families: dict[str, _Family] = {}
        self._reading = threading.Lock()

    def text(self, expired: ExpiredLabels = NONE_EXPIRED, *, openmetrics: bool = False) -> bytes:
        """The metrics in Prometheus's text format. Counters and histograms of dead workers are kept; their gauges are
        dropped. expired: labels whose series are left out. openmetrics: in that format, with exemplars."""
        with self._reading:
            self._refresh()
            totals = self._totals()
            for slot in self._hidden(expired):
                totals[slot] = None
            if not openmetrics:
                return self._render(totals, {})
            return self._render(totals, self._exemplars.read(), openmetrics=True) + b"# EOF\n"

    def _hidden(self, expired: ExpiredLabels) -> Iterable[int]:
        return [slot for slot, labels in enumerate(self._labels) if expired.hide(labels)] if expired else ()

    def _refresh(self) -> None:
        there = sorted(self._directory.glob("*.db"))
        alive = {pid: self._alive(pid) for pid in {_pid(path) for path in there}}
        for pid in (pid for pid, is_alive in alive.items() if not is_alive):
            mark_process_dead(pid, str(self._directory))  # type: ignore[no-untyped-call]  # removes its gauges
        self._files = {path: self._file(path) for path in there if path.exists()}
        for path, file in self._files.items():
            if not (file.final and not alive[file.pid]):
                self._read(path, file)
                file.final = not alive[file.pid]

    def _file(self, path: Path) -> _File:
        known = self._files.get(path)
        mode = path.name.split("_")[1] if path.name.startswith("gauge_") else ""
        return known or _File(_pid(path), _COMBINE.get(mode))

    def _read(self, path: Path, file: _File) -> None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # a scrape of another worker has removed it
            file.positions, file.slots, file.values = [], [], ()
            return
        (used,) = struct.unpack_from("i", data)
        if used > file.used:
            self._read_keys(path.name.partition("_")[0], data, min(used, len(data)), file)
        file.values = tuple(struct.unpack_from("d", data, at)[0] for at in file.positions)

    def _read_keys(self, kind: str, data: bytes, used: int, file: _File) -> None:
        at = file.used
        while at < used:
            (length,) = struct.unpack_from("i", data, at)
            key = data[at + 4 : at + 4 + length].decode()
            at += 4 + length + 8 - (length + 4) % 8
            file.positions.append(at)
            file.slots.append(self._slot(kind, key))
            at += 16  # the value, and a time
        file.used = at

    def _slot(self, kind: str, key: str) -> int:
        slot = self._slots.get((kind, key))
        if slot is None:
            slot = self._slots[kind, key] = len(self._slots)
            self._add_series(kind, slot, *json.loads(key))
        return slot

    def _add_series(self, kind: str, slot: int, metric: str, name: str, labels: dict[str, str], text: str) -> None:
        self._labels.append(labels)
        family = self._families.get(metric)
        if family is None:
            shown = f"{metric}_total" if kind == "counter" else metric
            family = self._families[metric] = _Family(_head(shown, kind, text), _head(metric, kind, text))
        if kind == "histogram" and "le" in labels:
            bound = labels["le"]
            rest = {label: value for label, value in labels.items() if label != "le"}
            of_series = family.buckets.setdefault(_line(f"{metric}_count", rest), [])
            of_series.append((float(bound), _line(name, {**rest, "le": bound}), slot))
            of_series.sort(key=lambda bucket: bucket[0])
        elif kind == "histogram":
            family.sums[_line(f"{metric}_count", labels)] = _line(name, labels), slot
        else:
            family.plain.append((_line(name, labels), slot))

    def _totals(self) -> list[float | None]:
        """The value of each slot over all workers; None if no file has it any more."""
        totals: list[float | None] = [None] * len(self._slots)
        for file in self._files.values():
            combine = file.combine
            for slot, value in zip(file.slots, file.values, strict=True):
                before = totals[slot]
                if before is None:
                    totals[slot] = value
                else:
                    totals[slot] = before + value if combine is None else combine(before, value)
        return totals

    def _render(
        self, totals: list[float | None], exemplars: Mapping[bytes, bytes], *, openmetrics: bool = False
    ) -> bytes:
        """exemplars: the ends of lines by their beginnings."""
        out: list[bytes] = []
        for family in self._families.values():
            lines = [*_plain_lines(family.plain, totals, exemplars), *_bucket_lines(family, totals, exemplars)]
            if lines:
                out += [family.openmetrics_head if openmetrics else family.head, *lines]
        return b"".join(out)


def _head(name: str, kind: str, text: str) -> bytes:
    return f"# HELP {name} {escaped(text)}\n# TYPE {name} {kind}\n".encode()


def _plain_lines(
    series: Iterable[tuple[bytes, int]], totals: list[float | None], exemplars: Mapping[bytes, bytes]
) -> list[bytes]:
    return [
        b"%b %r%b\n" % (line, totals[slot], exemplars.get(line, b""))
        for line, slot in series
        if totals[slot] is not None
    ]


def _bucket_lines(family: _Family, totals: list[float | None], exemplars: Mapping[bytes, bytes]) -> Iterable[bytes]:
    for count_line, buckets in family.buckets.items():
        if all(totals[slot] is None for _, _, slot in buckets):
            continue
        sum_so_far = 0.0
        for _, line, slot in buckets:
            sum_so_far += totals[slot] or 0.0
            yield b"%b %r%b\n" % (line, sum_so_far, exemplars.get(line, b""))
        yield b"%b %r\n" % (count_line, sum_so_far)
        if count_line in family.sums:
            yield from _plain_lines([family.sums[count_line]], totals, {})


def _pid(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _line(name: str, labels: dict[str, str]) -> bytes:
    return series_line(name, labels).encode()


def wants_openmetrics(accept: str) -> bool:
    """Whether the header `accept` of a scraper asks for OpenMetrics."""
    return choose_encoder(accept)[1].startswith("application/openmetrics-text")


class ShownMetrics(Collector):
    """The metrics of one process without the series of expired labels."""

    def __init__(self, registry: CollectorRegistry, expired: ExpiredLabels) -> None:
        self._registry = registry
        self._expired = expired

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not self._expired.hide(sample.labels)]
            yield metric


def exposition(
    registry: CollectorRegistry,
    workers: WorkerMetrics | None = None,
    expired: ExpiredLabels = NONE_EXPIRED,
    *,
    openmetrics: bool = False,
) -> bytes:
    """The text of one scrape.

    workers: the metrics of all workers, dead ones included; None means that only this process counts. expired: labels
    whose series are left out. openmetrics: in that format, with exemplars.
    """
    if workers is not None:
        return workers.text(expired, openmetrics=openmetrics)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a line more for each series, which nobody reads
    shown = ShownMetrics(registry, expired) if expired else registry
    text: bytes = (openmetrics_text if openmetrics else generate_latest)(shown)
    return text
