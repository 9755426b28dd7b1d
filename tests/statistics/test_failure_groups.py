"""Rates of dependent calls, which groups hold, and since when: known values, properties, and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fixtures.simulation_bounds import most_misses
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.statistics.failure_groups import clustered_rate, onset, standing_groups
from gateway.statistics.paired import wilson
from gateway.statistics.special import normal_quantile, student_quantile

Ints = NDArray[np.intp]


def ones(n: int) -> NDArray[np.float64]:
    return np.ones(n)


def alone(n: int) -> Ints:
    return np.arange(n, dtype=np.intp)


@pytest.mark.quick
def test_independent_calls_have_wilsons_interval_by_students_quantile() -> None:
    """Wilson 1927 on the effective number of calls, by hand: n (z / t)², since the calls are their own clusters."""
    hits = np.arange(200) < 30
    found = clustered_rate(hits, ones(200), alone(200), 0.05)
    z, t = normal_quantile(0.975), student_quantile(0.975, 199)
    variance = float(((hits - 0.15) ** 2).sum()) * 200 / 199 / 200**2
    size = min(200.0, 0.15 * 0.85 / variance) * (z / t) ** 2
    assert (found.value, found.n, found.clusters, found.few) == (0.15, 200, 200, False)
    assert (found.low, found.high) == pytest.approx(wilson(0.15 * size, size, 0.05))
    assert (found.low, found.high) == pytest.approx(wilson(30, 200, 0.05), abs=0.002)


@pytest.mark.quick
def test_calls_of_a_few_clusters_say_less() -> None:
    hits = np.arange(200) % 8 == 0
    clusters = (np.arange(200) // 40).astype(np.intp)
    widths = []
    for of in (alone(200), clusters):
        found = clustered_rate(hits, ones(200), of, 0.05)
        widths.append(found.high - found.low)
    assert clustered_rate(hits, ones(200), clusters, 0.05).few
    assert widths[1] > 1.3 * widths[0]


@pytest.mark.quick
def test_clusters_that_agree_within_themselves_count_as_one_call_each() -> None:
    hits = np.repeat([True, False], 100)
    clusters = np.repeat(np.arange(20), 10).astype(np.intp)
    of_calls = np.repeat([True, False], 10)
    many, few = clustered_rate(hits, ones(200), clusters, 0.05), clustered_rate(of_calls, ones(20), alone(20), 0.05)
    assert (many.low, many.high) == pytest.approx((few.low, few.high), abs=0.01)
    never = clustered_rate(np.zeros(200, dtype=bool), ones(200), clusters, 0.05)
    assert (never.value, never.low) == (0.0, 0.0)
    assert never.high == pytest.approx(
        wilson(0, 20 * (normal_quantile(0.975) / student_quantile(0.975, 19)) ** 2, 0.05)[1]
    )


@pytest.mark.quick
def test_nothing_is_known_without_calls_or_of_one_cluster() -> None:
    empty = np.zeros(0)
    found = clustered_rate(empty.astype(bool), empty, empty.astype(np.intp), 0.05)
    assert (found.low, found.high, found.n) == (0.0, 1.0, 0)
    one = clustered_rate(np.ones(9, dtype=bool), ones(9), np.zeros(9, dtype=np.intp), 0.05)
    assert (one.value, one.low, one.high, one.clusters) == (1.0, 0.0, 1.0, 1)
    with pytest.raises(ValueError, match="alpha"):
        clustered_rate(np.ones(9, dtype=bool), ones(9), alone(9), 1.0)


@pytest.mark.quick
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.1, 50.0), st.integers(0, 8)), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
)
def test_an_interval_holds_its_rate_and_forgets_order_names_and_scale(
    calls: list[tuple[bool, float, int]], rng: object
) -> None:
    def found(rows: list[tuple[bool, float, int]], scale: float = 1.0, shift: int = 0) -> tuple[float, float, float]:
        hits, weights, clusters = zip(*rows, strict=True)
        of = clustered_rate(np.array(hits), scale * np.array(weights), np.array(clusters, dtype=np.intp) + shift, 0.1)
        return of.value, of.low, of.high

    value, low, high = found(calls)
    assert 0.0 <= low <= value + 1e-9
    assert value - 1e-9 <= high <= 1.0
    mixed = list(calls)
    rng.shuffle(mixed)  # type: ignore[attr-defined]
    assert found(mixed, 3.0, 7) == pytest.approx((value, low, high), abs=1e-6)


@pytest.mark.quick
def test_a_group_stands_where_it_fails_more_than_all_others() -> None:
    group = np.repeat([0, 1, 2], [200, 100, 100])
    failed = np.concatenate([np.arange(200) % 20 == 0, np.arange(100) % 2 == 0, np.arange(100) % 20 == 0])
    [found] = standing_groups(group, failed, ones(400), alone(400), [1, 2], 0.05)
    assert (found.group, found.rate.value, found.beside.value) == (1, 0.5, 0.05)
    assert found.share.value == pytest.approx(50 / 65)
    assert standing_groups(group, failed, ones(400), alone(400), [], 0.05) == []


@pytest.mark.quick
def test_the_time_of_a_change_is_found_and_none_where_there_is_none() -> None:
    at = np.arange(200.0)
    changed = np.where(at < 120, at % 20 == 0, at % 2 == 0)
    assert onset(at, changed) == pytest.approx(120.0, abs=2)
    assert onset(at, at % 5 == 0) is None
    assert onset(at, changed[::-1]) is None, "it became better"
    assert onset(at[:9], np.ones(9, dtype=bool)) is None
    assert onset(at, np.ones(200, dtype=bool)) is None


@pytest.mark.quick
@given(st.lists(st.booleans(), max_size=60))
def test_a_change_is_at_one_of_the_times(failed: list[bool]) -> None:
    at = np.arange(len(failed), dtype=np.float64) * 3.0
    found = onset(at, np.array(failed, dtype=bool))
    assert found is None or found in at[5:]


def covered(rng: np.random.Generator, clusters: int, size: int, p: float, between: float) -> bool:
    """One world: clusters of different sizes whose rates vary by a beta distribution with this mean."""
    sizes = rng.integers(1, 2 * size, clusters)
    rates = rng.beta(p / between, (1 - p) / between, clusters) if between else np.full(clusters, p)
    of = np.repeat(np.arange(clusters), sizes).astype(np.intp)
    hits = rng.random(len(of)) < rates[of]
    found = clustered_rate(hits, rng.choice([1.0, 4.0], len(of)), of, 0.05)
    return found.low <= p <= found.high


WORLDS = [(200, 1, 0.3, 0.0), (60, 4, 0.3, 0.2), (8, 6, 0.3, 0.1), (40, 3, 0.08, 0.1), (25, 1, 0.5, 0.0)]


@pytest.mark.parametrize(("clusters", "size", "p", "between"), WORLDS)
def test_intervals_cover(clusters: int, size: int, p: float, between: float) -> None:
    """Nominal 95 %; at least 92 % of 400 worlds of each kind, with few clusters, rare failures and two weights."""
    rng = np.random.default_rng(37)
    assert sum(covered(rng, clusters, size, p, between) for _ in range(400)) >= 0.92 * 400


@pytest.mark.long
@pytest.mark.parametrize(("clusters", "size", "p", "between"), WORLDS)
def test_intervals_cover_in_many_worlds(clusters: int, size: int, p: float, between: float) -> None:
    rng = np.random.default_rng(38)
    share = sum(covered(rng, clusters, size, p, between) for _ in range(10_000)) / 10_000
    assert share >= 0.92


def test_a_change_is_rarely_named_where_there_is_none() -> None:
    rng = np.random.default_rng(39)
    named = sum(onset(np.arange(300.0), rng.random(300) < 0.2) is not None for _ in range(400))
    assert named / 400 <= most_misses(0.05, 400)
    assert math.isfinite(named)
