"""The sums of a plan's cells: of any part of the traffic, and their last pair."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.moments import Moments
from gateway.verdict.metrics import PairValue
from gateway.verdict.sequences.difference import SequenceRule
from gateway.verdict.sequences.segment_cells import CellMetric, SegmentCells, merged

values = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.floats(-1, 1)), min_size=1, max_size=60)


@given(values)
def test_cells_add_up_to_any_part_of_the_traffic(rows: list[tuple[str, str, float]]) -> None:
    cells, kept = SegmentCells(("one", "two"), "q"), []
    for one, two, d in rows:
        cells.add({"one": one, "two": two}, {"q": PairValue(0.0, d, d)}, None)
        kept += [] if one == "a" or two == "y" else [d]
    left = cells.without([("one", "a"), ("two", "y")])
    assert cells.count(left) == len(kept)
    sums, whole = cells.sums("q", left).differences, Moments.of(kept) if kept else Moments()
    assert (sums.n, sums.mean, sums.m2) == pytest.approx((whole.n, whole.mean, whole.m2), abs=1e-9)
    assert SegmentCells.from_state(orjson.loads(orjson.dumps(cells.state()))).state() == cells.state()


def test_cells_take_their_last_pair_by_the_variance_alone() -> None:
    """A quarter more pairs than the horizon, so that the traffic without an excepted part has its pairs."""
    rule = SequenceRule("hybrid", 0.05, horizon=100, largest=1.0)
    for shift in (0.0, 0.7):
        cells, n = SegmentCells(("one",), "q"), 0
        while not cells.closed:
            cells.add({"one": "a"}, {"q": PairValue(0.0, 0.0, shift)}, None)
            cells.close(rule, 1.0)
            n += 1
        assert n == 125
    cells.add({"one": "a"}, {"q": PairValue(0.0, 0.0, 0.0)}, None)
    assert (cells.count(), cells.sums("q").differences.n) == (126, 125), "guardrails go on"


def test_moments_of_two_samples_are_those_of_both() -> None:
    assert merged(Moments(), Moments.of([1.0])) == Moments.of([1.0])
    assert CellMetric().plus(CellMetric()).differences.n == 0
