"""Parts of an upstream's places: by class, by weight, and by where calls wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.limits.fleet_share import FleetShare, parts_of, whole_places

A, B = (1, "team a"), (1, "team b")
FIRST, LAST = (0, "key web"), (2, "key night")
DEMANDS = st.dictionaries(
    st.sampled_from("xyz"),
    st.dictionaries(st.tuples(st.integers(0, 2), st.sampled_from(["a", "b", "c"])), st.integers(1, 20)),
    min_size=1,
)


@pytest.mark.parametrize(
    ("demands", "parts"),
    [
        ({"x": {A: 4}, "y": {B: 4}}, None),
        ({"x": {A: 20}, "y": {B: 20}}, {"x": 6, "y": 2}),
        ({"x": {A: 20, B: 10}, "y": {B: 10}}, {"x": 7, "y": 1}),
        ({"x": {A: 2}, "y": {B: 20}}, {"x": 2, "y": 6}),
        ({"x": {LAST: 60}, "y": {FIRST: 3}}, {"x": 5, "y": 3}),
        ({"x": {LAST: 60}, "y": {FIRST: 30}}, {"x": 0, "y": 8}),
        ({"x": {A: 20}, "y": {}}, {"x": 8, "y": 0}),
    ],
    ids=["enough", "by weight", "where they wait", "no more than wanted", "class", "class alone", "one worker"],
)
def test_a_worker_has_its_part_of_each_owner(demands: dict[str, dict[tuple[int, str], int]], parts: object) -> None:
    assert parts_of(8, {"team a": 3.0}, demands) == (None if parts is None else pytest.approx(parts))


def test_a_weight_counts_by_the_part_of_the_calls_that_are_here() -> None:
    share = FleetShare(8, {})
    demands = {"x": {A: 6, B: 4}, "y": {B: 12}}
    share.heard("x", demands, 0.0)
    assert share.scale == {"team a": 1.0, "team b": 0.25}
    assert share.most is not None
    share.heard("x", {"x": {A: 6}}, 0.0)
    assert (share.most, share.scale) == (None, {})


@given(DEMANDS, st.integers(1, 30), st.dictionaries(st.sampled_from("abc"), st.sampled_from([0.5, 2.0, 7.0])))
def test_parts_fill_the_places_and_nobody_has_more_than_it_wants(
    demands: dict[str, dict[tuple[int, str], int]], places: int, weights: dict[str, float]
) -> None:
    parts = parts_of(places, weights, demands)
    wanted = {worker: sum(demand.values()) for worker, demand in demands.items()}
    if parts is None:
        assert sum(wanted.values()) <= places
        return
    assert sum(parts.values()) == pytest.approx(places)
    assert all(0 <= part <= wanted[worker] + 1e-9 for worker, part in parts.items())
    turns = [whole_places(parts, turn) for turn in range(200)]
    assert all(sum(turn.values()) == places for turn in turns)
    for worker, part in parts.items():
        assert all(abs(turn[worker] - part) < 1 for turn in turns)
        assert sum(turn[worker] for turn in turns) / 200 == pytest.approx(part, abs=0.05)
