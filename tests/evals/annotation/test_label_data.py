"""From rows of the store to weights, labels and sums."""

from __future__ import annotations

import pytest

from gateway.evals.annotation.label_data import designs_of, items_of, judged_of, labels_in, weights_of
from gateway.evals.annotation.sampling import place
from gateway.evals.store.labels_sums import JudgedSums

KEY = ("chat", "local/small", "", "default")


def row(id, labeller="ada", value=1.0, threshold=1.0, share=None, judged=0.8, created=1.0, **fields):
    return {
        "subject_id": id, "labeller": labeller, "value": value, "pool": "", "favour": 1.0, "threshold": threshold,
        "share": share, "horizon": 10.0, "judged": judged, "created": created, "experiment": "", "plan": None,
        "arm": "", "alias": "chat", "model": "local/small", "stratum": "default", **fields,
    }  # fmt: skip


def test_two_people_on_one_answer_are_one_item_and_skipping_is_none():
    items = items_of("s", [row("a"), row("a", "bob", 0.0), row("b", value=None)])
    (only,) = items
    assert (only.id, only.y, only.f, only.key, dict(only.by)) == ("a", 0.5, 0.8, KEY, {"ada": 1.0, "bob": 0.0})
    assert only.pi == 1.0


def test_what_no_draw_accounts_for_was_brought():
    """Its place lies beyond the threshold: nobody can have been shown it in order."""
    ids = sorted((f"i{n}" for n in range(50)), key=lambda i: place("s", i))
    reached = place("s", ids[10])
    items = items_of("s", [row(i, threshold=reached) for i in (*ids[:10], ids[-1])])
    by_id = {i.id: i.pi for i in items}
    assert by_id[ids[-1]] == 0.0
    assert [by_id[i] for i in ids[:10]] == pytest.approx([reached] * 10)
    assert labels_in(items, {KEY: 2.0}).n == 10


def test_a_share_drawn_by_others_counts_as_such():
    items = items_of("s", [row("a", threshold=None, share=0.2), row("b", threshold=None, share=0.2)])
    assert [i.pi for i in items] == [pytest.approx(0.2)] * 2


def test_each_way_of_drawing_is_listed_once():
    assert len(designs_of([row("a"), row("b"), row("c", threshold=0.5)])) == 2


def test_weights_are_calls_over_answers():
    cells = {
        KEY: JudgedSums(
            scored=8, responded=10, asked=12, total=4.0, squares=2.0, good=4, inverse_pi=120, population=100
        ),
        ("chat", "local/small", "", "error"): JudgedSums(5, 5, 5, 5.0, 5.0, 5, inverse_pi=5, population=5),
    }
    assert list(weights_of(cells).values()) == [10.0, 1.0]
    uncounted = {k: JudgedSums(c.scored, c.responded, c.asked, c.total, c.squares, c.good, c.inverse_pi)
                 for k, c in cells.items()}  # fmt: skip
    assert list(weights_of(uncounted).values()) == [12.0, 1.0]
    found = judged_of(cells)
    assert (found.n, found.weight, found.mean) == (13, 85.0, pytest.approx(45 / 85))
    assert found.variance == pytest.approx((20 + 5) / 85 - (45 / 85) ** 2)
    assert found.effective == pytest.approx(85**2 / (100 * 8 + 5))


def test_of_nothing_there_is_nothing():
    assert judged_of({}).n == 0
    assert weights_of({KEY: JudgedSums(0, 0, 3, 0.0, 0.0, 0, 3.0)}) == {KEY: 0.0}
