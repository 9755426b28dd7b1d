"""Why something never came: what befell the stream between the two tallies around a gap; without a cause: alarm."""

from __future__ import annotations

import pytest

from gateway.evals.store import ledger, loss_accounting
from gateway.evals.store.loss_accounting import GATEWAY_LOST, STREAM_LOST, TRIMMED
from gateway.stream.types import ShardSnapshot, TrimmedEntries

MS = 1_000_000  # the server's time in these tests begins here, in Unix milliseconds


def look(
    at_ms: int, run_id: str = "a", settled: str | None = None, trimmed: TrimmedEntries | None = None
) -> ShardSnapshot:
    return ShardSnapshot(settled or f"{MS + at_ms}-0", run_id, MS + at_ms, MS + at_ms, trimmed or TrimmedEntries())


class Shore:
    """What a consumer does with the store at each tick, with entries at times of the test's own."""

    def __init__(self, store) -> None:
        self.store = store

    def write(self, at_ms: int, *records) -> None:
        entry, self.store.entry = self.store.entry, lambda: f"{MS + at_ms}-0"
        self.store.write(*records)
        self.store.entry = entry

    def tick(self, seen: ShardSnapshot, silent_ms: int = 60_000) -> int:
        def closing(connection) -> int:
            settled = {0: seen.settled}
            loss_accounting.note(connection, {0: seen})
            ledger.close(connection, settled)
            ledger.end_the_silent(connection, settled, silent_ms)
            loss_accounting.explain(connection)
            return loss_accounting.unaccounted(connection)

        return self.store.run(closing)

    def lost(self) -> dict[str, int]:
        return {reason: n for reason, n in self.store.run(loss_accounting.lost).items() if n}


@pytest.fixture
def shore(store) -> Shore:
    return Shore(store)


def test_a_gap_across_a_restart_of_the_server_is_the_servers_loss(shore, exchange, tally):
    sent = [exchange() for _ in range(10)]
    shore.write(100, *sent[:4], tally(sent[:4]))
    assert shore.tick(look(1_000)) == 0
    shore.write(9_000, *sent[7:], tally(sent))
    assert shore.tick(look(10_000, run_id="b")) == 0
    assert shore.lost() == {STREAM_LOST: 3}


def test_a_restart_explains_no_gap_that_was_complete_before_its_last_second(shore, exchange, tally):
    """What the server had for longer than its fsync interval it cannot have lost."""
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


def test_a_loss_without_a_cause_is_never_explained_by_what_happens_elsewhere(shore, exchange, tally):
    sent = [exchange() for _ in range(6)]
    shore.write(100, *sent[:1], tally(sent[:1]))
    shore.write(1_000, *sent[3:], tally(sent))
    assert shore.tick(look(2_000)) == 2
    shore.tick(look(60_000, trimmed=TrimmedEntries(9, f"{MS + 50_000}-0")))
    assert shore.tick(look(90_000, run_id="b")) == 2


def test_what_a_killed_gateway_had_taken_and_not_appended_is_its_loss(shore, exchange, tally):
    sent = [exchange() for _ in range(8)]
    shore.write(100, *sent[:3], tally(sent[:3], sampled=tally(sent).sampled))
    assert shore.tick(look(30_000)) == 0
    assert shore.lost() == {}, "it may be slow, and not dead"
    assert shore.tick(look(60_200)) == 0
    assert shore.lost() == {GATEWAY_LOST: 5}


def test_what_came_after_its_last_tally_is_no_loss(shore, exchange, tally):
    sent = [exchange() for _ in range(8)]
    shore.write(100, *sent[:3], tally(sent[:3], sampled=tally(sent).sampled))
    shore.write(200, *sent[3:6])
    shore.tick(look(61_000))
    assert shore.lost() == {GATEWAY_LOST: 2}


def test_one_that_was_taken_for_dead_and_speaks_again_has_lost_nothing(shore, exchange, tally):
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


def test_what_had_been_taken_for_lost_and_comes_is_lost_no_more(shore, exchange, tally):
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


def test_of_a_shard_that_is_away_nothing_is_said(store, exchange, tally):
    sent = [exchange() for _ in range(3)]
    entry, store.entry = store.entry, lambda: "100-0@3"
    store.write(tally(sent))
    store.entry = entry
    assert store.run(lambda c: ledger.close(c, {0: "999999-0", 1: "999999-0"})) == 0
    assert store.run(lambda c: ledger.close(c, {3: "999999-0"})) == 3
