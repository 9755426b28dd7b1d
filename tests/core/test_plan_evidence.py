"""The pace of a plan's pairs."""

from __future__ import annotations

from gateway.core.plan_evidence import PairCounts


def test_the_pace_counts_what_was_drawn_and_dropped() -> None:
    counts = PairCounts(joined=60, lost=0, not_asked={"busy": 40}, first=0.0, last=43_200.0)
    assert counts.offered_share == 0.6
    assert counts.a_day == 120.0


def test_a_few_pairs_say_nothing_of_the_pace() -> None:
    assert PairCounts(joined=3, not_asked={"busy": 9}).offered_share == 1.0
    assert PairCounts(joined=3).a_day is None
