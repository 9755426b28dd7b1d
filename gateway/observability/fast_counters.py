"""Counters that the hot path increments by plain addition, and that are passed to prometheus_client at a scrape.

A call touches about twenty series. With prometheus_client's locks and label look-ups that costs more than the rest of
settling a call; here each is one addition, and `flush` passes on the sum since the last flush.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Protocol
from weakref import WeakSet

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.utils import floatToGoString

from gateway.observability.exemplars import SeriesExemplar, TracedCall, exemplar_of, of_series, series_line


class FastCounter:
    """One series of a counter. It is exported once it has been incremented: most possible series never are."""

    __slots__ = ("_labels", "_metric", "_series", "exemplar", "n")

    def __init__(self, metric: Counter, labels: tuple[str, ...] = ()) -> None:
        self._metric = metric
        self._labels = labels
        self._series: Counter | None = None
        self.n: float = 0  # the increase since the last flush; callers add to it
        self.exemplar: TracedCall | None = None

    def flush(self) -> None:
        if self.n:
            n, self.n = self.n, 0
            if self._series is None:
                self._series = self._metric.labels(*self._labels) if self._labels else self._metric
            self._series.inc(n)
            if self.exemplar is not None:
                self._series._value.set_exemplar(exemplar_of(self.exemplar))

    def exemplars(self) -> Iterator[SeriesExemplar]:
        if self.exemplar is not None:
            line = series_line(f"{self._metric._name}_total", _named(self._metric, self._labels))
            yield of_series(line, self.exemplar)


class FastHistogram:
    """One series of a histogram, exported once it has an observation."""

    __slots__ = ("_counts", "_labels", "_metric", "_series", "_sum", "bounds", "exemplars_by_bucket")

    def __init__(self, metric: Histogram, labels: tuple[str, ...] = ()) -> None:
        self._metric = metric
        self._labels = labels
        self._series: Histogram | None = None
        self.bounds: list[float] = list(metric._upper_bounds)
        self.exemplars_by_bucket: dict[int, TracedCall] = {}
        self._counts = [0] * len(self.bounds)
        self._sum = 0.0

    def observe_all(self, values: list[float]) -> None:
        """Sorts the values and searches them for each bound, a fraction of the cost of a search for each value."""
        values.sort()
        below = 0
        for i, bound in enumerate(self.bounds):
            at = bisect_right(values, bound, below)
            self._counts[i] += at - below
            if at == len(values):
                break
            below = at
        self._sum += sum(values)

    def flush(self) -> None:
        # prometheus_client has no public way to add many observations at once; its own observe() does this for one.
        if not any(self._counts):
            return
        if self._series is None:
            self._series = self._metric.labels(*self._labels) if self._labels else self._metric
        for bucket, n in zip(self._series._buckets, self._counts, strict=True):
            if n:
                bucket.inc(n)
        self._series._sum.inc(self._sum)
        for at, traced in self.exemplars_by_bucket.items():
            self._series._buckets[at].set_exemplar(exemplar_of(traced))
        self._counts = [0] * len(self.bounds)
        self._sum = 0.0

    def exemplars(self) -> Iterator[SeriesExemplar]:
        labels = _named(self._metric, self._labels)
        for at, traced in self.exemplars_by_bucket.items():
            bound = floatToGoString(self.bounds[at])  # type: ignore[no-untyped-call]  # as workers' files have it
            yield of_series(series_line(f"{self._metric._name}_bucket", {**labels, "le": bound}), traced)


class CounterBatch(Protocol):
    """Collects observations, to add them to FastCounters all at once."""

    def fold(self) -> None:
        """Adds the collected observations."""
        ...


def _named(metric: Counter | Histogram, labels: tuple[str, ...]) -> dict[str, str]:
    """The labels in the order in which workers keep them."""
    return dict(sorted(zip(metric._labelnames, labels, strict=True)))


def _check(metric: Counter | Histogram, labels: tuple[str, ...]) -> None:
    """prometheus_client would raise at the next flush, where nothing shows which call it was."""
    if len(labels) != len(metric._labelnames):
        raise ValueError(f"{metric._name} has the labels {metric._labelnames}; got {labels}")


class FastCounters:
    """Fast counters and histograms of one process, by metric and labels. Not thread-safe."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, tuple[str, ...]], FastCounter] = {}
        self._spreads: dict[tuple[int, tuple[str, ...]], FastHistogram] = {}
        self._gauges: dict[tuple[int, tuple[str, ...]], float] = {}
        self.batches: WeakSet[CounterBatch] = WeakSet()  # flushed first; a batch is flushed before it is dropped

    def of(self, metric: Counter, *labels: str) -> FastCounter:
        """The counter of these labels. Raises ValueError unless they are as many as the metric has."""
        key = (id(metric), labels)
        counter = self._counts.get(key)
        if counter is None:
            _check(metric, labels)
            counter = self._counts[key] = FastCounter(metric, labels)
        return counter

    def spread(self, metric: Histogram, *labels: str) -> FastHistogram:
        """The histogram of these labels. Raises ValueError unless they are as many as the metric has."""
        key = (id(metric), labels)
        histogram = self._spreads.get(key)
        if histogram is None:
            _check(metric, labels)
            histogram = self._spreads[key] = FastHistogram(metric, labels)
        return histogram

    def set(self, metric: Gauge, value: float, *labels: str) -> None:
        """Sets a gauge if its value differs: with thousands of series, most have not changed for half a second."""
        key = (id(metric), labels)
        if self._gauges.get(key) != value:
            self._gauges[key] = value
            (metric.labels(*labels) if labels else metric).set(value)

    def fold(self) -> None:
        """Adds what the batches have collected."""
        for batch in list(self.batches):
            batch.fold()

    def exemplars(self) -> list[SeriesExemplar]:
        """The newest traced calls of all series."""
        counts = (exemplar for count in self._counts.values() for exemplar in count.exemplars())
        spreads = (exemplar for spread in self._spreads.values() for exemplar in spread.exemplars())
        return [*counts, *spreads]

    def flush(self) -> None:
        self.fold()
        for count in self._counts.values():
            count.flush()
        for spread in self._spreads.values():
            spread.flush()
