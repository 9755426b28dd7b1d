"""Pairs settle in the order of the stream, whenever somebody looks; on both databases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.store import write
from gateway.store.ledger import position
from gateway.store.pairs import (
    SettledPair,
    all_open,
    arm_records,
    arm_scores,
    assign_indexes,
    next_index,
    settled_pairs,
    stored_exchanges,
)
from gateway.store.write import ScoredBatch

DEADLINE_MS = 500


@pytest.fixture
def deliver(store: Any) -> Any:
    """deliver(at_ms, exchange): as if it had been read from that place of the stream."""

    def put(at: int, exchange: Any) -> None:
        judged = replace(store.judged(exchange), position=position(f"{1000 + at}-0"))
        store.run(lambda c: write.write(c, ScoredBatch(store.scorers, [judged]), 0.0))

    return put


@pytest.fixture
def settle(store: Any, plan: Any) -> Any:
    """The pairs that are settled once everything before the watermark is stored."""

    def found(watermark: str, most: int = 100) -> list[SettledPair]:
        pairs: list[SettledPair] = store.run(lambda c: settled_pairs(c, plan.hash, watermark, DEADLINE_MS, most))
        return pairs

    return found


def test_an_arm_after_its_deadline_is_lost(deliver: Any, settle: Any, plan: Any, paired: Any) -> None:
    served, shadow = paired(plan, "1", {"candidate": "0"})
    deliver(0, served)
    assert settle("1400-0") == [], "it may still come"
    deliver(DEADLINE_MS + 1, shadow)
    assert settle("2000-0") == [SettledPair(served.id, served.cluster, {"candidate": None})]


def test_an_unsettled_pair_holds_back_those_after_it(deliver: Any, settle: Any, plan: Any, paired: Any) -> None:
    """Fast answers are short ones: were they to come first, the sequences would lean towards them."""
    slow, quick = paired(plan, "1", {"candidate": None}), paired(plan, "1", {"candidate": "1"})
    for at, each in enumerate((slow[0], *quick)):
        deliver(at, each)
    assert settle("1100-0") == []
    assert [pair.id for pair in settle("2000-0")] == [slow[0].id, quick[0].id]
    assert [pair.id for pair in settle("2000-0", most=1)] == [slow[0].id]


def test_indexes_follow_each_other_from_1(store: Any, deliver: Any, settle: Any, plan: Any, paired: Any) -> None:
    for at, each in enumerate(paired(plan, "1", {"candidate": "0"})):
        deliver(at, each)
    (pair,) = settle("2000-0")
    assert store.run(lambda c: (all_open(c, [pair.id]), next_index(c, plan.hash))) == (True, 1)
    store.run(lambda c: assign_indexes(c, 1, [(pair, {"candidate": "ok"})]))
    assert store.run(lambda c: (all_open(c, [pair.id]), next_index(c, plan.hash))) == (False, 2)
    assert store.sql("SELECT state, place FROM pairs") == [("joined", 1)]


def test_records_and_scores_of_arms_come_as_stored(store: Any, deliver: Any, plan: Any, paired: Any) -> None:
    served, shadow = paired(plan, "1", {"candidate": "0.5"})
    deliver(0, served)
    deliver(1, shadow)
    ids = [served.id, shadow.id, "not stored"]
    assert {r.id: r.total_s for r in store.run(lambda c: arm_records(c, ids))} == {served.id: 0.5, shadow.id: 0.5}
    assert {s.exchange_id: s.value for s in store.run(lambda c: arm_scores(c, ids))} == {served.id: 1.0, shadow.id: 0.5}
    found = store.run(lambda c: stored_exchanges(c, ids))
    assert {i: e.response for i, e in found.items()} == {e.id: e.response for e in (served, shadow)}
