"""Stored exchanges as they were recorded, page by page, and scores that arrive later, on both databases."""

from __future__ import annotations

import time
from dataclasses import fields, replace

from gateway.core.exchange import Attempt, Target, Usage
from gateway.store.missing_scores import add_late_scores, cell_of, complete_population, places, stored_exchanges
from gateway.store.query import ExchangeFilter
from gateway.store.rows import score_id_of

PLACE = ("chat", "local/small", "", "default")
NOT_STORED = {"asked", "not_asked", "v"}


def test_an_exchange_comes_back_as_it_was_recorded(store, exchange):
    attempts = (
        Attempt(Target("local", "small"), 503, "error", 0.1),
        Attempt(Target("b", "m"), 200, None, 1.0, Usage(3, 5, 1, 2)),
    )
    response = b'{"choices":[{"message":{"content":"1"},"finish_reason":"stop"}]}'
    sent = exchange(response=response, attempts=attempts, usage=Usage(3, 5, 1, 2), reference="one", client_id="c",
                    upstream_id="u", first_token_s=0.2, experiment="x", plan="p", arm="b", cluster="k",
                    score_rate=0.5)  # fmt: skip
    store.write(sent)
    (found,) = store.run(lambda c: stored_exchanges(c, [sent.id]))
    for each in fields(sent):
        if each.name not in NOT_STORED:
            assert getattr(found.exchange, each.name) == getattr(sent, each.name), each.name


def test_pages_have_every_exchange_once_with_what_is_settled(store, exchange):
    sent = [exchange(text, received=1000.0 + at // 3) for at, text in enumerate(["1", "error", "n/a"] * 200)]
    store.write(*sent)
    found, after = [], None
    while page := store.run(lambda c, a=after: places(c, ExchangeFilter(0, since=1100.0), time.time(), a)):
        found += page
        after = page[-1].received, page[-1].id
    assert sorted(p.id for p in found) == sorted(e.id for e in sent)
    assert {p.selected for p in found if p.received < 1100} == {False}
    assert {p.selected for p in found if p.received >= 1100} == {True}
    texts = {e.id: i % 3 for i, e in enumerate(sent)}
    assert all(bool(p.settled) == (texts[p.id] != 1) for p in found)
    assert {p.place for p in found} == {PLACE}


def test_a_call_kept_for_its_run_only_has_no_place(store, exchange):
    alone, scored = exchange("1", u=0.1, score_rate=0.1), exchange("1", u=0.1, score_rate=0.2)
    store.write(alone, scored)
    assert [p.id for p in store.run(lambda c: places(c, ExchangeFilter(0), time.time(), None))] == [scored.id]


def test_an_exchange_without_bodies_is_not_read(store, exchange):
    sent = exchange("1")
    store.write(sent)
    store.run(lambda c: c.exec_driver_sql("UPDATE exchanges SET bytes = 0"))
    assert store.run(lambda c: stored_exchanges(c, [sent.id])) == []
    (place,) = store.run(lambda c: places(c, ExchangeFilter(0), time.time(), None))
    assert not place.readable


def test_a_failed_result_of_an_import_is_replaced_and_counts_nowhere(store, exchange):
    failed = exchange("timeout", role="imported", pi=None, stratum="imported")
    store.write(failed)
    cell = cell_of("stated", store.scorers["stated"], ("chat", "local/small", "", "imported"))
    again = store.judged(replace(failed, response=failed.response.replace(b'"timeout"', b'"1"')))
    added = store.run(lambda c: add_late_scores(c, [again], store.scorers, {cell: 1}, 9.0))
    store.run(lambda c: complete_population(c, [cell]))
    assert added.new[cell] == 1
    assert store.sql("SELECT status, value, pi FROM scores") == [("scored", 1.0, None)]
    assert store.sql("SELECT count(*) FROM score_cells") == [(0,)]


def test_a_result_that_failed_is_replaced_and_a_settled_one_stays(store, exchange, tally):
    failed, settled = exchange("timeout"), exchange("1")
    store.write(failed, settled, tally([failed, settled], seen={"default": 20}))
    of = store.scorers["stated"]
    cell = cell_of("stated", of, PLACE)

    def judged(e, text):
        return store.judged(replace(e, response=e.response.replace(b'"timeout"', text).replace(b'"1"', text)))

    late = [judged(failed, b'"0.5"'), judged(settled, b'"0"')]
    added = store.run(lambda c: add_late_scores(c, late, store.scorers, {cell: 1}, time.time()))
    assert (dict(added.new), dict(added.present)) == ({cell: 1}, {cell: 1})
    only = store.cell()
    assert (only.n["scored"], only.n["timeout"], only.total, only.inverse_pi) == (2, 0, 1.5, 2.0)
    assert only.population == 20
    found = dict(store.sql("SELECT score_id, value FROM scores"))
    assert found == {score_id_of(e.id, "stated", "1", "c1"): v for e, v in ((failed, 0.5), (settled, 1.0))}


def test_the_score_of_a_deleted_exchange_is_not_stored(store, exchange):
    gone = exchange("1")
    added = store.run(lambda c: add_late_scores(c, [store.judged(gone)], store.scorers, {}, time.time()))
    assert not added.new
    assert store.sql("SELECT count(*) FROM scores") == [(0,)]


def test_each_score_brings_its_part_of_the_population(store, exchange, tally, stated_scorer):
    sent = [exchange("1") for _ in range(4)]
    store.write(*sent, tally(sent, seen={"default": 43}))
    store.scorers["late"] = stated_scorer(name="late")
    cell = cell_of("late", store.scorers["late"], PLACE)
    grown = []
    for at, each in enumerate(sent):
        late = [store.judged(each, "late")]
        store.run(lambda c, j=late, n=4 - at: add_late_scores(c, j, store.scorers, {cell: n}, time.time()))
        grown += store.sql("SELECT population FROM score_cells WHERE scorer = 'late'")[0]
    assert grown == [10, 21, 32, 43]


def test_a_cell_of_which_nothing_was_drawn_has_its_population(store, exchange, tally, stated_scorer):
    sent = exchange("1")
    store.write(sent, tally([sent], seen={"default": 7}))
    cell = cell_of("late", stated_scorer(name="late"), PLACE)
    for _ in range(2):
        store.run(lambda c: complete_population(c, [cell]))
    assert store.sql("SELECT population, n_scored FROM score_cells WHERE scorer = 'late'") == [(7, 0)]
