"""Labels in the store, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.evals.store.labels import (
    Label,
    ScorerVersion,
    anything_labelled,
    judged,
    labelled,
    labels_of,
    listed,
    save,
    scorers_seen,
    version_of,
    with_verdicts,
)

OF = ScorerVersion("said", "1", "c1", "exchange", "maximise")


def label(subject_id, value=1.0, labeller="ada", at=1.0, **fields):
    plain = Label(
        "said", "exchange", subject_id, labeller, value, None, None, "1", "c1", "", 1.0, 0.5, None, 1000.0, at
    )
    return replace(plain, **fields)


@pytest.fixture
def ids(store, exchange):
    sent = [exchange(text, experiment="swap" if text == "0" else None) for text in ("1", "0", "n/a", "error")]
    store.write(*sent)
    return [e.id for e in sent]


def test_what_was_scored_may_be_labelled(store, ids):
    rows = store.run(lambda c: judged(c, OF))
    assert {(r["id"], r["judged"], r["experiment"]) for r in rows} == {(ids[0], 1.0, ""), (ids[1], 0.0, "swap")}
    assert [r["id"] for r in store.run(lambda c: judged(c, OF, "swap"))] == [ids[1]]
    assert store.run(scorers_seen) == ["said"]
    assert store.run(lambda c: version_of(c, "said")) == OF
    assert store.run(lambda c: version_of(c, "other")) is None


def test_the_newest_word_of_one_person_on_one_subject_stays(store, ids):
    assert not store.run(anything_labelled)
    store.run(lambda c: save(c, [label(ids[0]), label(ids[0], labeller="bob"), label(ids[1], None)]))
    store.run(lambda c: save(c, [label(ids[0], 0.0, at=2.0, comment="no")]))
    store.run(lambda c: save(c, []))
    found = store.run(lambda c: labels_of(c, "said"))
    assert [(x.labeller, x.value, x.comment) for x in found if x.subject_id == ids[0]] == [
        ("bob", 1.0, None), ("ada", 0.0, "no"),
    ]  # fmt: skip
    assert store.sql("SELECT status, count(*) FROM labels GROUP BY status ORDER BY status") == [
        ("scored", 2), ("skipped", 1),
    ]  # fmt: skip
    assert store.run(lambda c: listed(c, None, 1))[0].at == 2.0
    assert store.run(lambda c: listed(c, "other", 5)) == []
    assert store.run(anything_labelled)


def test_a_label_stands_beside_what_the_scorer_said_of_the_same(store, ids):
    store.run(lambda c: save(c, [label(ids[0]), label(ids[1], 0.5, version="2"), label("gone")]))
    (row,) = store.run(lambda c: labelled(c, OF))
    assert (row["subject_id"], row["value"], row["judged"], row["model"]) == (ids[0], 1.0, 1.0, "local/small")
    assert (row["alias"], row["stratum"], row["arm"], row["pi"]) == ("chat", "default", "", 1.0)
    given = store.run(lambda c: labels_of(c, "said"))
    assert list(store.run(lambda c: with_verdicts(c, given)).values()) == [1.0]
