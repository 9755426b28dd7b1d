"""The stored parts of a sequence: its state, the increment of each pair, withheld pairs, and its interval over time."""

from __future__ import annotations

from typing import Any

from gateway.core.sequence import Increment, SequenceChanges, SequenceName, TrailPoint
from gateway.store.sequences import clusters_taken, increments_of, newest_identities, save, states, trail, withheld_of

OLD, NEW = (SequenceName("p1", "candidate", "stated", identity) for identity in ("1 c1", "1 c2"))


def changes(name: SequenceName, place: int, n: int = 1, cluster: str | None = None) -> SequenceChanges:
    return SequenceChanges(
        {name: (n, {"n": n, "exact": 0.1 + 0.2})},
        [Increment(name, f"x{place}", place, cluster, 0.25, 0.5, 0.25)],
        {(name, "lost", "candidate"): 2},
        [TrailPoint(name, n, 0.25, -0.5, 1.0)],
    )


def test_states_come_back_with_the_same_bits_and_the_newest_wins(store: Any) -> None:
    store.run(lambda c: save(c, changes(OLD, 1), 1.0))
    store.run(lambda c: save(c, changes(OLD, 2, n=2), 2.0))
    assert store.run(lambda c: states(c, "p1")) == {OLD: {"n": 2, "exact": 0.1 + 0.2}}
    assert store.run(lambda c: states(c, "p2")) == {}


def test_increments_trails_and_withheld_add_up(store: Any) -> None:
    store.run(lambda c: save(c, changes(OLD, 2, n=2, cluster="c"), 1.0))
    store.run(lambda c: save(c, changes(OLD, 1, n=1), 1.0))
    assert [each.place for each in store.run(lambda c: increments_of(c, OLD))] == [1, 2]
    assert store.run(lambda c: trail(c, OLD)) == [(1, 0.25, -0.5, 1.0), (2, 0.25, -0.5, 1.0)]
    assert store.run(lambda c: withheld_of(c, "p1")) == {(OLD, "lost", "candidate"): 4}
    assert store.run(lambda c: clusters_taken(c, "p1", ["c", "d"])) == {(OLD, "c")}


def test_the_scorer_at_work_is_the_one_whose_sequence_moved_last(store: Any) -> None:
    store.run(lambda c: save(c, changes(NEW, 1), 1.0))
    store.run(lambda c: save(c, changes(OLD, 1), 2.0))
    assert store.run(lambda c: newest_identities(c, "p1")) == {("candidate", "stated"): "1 c1"}
