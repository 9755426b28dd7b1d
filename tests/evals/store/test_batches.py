from __future__ import annotations

from gateway.evals.store.batches import CellDelta, WriteResult


def test_an_empty_batch_writes_nothing(store):
    assert store.write() == WriteResult()
    assert store.standing().cells == ()
    assert store.sql("SELECT count(*) FROM counters") == [(0,)]


def test_sums_begin_at_nothing_and_share_no_buckets():
    one, other = CellDelta(), CellDelta()
    one.buckets[3] = 1
    assert (other.scored, other.total, other.buckets) == (0, 0.0, {})
