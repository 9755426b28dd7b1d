"""Sequences that a process keeps between its steps are those that it would read from the store."""

from __future__ import annotations

from dataclasses import replace

import orjson

from gateway.core.plan import Plan
from gateway.features.experiments.live_sequences import LiveSequences
from gateway.features.experiments.metrics import ArmObservation, JoinedPair, PairOrigin
from gateway.features.experiments.progress import PlanProgress
from gateway.features.experiments.rows.sequences import SequenceName


def pair(i: int) -> JoinedPair:
    control, candidate = ArmObservation("ok", f"a{i}", total_s=1.0), ArmObservation("failed", f"b{i}", total_s=1.5)
    origin = PairOrigin(1000.0 + i, "web", f"user{i % 3}", f"c{i // 2}")
    return JoinedPair(f"a{i}", control, {"candidate": candidate}, f"c{i // 2}", origin)


def moved(plan: Plan, live: LiveSequences, texts: dict[SequenceName, str], i: int) -> dict[SequenceName, str]:
    """The stored states after one more pair, as a step makes them."""
    progress = PlanProgress(plan, plan.hash, live.take(texts))
    progress.take(i, pair(i))
    states = progress.changes().states
    after = texts | {name: orjson.dumps(state).decode() for name, (_, state) in states.items()}
    live.keep(after, progress.sequences)
    return after


def test_kept_sequences_have_the_states_of_stored_ones(plan: Plan) -> None:
    plan = replace(plan, rules=2, repeat_control=0.0)
    live, kept, read = LiveSequences(), dict[SequenceName, str](), dict[SequenceName, str]()
    for i in range(40):
        before = dict(kept)
        kept, read = moved(plan, live, kept, i), moved(plan, LiveSequences(), read, i)
        assert kept == read
        assert kept != before
    again = live.take(kept)
    live.keep(kept, again)
    assert live.take(kept) == again, "the very objects"


def test_what_another_consumer_stored_is_read(plan: Plan) -> None:
    """So is what a transaction of this one moved and did not store."""
    plan = replace(plan, rules=2, repeat_control=0.0)
    live = LiveSequences()
    first = moved(plan, live, {}, 0)
    lost = moved(plan, live, first, 1)
    other = moved(plan, LiveSequences(), first, 2)
    assert other != lost
    assert {name: each.n for name, each in live.take(other).items()} == {
        name: each.n for name, each in LiveSequences().take(other).items()
    }
    assert moved(plan, live, first, 1) == lost, "as if it had not been taken before"
