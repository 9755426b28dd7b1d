"""The verdicts of a pairwise judge."""

from __future__ import annotations

import random

import pytest

from gateway.verdict.preferences import PairwiseVerdict, duels_of, strengths_of, wins_of


def verdict(arm: str, value: float, flip: bool = False, first: float = 0.5) -> PairwiseVerdict:
    return PairwiseVerdict(arm, value, {"flip": float(flip), "first_slot": first})


def test_wins_ties_losses_and_what_the_order_does() -> None:
    verdicts = [
        verdict("b", 1.0),
        verdict("b", 1.0),
        verdict("b", 0.0),
        verdict("b", 0.5, True, 1.0),
        verdict("c", 1.0),
    ]
    found = wins_of(verdicts, "b")
    assert found is not None
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert (found.flip_rate, found.first_slot_rate) == (0.25, 0.625)
    assert found.win_share is not None
    assert (found.win_share.value, found.win_share.low) == (0.5, pytest.approx(0.01, abs=0.05))
    many = wins_of([verdict("b", 1.0 if i % 4 else 0.0) for i in range(400)], "b")
    assert many is not None
    assert many.win_share is not None
    assert many.win_share.low is not None
    assert 0.65 < many.win_share.low < 0.75 < (many.win_share.high or 0.0) < 0.85
    assert wins_of(verdicts, "d") is None
    bare = wins_of([PairwiseVerdict("b", 1.0, {})], "b")
    assert bare is not None
    assert bare.flip_rate is None


def test_a_flip_is_two_wins_of_the_same_place() -> None:
    rows = {(d.first, d.second): (d.first_wins, d.second_wins) for d in duels_of([verdict("b", 0.5, True, 1.0)])}
    assert rows == {("b", "control"): (1.0, 0.0), ("control", "b"): (1.0, 0.0)}


def test_the_control_against_itself_is_not_a_duel() -> None:
    assert duels_of([verdict("repeat", 0.5)]) == []


def test_strengths_are_the_planted_ones() -> None:
    rng, verdicts = random.Random(1), []
    for arm, p in (("b", 0.7), ("c", 0.3)):
        verdicts += [verdict(arm, float(rng.random() < p)) for _ in range(600)]
    strengths, first = strengths_of(verdicts)
    found = {s.arm: s for s in strengths}
    assert found["control"].log_odds == 0
    assert found["b"].log_odds == pytest.approx(0.847, abs=4 * found["b"].se)
    assert found["c"].log_odds == pytest.approx(-0.847, abs=4 * found["c"].se)
    assert first == pytest.approx(0.0, abs=0.05)


def test_strengths_need_three_arms_that_all_lost_once() -> None:
    assert strengths_of([verdict("b", 1.0), verdict("b", 0.0)]) == ((), None)
    assert strengths_of([verdict("b", 1.0)] * 5 + [verdict("c", 1.0)] * 5) == ((), None)
