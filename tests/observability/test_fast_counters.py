"""Numbers raised by plain addition are, once flushed, what prometheus_client itself would have counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.observability.fast_counters import FastCounters

BUCKETS = (0.1, 1.0, 10.0)
values = st.floats(0, 100) | st.sampled_from([0.1, 1.0, 10.0])


def lines(registry: CollectorRegistry) -> list[str]:
    return [x for x in generate_latest(registry).decode().splitlines() if x[:1] != "#" and "_created" not in x]


@given(st.lists(st.lists(values, max_size=5), max_size=5))
def test_a_histogram_has_the_same_buckets_count_and_sum(rounds: list[list[float]]) -> None:
    mine, theirs = CollectorRegistry(), CollectorRegistry()
    counts = FastCounters()
    spread = counts.spread(Histogram("h", "h", ["a"], buckets=BUCKETS, registry=mine), "x")
    reference = Histogram("h", "h", ["a"], buckets=BUCKETS, registry=theirs).labels("x")
    for observed in rounds:
        for value in observed:
            spread.observe_all([value])
            reference.observe(value)
        counts.flush()
    for name, labels in (("h_count", {}), ("h_sum", {}), *(("h_bucket", {"le": b}) for b in ("0.1", "1.0", "+Inf"))):
        got, wanted = (r.get_sample_value(name, {"a": "x", **labels}) for r in (mine, theirs))
        assert (got or 0.0) == pytest.approx(wanted)


def test_a_flush_adds_each_increment_exactly_once() -> None:
    registry, counts = CollectorRegistry(), FastCounters()
    metric = Counter("c", "c", ["a"], registry=registry)
    counts.of(metric, "x").n += 2
    counts.of(metric, "y").n += 1
    counts.of(metric, "x").n += 3
    assert registry.get_sample_value("c_total", {"a": "x"}) is None, "nothing is exported that has not happened"
    for _ in range(2):
        counts.flush()
        assert registry.get_sample_value("c_total", {"a": "x"}) == 5
        assert registry.get_sample_value("c_total", {"a": "y"}) == 1


def test_the_same_labels_of_the_same_metric_are_one_number() -> None:
    registry, counts = CollectorRegistry(), FastCounters()
    a, b = (Counter(n, n, ["l"], registry=registry) for n in "ab")
    assert counts.of(a, "x") is counts.of(a, "x")
    assert counts.of(a, "x") is not counts.of(b, "x")
    assert counts.of(a, "x") is not counts.of(a, "y")
    h = Histogram("h", "h", registry=registry)
    assert counts.spread(h) is counts.spread(h)


@pytest.mark.parametrize("labels", [(), ("x",), ("x", "y", "z")])
def test_another_number_of_labels_is_refused_at_the_call(labels: tuple[str, ...]) -> None:
    counts = FastCounters()
    counter, histogram = (kind("m", "m", ["a", "b"], registry=None) for kind in (Counter, Histogram))
    for series, metric in ((counts.of, counter), (counts.spread, histogram)):
        with pytest.raises(ValueError, match=r"m has the labels \('a', 'b'\); got"):
            series(metric, *labels)


def test_a_counter_that_was_never_raised_shows_nothing_or_zero() -> None:
    registry, counts = CollectorRegistry(), FastCounters()
    counts.of(Counter("c", "c", ["a"], registry=registry), "x")
    counts.spread(Histogram("h", "h", registry=registry, buckets=BUCKETS))
    counts.flush()
    assert all(line.endswith(" 0.0") for line in lines(registry))


@given(st.lists(st.lists(values, max_size=9), max_size=4))
def test_many_observed_at_once_are_as_each_by_itself(rounds: list[list[float]]) -> None:
    registries = [CollectorRegistry(), CollectorRegistry()]
    counts = FastCounters()
    once, each = (counts.spread(Histogram("h", "h", buckets=BUCKETS, registry=r)) for r in registries)
    for observed in rounds:
        for value in observed:
            each.observe_all([value])
        once.observe_all(list(observed))
    counts.flush()
    for name, labels in (("h_count", {}), ("h_sum", {}), *(("h_bucket", {"le": b}) for b in ("0.1", "1.0", "+Inf"))):
        got, wanted = (r.get_sample_value(name, labels) for r in registries)
        assert got == pytest.approx(wanted)


def test_batched_counts_are_complete_at_each_flush() -> None:
    registry, counts = CollectorRegistry(), FastCounters()
    count = counts.of(Counter("c", "c", registry=registry))

    class Batch:
        waiting = 3

        def fold(self) -> None:
            count.n += self.waiting
            self.waiting = 0

    batch = Batch()
    counts.batches.add(batch)
    for _ in range(2):
        counts.flush()
        assert registry.get_sample_value("c_total") == 3


def test_a_gauge_is_set_only_when_its_value_changes() -> None:
    registry, counts = CollectorRegistry(), FastCounters()
    gauge = Gauge("g", "g", ["a"], registry=registry)
    counts.set(gauge, 1, "x")
    gauge.labels("x").set(7)  # by somebody else
    counts.set(gauge, 1, "x")
    assert registry.get_sample_value("g", {"a": "x"}) == 7
    counts.set(gauge, 2, "x")
    assert registry.get_sample_value("g", {"a": "x"}) == 2
