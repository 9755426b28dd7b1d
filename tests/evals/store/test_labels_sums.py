"""Sums over everything a scorer judged, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from gateway.evals.store.labels import ScorerVersion
from gateway.evals.store.labels_sums import ScoreSelection, flips, judged_after, sums
from gateway.evals.store.tables_experiments import pair_scores

OF = ScorerVersion("said", "1", "c1", "exchange", "maximise")
PAIRS = ScorerVersion("said", "1", "c1", "pair", "maximise")


@pytest.fixture
def filled(store, exchange, tally):
    sent = [exchange(t, pi=0.5, arm="control", experiment="swap", plan="p") for t in ("1", "0.5", "0", "n/a", "error")]
    sent += [exchange("1", stratum="slow")]
    store.write(*sent, tally(sent, {"default": 40, "slow": 1}))
    return store


def test_of_each_kind_of_traffic(filled):
    found = filled.run(lambda c: sums(c, OF, ScoreSelection(), 0.5))
    cell = found["chat", "local/small", "control", "default"]
    assert (cell.scored, cell.responded, cell.asked, cell.good) == (3, 4, 5, 2)
    assert (cell.total, cell.squares, cell.inverse_pi) == (1.5, 1.25, 10.0)
    assert cell.population == 40
    assert found["chat", "local/small", "", "slow"].population == 1


def test_of_a_part(filled):
    found = filled.run(lambda c: sums(c, OF, ScoreSelection("swap", "p", "control"), 1.0))
    (cell,) = found.values()
    assert (cell.good, cell.population) == (1, 0), "Tallies know no experiments"
    assert filled.run(lambda c: sums(c, OF, ScoreSelection("other"), 0.5)) == {}


def test_what_was_judged_since(filled):
    assert filled.run(lambda c: judged_after(c, OF, 0.0)) == 4
    assert filled.run(lambda c: judged_after(c, OF, 1e12)) == 0


def test_of_pairs_with_their_flips(store):
    plain = {"experiment": "swap", "plan": "p", "scorer": "said", "version": "1", "config_hash": "c1", "kind": "llm",
             "direction": "maximise", "seconds": 0.1, "created": 5.0}  # fmt: skip
    said = [
        ("candidate", 1.0, "scored", '{"flip": 0.0, "first_slot": 1.0}'),
        ("candidate", 0.5, "scored", '{"flip": 1.0}'),
        ("candidate", None, "error", None),
        ("repeat", 0.5, "scored", '{"flip": 1.0, "first_slot": 0.5}'),
    ]
    rows = [{**plain, "score_id": f"s{i}", "pair": f"a{i}", "exchange_id": f"b{i}", "arm": arm, "value": v, "status": s,
             "detail": d} for i, (arm, v, s, d) in enumerate(said)]  # fmt: skip
    store.run(lambda c: c.execute(insert(pair_scores), rows))
    (cell,) = store.run(lambda c: sums(c, PAIRS, ScoreSelection(), 0.5)).values()
    assert (cell.scored, cell.asked, cell.total, cell.good) == (2, 3, 1.5, 2)
    assert sorted(store.run(lambda c: flips(c, PAIRS, ScoreSelection())), key=str) == [
        (0.0, 1.0),
        (1.0, 0.5),
        (1.0, None),
    ]
    assert store.run(lambda c: judged_after(c, PAIRS, 1.0)) == 3
