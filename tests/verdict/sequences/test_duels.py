"""Pairs of candidates: their names and the pairs that they compare."""

from __future__ import annotations

from gateway.core.exchange import Target
from gateway.core.plan import Plan
from gateway.verdict.metrics import ArmObservation, JoinedPair, Metric, StoredScore
from gateway.verdict.sequences.duels import Duel, duel_between, duel_pairs, duels_of, is_duel

QUALITY = Metric("quality", "score", "1 c1")


def plan(find_best: bool) -> Plan:
    candidates = tuple((arm, Target("b", arm)) for arm in ("one", "two", "three"))
    return Plan("swap", "chat", Target("a", "m"), candidates, primary="quality", family="best" if find_best else "one")


def seen(value: float) -> ArmObservation:
    return ArmObservation("ok", "x", scores={("quality", "1 c1"): StoredScore("scored", value, value)})


def test_only_a_plan_that_finds_the_best_has_duels() -> None:
    assert duels_of(plan(False)) == ()
    assert [duel.pair for duel in duels_of(plan(True))] == [("one", "two"), ("one", "three"), ("two", "three")]


def test_a_duel_is_in_the_order_of_the_plan() -> None:
    assert duel_between(plan(True), "three", "one") == Duel("one", "three")
    assert is_duel(Duel("one", "three").name)
    assert not is_duel("three")


def test_a_duel_compares_the_candidates_that_got_the_request() -> None:
    joined = JoinedPair("p", seen(0.1), {"one": seen(0.2), "three": seen(0.7)})
    [(name, metric, pair)] = duel_pairs(plan(True), [QUALITY], joined)
    assert (name, metric.name) == (Duel("one", "three").name, "quality")
    assert pair.control.scores == seen(0.2).scores
    assert pair.arms[name].scores == seen(0.7).scores
    assert list(duel_pairs(plan(True), [Metric("edit", "distance", "1 c1")], joined)) == []
