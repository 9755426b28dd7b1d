"""The ledger in sums: every line adds up, and everything that is lost has its name."""

from __future__ import annotations

from gateway.core.exchange import Count
from gateway.evals.store import loss_accounting
from gateway.evals.store.delivery import Delivery, delivery
from gateway.stream.types import ShardSnapshot, TrimmedEntries


def test_an_empty_store_stands_at_nothing(store):
    assert store.run(delivery) == Delivery(lost={})


def test_every_line_adds_up(store, exchange, tally):
    sent = [exchange("1") for _ in range(6)]
    cell = {"stratum": "default", "alias": "chat", "target": "local/small", "arm": ""}
    said = tally(
        sent[:5],
        seen={"default": 20}, sampled=(Count(**cell, n=9),),
        unsampled=(Count(**cell, n=8, reason="not_drawn"), Count(**cell, n=3, reason="opted_out")),
        dropped=(Count(**cell, n=2, reason="buffer_full"),),
    )  # fmt: skip
    store.write(*sent[:3], said)
    store.bury(sent[3])
    assert store.close() == 1
    d = store.run(delivery)
    assert (d.seen, d.unsampled, d.sampled) == (20, {"not_drawn": 8, "opted_out": 3}, 9)
    assert d.seen == sum(d.unsampled.values()) + d.sampled
    assert (d.dropped, d.enqueued, d.waiting) == ({"buffer_full": 2}, 5, 2)
    assert (d.settled, d.unaccounted, d.in_flight, d.lost) == (4, 1, 0, {})
    assert d.buried == {"unreadable": 1}
    assert d.scores == {"said": {"scored": 3}}


def test_what_is_not_closed_yet_is_in_flight(store, exchange, tally):
    sent = [exchange("1") for _ in range(4)]
    store.write(*sent[:2], tally(sent))
    assert store.run(delivery).in_flight == 4
    store.write(*sent[2:])
    store.close()
    d = store.run(delivery)
    assert (d.settled, d.in_flight) == (4, 0)


def test_what_has_a_cause_is_lost_by_its_name(store, exchange, tally):
    sent = [exchange("1") for _ in range(5)]
    store.write(*sent[:3], tally(sent))
    look = ShardSnapshot(
        settled="9-0", run_id="a", asked_ms=1, answered_ms=9, trimmed=TrimmedEntries(2, f"{store.entries}-0")
    )
    store.run(lambda c: loss_accounting.note(c, {0: look}))
    assert store.close() == 0
    d = store.run(delivery)
    assert (d.lost, d.unaccounted, d.in_flight) == ({"trimmed": 2}, 0, 0)
