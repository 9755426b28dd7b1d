"""What lies on a labeller's desk, and what becomes of a verdict."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from gateway.evals.annotation.desk import Desk, LabelRequest
from gateway.evals.annotation.newest import NothingScored
from gateway.evals.annotation.record import keep as save
from gateway.evals.annotation.sampling import EVERYTHING
from gateway.evals.annotation.verdict_words import LabelVerdict, verdict
from gateway.evals.store import engine
from gateway.evals.store.labels import labelled_pairs, labels_of
from gateway.evals.store.query import reading
from gateway.evals.store.tables_experiments import pair_scores

GOOD = LabelVerdict(1.0, "good")


@pytest.fixture
def url(keep, exchange):
    return keep([exchange(f"{int(i % 3 > 0)} answer {i}") for i in range(12)])


@pytest.fixture
def label(url):
    """Labels so many for somebody; returns the labels."""

    def give(count, labeller="ada", said=GOOD, **wish):
        made = []
        with reading(url) as connection:
            desk = Desk(connection, LabelRequest("said", labeller, **wish), clock=lambda: 5.0)
            for _ in range(count):
                drawn = desk.next(connection)
                assert drawn is not None
                made.append(desk.label(drawn, said))
        save(url, made)
        return made

    return give


def test_each_item_comes_once_until_none_is_left(url, label):
    made = label(12)
    assert len({m.subject_id for m in made}) == 12
    assert [m.threshold for m in made] == sorted(m.threshold for m in made)
    assert made[-1].threshold == EVERYTHING
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("said", "ada"))
        assert (desk.judged, desk.left, desk.next(connection)) == (12, 0, None)
        assert [(x.value, x.at, x.labeller) for x in labels_of(connection, "said")] == [(1.0, 5.0, "ada")] * 12


def test_whoever_comes_next_goes_on_where_the_other_was(label):
    first, then = label(5), label(4, "bob")
    assert not {m.subject_id for m in first} & {m.subject_id for m in then}
    assert then[0].threshold > first[-1].threshold


def test_again_is_what_others_have_labelled_with_the_same_design(label):
    first = label(5)
    again = label(3, "bob", again=True)
    by_id = {m.subject_id: m.threshold for m in first}
    assert [m.threshold for m in again] == [by_id[m.subject_id] for m in again]
    assert len({m.id for m in (*first, *again)}) == 8


def test_skipped_counts_as_seen(label):
    first = label(3, said=LabelVerdict(None))
    assert not {m.subject_id for m in first} & {m.subject_id for m in label(9)}


def test_what_the_scorer_calls_bad_may_be_favoured(label):
    made = label(4, favour=1000.0)
    assert {m.favour for m in made} == {1000.0}
    assert all(m.threshold <= 1.0 for m in made[:3]), "the four bad ones come first"


def test_a_sheet_notes_nothing_before_it_comes_back(url):
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("said", "ada"))
        sheet = desk.sheet(connection, 5)
        assert [b.id for b in sheet] == [b.id for b in desk.sheet(connection, 5)]
        assert len(desk.sheet(connection, 100)) == 12


def test_a_sheet_filled_without_gaps_is_a_draw_in_order_and_one_with_gaps_reaches_to_the_gap(url):
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("said", "ada"))
        ids = [b.id for b in desk.sheet(connection, 6)]
        whole = desk.brought([(i, GOOD, "") for i in ids], None)
        desk = Desk(connection, LabelRequest("said", "ada"))
        gap = desk.brought([(i, GOOD, "bob") for i in (*ids[:2], *ids[3:])], None)
        desk = Desk(connection, LabelRequest("said", "ada"))
        random = desk.brought([(ids[4], GOOD, "")], 0.25)
    assert len({m.threshold for m in whole}) == 1
    assert gap[0].threshold < whole[0].threshold
    assert {m.labeller for m in gap} == {"bob"}
    assert (random[0].threshold, random[0].share) == (None, 0.25)


def test_another_version_of_the_scorer_begins_anew(url, label, keep, exchange):
    label(12)
    keep([exchange("1") for _ in range(3)], now=2000.0, config_hash="c2")
    with reading(url) as connection:
        assert Desk(connection, LabelRequest("said", "ada")).left == 3


def test_a_scorer_that_judged_nothing_is_named_with_those_that_did(url):
    with reading(url) as connection:
        with pytest.raises(NothingScored, match='scorer "sayd" has judged nothing yet; these have: said'):
            Desk(connection, LabelRequest("sayd", "ada"))
        with pytest.raises(ValueError, match="favour is 0"):
            Desk(connection, LabelRequest("said", "ada", favour=0.0))


def test_pairs_are_shown_blind_and_the_verdict_is_of_the_second_answer(keep, exchange):
    """Whichever answer a labeller calls better as shown, the label prefers the arm that gave it."""
    url = keep([e for i in range(8) for e in couple(exchange, i)], name="other")
    plain = {"experiment": "swap", "plan": "p", "arm": "candidate", "scorer": "said", "version": "1",
             "config_hash": "c1", "kind": "llm", "direction": "maximise", "status": "scored", "value": 1.0,
             "seconds": 0.1, "created": 5.0}  # fmt: skip
    rows = [{**plain, "score_id": f"s{i}", "pair": f"a{i}", "exchange_id": f"b{i}"} for i in range(8)]
    opened = engine.writer(url)
    with opened.begin() as connection:
        connection.execute(insert(pair_scores), rows)
    opened.dispose()
    with reading(url) as connection:
        desk = Desk(connection, LabelRequest("said", "ada"))
        assert (desk.of.subject, desk.judged) == ("pair", 8)
        turned = set()
        for _ in range(8):
            drawn = desk.next(connection)
            place = drawn.blind.answers.index("1 by the candidate") + 1
            turned.add(place)
            label = desk.label(drawn, verdict(str(place), "pair", turned=drawn.blind.turned))
            assert (label.value, label.label, label.subject) == (1.0, "b", "pair")
    assert turned == {1, 2}, "in both orders"
    save(url, [label])
    with reading(url) as connection:
        (row,) = labelled_pairs(connection, desk.of)
    assert (row["value"], row["judged"], row["arm"]) == (1.0, 1.0, "candidate")


def couple(exchange, i):
    fields = {"experiment": "swap", "plan": "p"}
    return (
        exchange("0 by the control", id=f"a{i}", arm="control", **fields),
        exchange("1 by the candidate", id=f"b{i}", pair=f"a{i}", arm="candidate", role="shadow", **fields),
    )
