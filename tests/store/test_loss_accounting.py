"""Causes of losses: incidents of the stream between the two tallies around a gap; without a cause: alarm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.consumer.consumer import ConsumerTiming
from gateway.core.exchange import Count, Tally
from gateway.proxy.recording.recorder import IDLE_TALLIES, TALLY_S
from gateway.store import ledger, loss_accounting
from gateway.store.loss_accounting import GATEWAY_LOST, STREAM_LOST, TRIMMED, Delivery, delivery
from gateway.stream.types import ShardSnapshot, TrimmedEntries

MS = 1_000_000  # the server's time in these tests begins here, in Unix milliseconds


def look(
    at_ms: int, run_id: str = "a", settled: str | None = None, trimmed: TrimmedEntries | None = None
) -> ShardSnapshot:
    return ShardSnapshot(settled or f"{MS + at_ms}-0", run_id, MS + at_ms, MS + at_ms, trimmed or TrimmedEntries())


class Shore:
    """The consumer's work with the store at each tick, with entries at times of the test's choice."""

    def __init__(self, store) -> None:
        self.store = store

    def write(self, at_ms: int, *records) -> None:
        entry, self.store.entry = self.store.entry, lambda: f"{MS + at_ms}-0"
        self.store.write(*records)
        self.store.entry = entry

    def tick(self, seen: ShardSnapshot, silent_ms: int = 60_000) -> int:
        def closing(connection) -> int:
            settled = {0: seen.settled}
            loss_accounting.add_incidents(connection, {0: seen})
            ledger.close_marks(connection, settled)
            ledger.close_silent(connection, settled, silent_ms)
            loss_accounting.explain_gaps(connection)
            return loss_accounting.unaccounted(connection)

        return self.store.run(closing)

    def lost(self) -> dict[str, int]:
        return {reason: n for reason, n in self.store.run(loss_accounting.lost_by_reason).items() if n}


@pytest.fixture
def shore(store) -> Shore:
    """The store, with the losses that it accounts for."""
    return Shore(store)


def test_a_gap_across_a_server_restart_is_stream_lost(shore, exchange, tally):
    sent = [exchange() for _ in range(10)]
    shore.write(100, *sent[:4], tally(sent[:4]))
    assert shore.tick(look(1_000)) == 0
    shore.write(9_000, *sent[7:], tally(sent))
    assert shore.tick(look(10_000, run_id="b")) == 0
    assert shore.lost() == {STREAM_LOST: 3}


def test_a_restart_explains_no_gap_older_than_its_fsync(shore, exchange, tally):
    """A server cannot have lost what it had for longer than its fsync interval."""
    sent = [exchange() for _ in range(10)]
    shore.write(100, tally(sent[:1]), sent[0])
    shore.write(2_000, *sent[3:5], tally(sent[:5]))
    assert shore.tick(look(10_000)) == 2
    shore.write(20_000, *sent[5:], tally(sent))
    assert shore.tick(look(21_000, run_id="b")) == 2, "and later it is unaccounted for still"
    assert shore.lost() == {}


def test_a_gap_where_entries_were_trimmed_unread_is_the_trimming(shore, exchange, tally):
    sent = [exchange() for _ in range(6)]
    shore.write(100, sent[0], tally(sent[:1]))
    shore.write(5_000, *sent[4:], tally(sent))
    assert shore.tick(look(6_000, trimmed=TrimmedEntries(3, f"{MS + 4_900}-0"))) == 0
    assert shore.lost() == {TRIMMED: 3}


def test_a_loss_is_never_explained_by_another_shard(shore, exchange, tally):
    sent = [exchange() for _ in range(6)]
    shore.write(100, *sent[:1], tally(sent[:1]))
    shore.write(1_000, *sent[3:], tally(sent))
    assert shore.tick(look(2_000)) == 2
    shore.tick(look(60_000, trimmed=TrimmedEntries(9, f"{MS + 50_000}-0")))
    assert shore.tick(look(90_000, run_id="b")) == 2


def test_records_that_a_killed_gateway_kept_are_gateway_lost(shore, exchange, tally):
    sent = [exchange() for _ in range(8)]
    shore.write(100, *sent[:3], tally(sent[:3], sampled=tally(sent).sampled))
    assert shore.tick(look(30_000)) == 0
    assert shore.lost() == {}, "it may be slow, and not dead"
    assert shore.tick(look(60_200)) == 0
    assert shore.lost() == {GATEWAY_LOST: 5}


def test_an_idle_gateway_lives_with_three_of_four_tallies_lost(shore, exchange, tally):
    """Consumers close what is silent for 60 s, those of earlier versions too: an idle gateway appends each 15 s."""
    sent = [exchange() for _ in range(8)]
    idle_ms, silent_ms = int(1_000 * IDLE_TALLIES * TALLY_S), ConsumerTiming().silent_ms
    assert (4 * idle_ms, silent_ms) == (60_000, 60_000)
    shore.write(0, *sent[:3], tally(sent[:3], sampled=tally(sent).sampled))
    for turn in range(1, 6):
        for at_ms in range(4 * idle_ms * (turn - 1) + 1_000, 4 * idle_ms * turn, 1_000):
            assert shore.tick(look(at_ms), silent_ms) == 0
        assert shore.lost() == {}, "the five records may still wait in its buffer"
        shore.write(4 * idle_ms * turn - 1, Tally(sent[0].incarnation, 1.0, 3))
    assert shore.tick(look(4 * idle_ms * 6), silent_ms) == 0
    assert shore.lost() == {GATEWAY_LOST: 5}, "it is silent now"


@pytest.mark.parametrize("found_ms", [2_000, 100_000], ids=["at once", "after it was declared dead"])
def test_records_after_the_last_tally_are_named_once_found(shore, exchange, tally, found_ms):
    """The process that follows it on the same data directory reports how many records there were."""
    sent = [exchange() for _ in range(9)]
    shore.write(100, *sent[:3], tally(sent[:3], sampled=tally(sent[:4]).sampled), *sent[3:5])
    if found_ms > 60_200:
        assert shore.tick(look(60_200)) == 0
        assert shore.lost() == {}, "all that it had announced came"
    shore.write(found_ms, Tally(sent[0].incarnation, 1.0, 0, taken=9))
    assert shore.tick(look(found_ms + 1_000)) == 0
    assert shore.tick(look(found_ms + 60_200)) == 0
    assert shore.lost() == {GATEWAY_LOST: 4}


def test_silence_counts_from_the_moment_when_a_fail_over_ends(shore, exchange, tally):
    """No gateway could append while no primary took entries: what comes next proves no death."""
    sent = [exchange() for _ in range(8)]
    shore.write(100, *sent[:3], tally(sent[:3], sampled=tally(sent).sampled))
    assert shore.tick(look(1_000)) == 0
    assert shore.tick(look(90_000, run_id="b")) == 0
    assert shore.tick(look(149_000, run_id="b")) == 0
    assert shore.lost() == {}, "it has had less than a minute to speak"
    assert shore.tick(look(150_100, run_id="b")) == 0
    assert shore.lost() == {GATEWAY_LOST: 5}


def test_records_after_its_last_tally_are_not_lost(shore, exchange, tally):
    sent = [exchange() for _ in range(8)]
    shore.write(100, *sent[:3], tally(sent[:3], sampled=tally(sent).sampled))
    shore.write(200, *sent[3:6])
    shore.tick(look(61_000))
    assert shore.lost() == {GATEWAY_LOST: 2}


def test_a_process_declared_dead_that_returns_lost_nothing(shore, exchange, tally):
    sent = [exchange() for _ in range(8)]
    shore.write(100, *sent[:3], tally(sent[:3], sampled=tally(sent).sampled))
    shore.tick(look(61_000))
    shore.write(70_000, *sent[3:], tally(sent))
    assert shore.tick(look(71_000)) == 0
    assert shore.lost() == {}


def test_one_that_stopped_in_order_is_never_taken_for_dead(shore, exchange, tally):
    sent = [exchange() for _ in range(3)]
    shore.write(100, *sent, tally(sent, final=True))
    shore.tick(look(3_600_000))
    assert shore.lost() == {}


def test_a_record_that_comes_late_is_not_lost_any_more(shore, exchange, tally):
    sent = [exchange() for _ in range(5)]
    shore.write(100, sent[0], tally(sent[:1]))
    shore.tick(look(1_000))
    shore.write(9_000, *sent[3:], tally(sent))
    shore.tick(look(10_000, run_id="b"))
    assert shore.lost() == {STREAM_LOST: 2}
    shore.write(11_000, sent[1])
    assert shore.lost() == {STREAM_LOST: 1}
    shore.write(12_000, sent[2])
    assert shore.lost() == {}


def test_an_unreachable_shard_is_left_out(store, exchange, tally):
    sent = [exchange() for _ in range(3)]
    entry, store.entry = store.entry, lambda: "100-0@3"
    store.write(tally(sent))
    store.entry = entry
    assert store.run(lambda c: ledger.close_marks(c, {0: "999999-0", 1: "999999-0"})) == 0
    assert store.run(lambda c: ledger.close_marks(c, {3: "999999-0"})) == 3


def test_an_empty_store_has_empty_sums(store):
    assert store.run(delivery) == Delivery(lost={})


def test_every_line_adds_up(store, exchange, tally):
    sent = [exchange("1") for _ in range(6)]
    cell = {"stratum": "default", "alias": "chat", "target": "local/small", "arm": ""}
    last = tally(
        sent[:5],
        seen={"default": 20}, sampled=(Count(**cell, n=9),),
        unsampled=(Count(**cell, n=8, reason="not_drawn"), Count(**cell, n=3, reason="opted_out")),
        dropped=(Count(**cell, n=2, reason="buffer_full"),),
    )  # fmt: skip
    store.write(*sent[:3], last)
    store.dead_letter(sent[3])
    assert store.close() == 1
    d = store.run(delivery)
    assert (d.seen, d.unsampled, d.sampled) == (20, {"not_drawn": 8, "opted_out": 3}, 9)
    assert d.seen == sum(d.unsampled.values()) + d.sampled
    assert (d.dropped, d.enqueued, d.waiting) == ({"buffer_full": 2}, 5, 2)
    assert (d.settled, d.unaccounted, d.in_flight, d.lost) == (4, 1, 0, {})
    assert d.buried == {"unreadable": 1}
    assert d.scores == {"stated": {"scored": 3}}


def test_entries_of_an_open_ledger_are_in_flight(store, exchange, tally):
    sent = [exchange("1") for _ in range(4)]
    store.write(*sent[:2], tally(sent))
    assert store.run(delivery).in_flight == 4
    store.write(*sent[2:])
    store.close()
    d = store.run(delivery)
    assert (d.settled, d.in_flight) == (4, 0)


def test_a_loss_with_a_cause_is_counted_by_reason(store, exchange, tally):
    sent = [exchange("1") for _ in range(5)]
    store.write(*sent[:3], tally(sent))
    look = ShardSnapshot(
        settled="9-0", run_id="a", asked_ms=1, answered_ms=9, trimmed=TrimmedEntries(2, f"{store.entries}-0")
    )
    store.run(lambda c: loss_accounting.add_incidents(c, {0: look}))
    assert store.close() == 0
    d = store.run(delivery)
    assert (d.lost, d.unaccounted, d.in_flight) == ({"trimmed": 2}, 0, 0)


def test_an_incident_before_an_idle_tally_explains_no_later_gap(shore, exchange, tally):
    """Two tallies with the same last_seq, closed together: the gap after them begins at the later one."""
    sent = [exchange() for _ in range(3)]
    shore.write(100, sent[0], tally(sent[:1]))
    shore.write(20_000, tally(sent[:1]))
    trimmed = TrimmedEntries(1, f"{MS + 5_000}-0")
    assert shore.tick(look(21_000, trimmed=trimmed)) == 0
    shore.write(30_000, tally(sent))
    assert shore.tick(look(31_000, trimmed=trimmed)) == 2
    assert shore.lost() == {}


def test_a_tally_read_again_moves_no_gap_backwards(shore, exchange, tally):
    """Redelivered after its mark was closed, it is older than what the ledger already knows."""
    sent = [exchange() for _ in range(3)]
    first = tally(sent[:1])
    shore.write(100, sent[0], first)
    shore.write(20_000, tally(sent[:1]))
    trimmed = TrimmedEntries(1, f"{MS + 5_000}-0")
    assert shore.tick(look(21_000, trimmed=trimmed)) == 0
    shore.write(100, first)
    shore.write(30_000, tally(sent))
    assert shore.tick(look(31_000, trimmed=trimmed)) == 2
    assert shore.lost() == {}


@pytest.mark.parametrize("announced", [3, 8], ids=["nothing more", "all"])
def test_the_lines_add_up_after_a_process_was_killed(shore, exchange, tally, announced):
    """Three records came after the last tally of a killed process, which may have announced them, while another one
    runs whose records wait in its buffer."""
    sent = [exchange() for _ in range(8)]
    announced_counts = tally(sent[:announced]).sampled
    shore.write(100, *sent[:3], replace(tally(sent[:3]), seen=announced_counts, sampled=announced_counts))
    shore.write(200, *sent[3:6])
    counted = (Count("default", "chat", "u0/m", "", 5),)
    other = Tally("another", 1.0, 0, seen=counted, sampled=counted)
    shore.write(60_000, other)
    shore.tick(look(61_000))
    found = shore.store.run(delivery)
    lost = announced - 6 if announced > 6 else 0
    assert (found.enqueued, found.waiting, found.lost) == (6, 5, {GATEWAY_LOST: lost} if lost else {})
    assert found.sampled == found.enqueued + found.waiting + lost
    assert found.seen == found.sampled + sum(found.unsampled.values())
