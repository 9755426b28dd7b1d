"""Records that were sent and never arrived are counted; records in progress are not."""

from __future__ import annotations

import random

import pytest

from gateway.store import ledger
from gateway.store.ledger import position


@pytest.mark.parametrize(("a", "b"), [("1-0", "2-0"), ("9-0", "10-0"), ("5-2", "5-10"), ("0-1", "1795571598872-0")])
def test_positions_sort_as_the_stream_does(a, b):
    assert position(a) < position(b)


def test_nothing_is_missing_when_all_came(store, exchange, tally):
    sent = [exchange() for _ in range(5)]
    store.write(*sent, tally(sent))
    assert store.close() == 0


def test_a_gap_is_a_loss(store, exchange, tally):
    sent = [exchange() for _ in range(5)]
    store.write(*sent[:3], tally(sent))
    assert store.close() == 2


def test_a_mark_after_the_watermark_stays_open(store, exchange, tally):
    sent = [exchange() for _ in range(5)]
    store.write(tally(sent))
    assert store.run(lambda c: ledger.close_marks(c, {0: "1-0"})) == 0
    store.write(*sent)
    assert store.close() == 0


def test_a_dead_letter_is_accounted_for(store, exchange, tally):
    sent = [exchange() for _ in range(3)]
    store.write(*sent[:2])
    store.dead_letter(sent[2])
    store.write(tally(sent))
    assert store.close() == 0


def test_a_record_that_counted_as_lost_is_found_when_it_comes(store, exchange, tally):
    sent = [exchange() for _ in range(3)]
    store.write(*sent[:2], tally(sent))
    assert store.close() == 1
    store.write(sent[2])
    assert store.close() == 0
    store.write(sent[2])
    assert store.close() == 0


def test_records_since_the_last_tally_do_not_hide_a_loss(store, exchange, tally):
    first = [exchange() for _ in range(4)]
    store.write(*first[1:], tally(first))
    store.write(*[exchange() for _ in range(10)])
    assert store.close() == 1


def test_every_process_has_its_own_ledger(store, exchange, tally):
    ours = [exchange() for _ in range(3)]
    theirs = [exchange(incarnation="g2") for _ in range(4)]
    store.write(*ours, *theirs[:2], tally(ours), tally(theirs))
    assert store.close() == 2


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_events_ends_at_the_true_loss(store, exchange, tally, seed):
    rng = random.Random(seed)
    sent, lost = [], 0
    for _ in range(60):
        one = exchange()
        sent.append(one)
        fate = rng.random()
        if fate < 0.1:
            lost += 1
        elif fate < 0.2:
            store.dead_letter(one)
        elif fate < 0.3:
            store.write(one, one)
        else:
            store.write(one)
        if rng.random() < 0.3:
            store.write(tally(sent))
        if rng.random() < 0.3:
            assert store.close() <= lost
    store.write(tally(sent))
    assert store.close() == lost
    assert store.close() == lost


def test_closed_marks_do_not_pile_up(store, exchange, tally):
    sent = [exchange()]
    for _ in range(10):
        store.write(*sent, tally(sent))
    store.close()
    assert store.sql("SELECT count(*) FROM marks") == [(0,)]
