"""Labels in the store, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import insert

from gateway.features.labels.rows import (
    Label,
    ScorerVersion,
    ScoreSelection,
    anything_labelled,
    judged_after,
    judged_sums,
    labels_of,
    labels_with_scores,
    newest_labels,
    order_flips,
    save_labels,
    scored_items,
    scorers_seen,
    scores_by_label,
    version_of,
)
from gateway.store.tables import pair_scores

OF = ScorerVersion("stated", "1", "c1", "exchange", "maximise")


def label(subject_id, value=1.0, labeller="ada", at=1.0, **fields):
    plain = Label(
        "stated", "exchange", subject_id, labeller, value, None, None, "1", "c1", "", 1.0, 0.5, None, 1000.0, at
    )
    return replace(plain, **fields)


@pytest.fixture
def ids(store, exchange):
    """The ids of four stored exchanges: two scored, one to which the scorer does not apply, and one failed."""
    sent = [exchange(text, experiment="swap" if text == "0" else None) for text in ("1", "0", "n/a", "error")]
    store.write(*sent)
    return [e.id for e in sent]


def test_scored_items_may_be_labelled(store, ids):
    rows = store.run(lambda c: scored_items(c, OF))
    assert {(r["id"], r["judged"], r["experiment"]) for r in rows} == {(ids[0], 1.0, ""), (ids[1], 0.0, "swap")}
    assert [r["id"] for r in store.run(lambda c: scored_items(c, OF, "swap"))] == [ids[1]]
    assert store.run(scorers_seen) == ["stated"]
    assert store.run(lambda c: version_of(c, "stated")) == OF
    assert store.run(lambda c: version_of(c, "other")) is None


def test_the_newest_word_of_one_person_on_one_subject_stays(store, ids):
    assert not store.run(anything_labelled)
    store.run(lambda c: save_labels(c, [label(ids[0]), label(ids[0], labeller="bob"), label(ids[1], None)]))
    store.run(lambda c: save_labels(c, [label(ids[0], 0.0, at=2.0, comment="no")]))
    store.run(lambda c: save_labels(c, []))
    found = store.run(lambda c: labels_of(c, "stated"))
    assert [(x.labeller, x.value, x.comment) for x in found if x.subject_id == ids[0]] == [
        ("bob", 1.0, None),
        ("ada", 0.0, "no"),
    ]
    assert store.sql("SELECT status, count(*) FROM labels GROUP BY status ORDER BY status") == [
        ("scored", 2),
        ("skipped", 1),
    ]
    assert store.run(lambda c: newest_labels(c, None))[0].at == 2.0
    assert store.run(lambda c: newest_labels(c, "other")) == []
    assert store.run(anything_labelled)


def test_a_label_is_paired_with_the_scorers_own_score(store, ids):
    store.run(lambda c: save_labels(c, [label(ids[0]), label(ids[1], 0.5, version="2"), label("gone")]))
    (row,) = store.run(lambda c: labels_with_scores(c, OF))
    assert (row["subject_id"], row["value"], row["judged"], row["model"]) == (ids[0], 1.0, 1.0, "local/small")
    assert (row["alias"], row["stratum"], row["arm"], row["pi"]) == ("chat", "default", "", 1.0)
    given = store.run(lambda c: labels_of(c, "stated"))
    assert list(store.run(lambda c: scores_by_label(c, given)).values()) == [1.0]


OF = ScorerVersion("stated", "1", "c1", "exchange", "maximise")
PAIRS = ScorerVersion("stated", "1", "c1", "pair", "maximise")


@pytest.fixture
def filled(store, exchange, tally):
    """A store with five exchanges of an experiment and one of another stratum, and their tally."""
    sent = [exchange(t, pi=0.5, arm="control", experiment="swap", plan="p") for t in ("1", "0.5", "0", "n/a", "error")]
    sent += [exchange("1", stratum="slow")]
    store.write(*sent, tally(sent, {"default": 40, "slow": 1}))
    return store


def test_sums_are_by_kind_of_traffic(filled):
    found = filled.run(lambda c: judged_sums(c, OF, ScoreSelection(), 0.5))
    cell = found["chat", "local/small", "control", "default"]
    assert (cell.scored, cell.responded, cell.asked, cell.good) == (3, 4, 5, 2)
    assert (cell.total, cell.squares, cell.inverse_pi) == (1.5, 1.25, 10.0)
    assert cell.population == 40
    assert found["chat", "local/small", "", "slow"].population == 1


def test_sums_of_a_part_are_selected(filled):
    found = filled.run(lambda c: judged_sums(c, OF, ScoreSelection("swap", "p", "control"), 1.0))
    (cell,) = found.values()
    assert (cell.good, cell.population) == (1, 0), "Tallies know no experiments"
    assert filled.run(lambda c: judged_sums(c, OF, ScoreSelection("other"), 0.5)) == {}


def test_scores_judged_since_a_time(filled):
    assert filled.run(lambda c: judged_after(c, OF, 0.0)) == 4
    assert filled.run(lambda c: judged_after(c, OF, 1e12)) == 0


def test_sums_of_pairs_have_their_flips(store):
    plain = {"experiment": "swap", "plan": "p", "scorer": "stated", "version": "1", "config_hash": "c1", "kind": "llm",
             "direction": "maximise", "seconds": 0.1, "created": 5.0}  # fmt: skip
    rows = [
        ("candidate", 1.0, "scored", '{"flip": 0.0, "first_slot": 1.0}'),
        ("candidate", 0.5, "scored", '{"flip": 1.0}'),
        ("candidate", None, "error", None),
        ("repeat", 0.5, "scored", '{"flip": 1.0, "first_slot": 0.5}'),
    ]
    rows = [{**plain, "score_id": f"s{i}", "pair": f"a{i}", "exchange_id": f"b{i}", "arm": arm, "value": v, "status": s,
             "detail": d} for i, (arm, v, s, d) in enumerate(rows)]  # fmt: skip
    store.run(lambda c: c.execute(insert(pair_scores), rows))
    (cell,) = store.run(lambda c: judged_sums(c, PAIRS, ScoreSelection(), 0.5)).values()
    assert (cell.scored, cell.asked, cell.total, cell.good) == (2, 3, 1.5, 2)
    assert sorted(store.run(lambda c: order_flips(c, PAIRS, ScoreSelection())), key=str) == [
        (0.0, 1.0),
        (1.0, 0.5),
        (1.0, None),
    ]
    assert store.run(lambda c: judged_after(c, PAIRS, 1.0)) == 3
