"""Old and surplus data are deleted; sums, and the evidence of verdicts and labels, stay. On both databases."""

from __future__ import annotations

import time

import pytest

from gateway.config.store import StoreConfig as Section
from gateway.core.exchange import Feedback
from gateway.features.labels.rows import Label, save_labels
from gateway.store.retention import RetentionLimits, RetentionResult, size, sweep
from gateway.store.store import Store

DAY = 86_400.0
MONTH = RetentionLimits(keep_s=30 * DAY)


def label(exchange_id: str) -> Label:
    return Label("stated", "exchange", exchange_id, "ada", 1.0, None, None, "1", "c1", "", 1.0, None, None, 0.0, 1.0)


@pytest.fixture
def now() -> float:
    """More than an hour after what the test stores."""
    return time.time() + 4000


@pytest.fixture
def swept(store, now):
    """Runs one sweep of retention with these limits."""

    def ask(bounds: RetentionLimits, holder: str = "c1", at: float = 0.0) -> RetentionResult:
        found: RetentionResult = store.run(lambda c: sweep(c, bounds, holder, at or now))
        return found

    return ask


def ids(store, table: str = "exchanges", column: str = "id") -> set[str]:
    return {row[0] for row in store.sql(f"SELECT {column} FROM {table}")}  # noqa: S608


def test_old_exchanges_go_with_their_scores_and_feedback(store, exchange, swept, now):
    old, new = exchange("0.5", received=now - 31 * DAY), exchange("1", received=now - 29 * DAY)
    store.write(old, new, *(Feedback(e.id, e.id, "web", e.received, "thumb", 1.0) for e in (old, new)))
    store.write(Feedback("of nothing here", "f", "web", old.received, "thumb", 1.0))
    before = store.snapshot().cells
    assert swept(MONTH) == RetentionResult(1, 0)
    assert ids(store) == ids(store, "scores", "exchange_id") == ids(store, "feedback", "exchange_id") == {new.id}
    assert store.snapshot().cells == before, "sums stay"
    assert swept(MONTH) == RetentionResult()


def test_without_bounds_nothing_goes(store, exchange, swept):
    store.write(exchange(received=1.0))
    assert swept(RetentionLimits()) == RetentionResult()
    assert len(ids(store)) == 1


def test_unmatched_feedback_is_deleted_after_a_week_without_bounds(store, exchange, swept, now):
    kept = exchange("1", received=now - 900 * DAY)
    store.write(kept, Feedback(kept.id, "met", "web", kept.received, "thumb", 1.0))
    store.write(Feedback("invented", "old", "web", now - 8 * DAY, "thumb", 1.0, comment="x" * 9000))
    store.write(Feedback("perhaps late", "new", "web", now - 6 * DAY, "thumb", 1.0))
    assert swept(RetentionLimits()) == RetentionResult()
    assert ids(store, "feedback", "feedback_id") == {"met", "new"}
    assert ids(store) == {kept.id}


def test_the_oldest_exchanges_beyond_the_bound_are_deleted(store, exchange, swept, now):
    sent = [exchange(received=now - age * DAY, request=b"x" * 10_000) for age in (9, 3, 7, 5)]
    store.write(*sent)
    each = store.run(size) / 4
    assert each == pytest.approx(10_000 + 2_048, abs=300)
    assert swept(RetentionLimits(most_bytes=2.5 * each)) == RetentionResult(2, 0)
    assert ids(store) == {sent[1].id, sent[3].id}
    assert store.run(size) == pytest.approx(2 * each, abs=2)
    assert swept(RetentionLimits(most_bytes=2.5 * each)) == RetentionResult()


def test_nothing_stored_within_the_hour_is_deleted(store, exchange, swept, now):
    """Such a record may be delivered again, and its ledger may be open: a consumer that was behind stores old
    records.
    """
    store.write(exchange(received=now - 40 * DAY))
    assert swept(RetentionLimits(30 * DAY, 1), at=now - 500) == RetentionResult()
    assert swept(RetentionLimits(30 * DAY, 1)) == RetentionResult(1, 0)


def test_only_the_texts_behind_verdicts_and_labels_are_deleted(store, exchange, swept, now):
    tried = exchange("0.5", received=now - 31 * DAY, experiment="swap", plan="p", arm="control", client_id="zoe's")
    labelled, plain = (exchange("0.25", received=now - 31 * DAY) for _ in range(2))
    feedback = Feedback(tried.id, "f", "web", now, "thumb", 1.0, "zoe", comment="zoe", correction="zoe")
    store.write(tried, labelled, plain, feedback)
    store.run(lambda c: save_labels(c, [label(labelled.id)]))
    assert swept(MONTH) == RetentionResult(1, 2)
    assert ids(store) == {tried.id, labelled.id}
    words = store.sql("SELECT request, response, text, tool_calls, client_id FROM exchanges")
    assert {(bytes(w[0]), bytes(w[1]), *w[2:]) for w in words} == {(b"{}", b"", "", "[]", None)}
    assert set(store.sql("SELECT explanation, detail FROM scores WHERE scorer = 'stated'")) == {(None, None)}
    assert store.sql("SELECT value, label, comment, correction FROM feedback") == [(1.0, None, None, None)]
    words_of_feedback = store.sql("SELECT label, explanation FROM scores WHERE kind = 'feedback'")
    assert words_of_feedback == [(None, None)]
    assert sorted(store.sql("SELECT value FROM scores")) == [(0.25,), (0.5,), (1.0,)], "the numbers stay"
    assert store.sql("SELECT total_s, pi, plan FROM exchanges WHERE plan = 'p'") == [(0.5, 1.0, "p")]
    assert swept(MONTH) == RetentionResult(), "once"


def test_one_consumer_at_a_time_sweeps(store, exchange, swept, now):
    store.write(exchange(received=1.0))
    assert swept(MONTH, "c1") == RetentionResult(1, 0)
    store.write(exchange(received=2.0))
    assert swept(MONTH, "c2") == RetentionResult(), "the first one holds the lease"
    assert swept(MONTH, "c2", now + 61) == RetentionResult(1, 0), "until it falls silent"


def test_a_step_reports_that_more_is_left(store, exchange, swept):
    limits = RetentionLimits(keep_s=30 * DAY, step=3)
    store.write(*(exchange(received=1.0 + n) for n in range(5)))
    assert [swept(limits), swept(limits)] == [RetentionResult(3, 0, True), RetentionResult(2, 0, False)]


def test_the_section_of_the_config_in_its_units():
    assert RetentionLimits.of(Section(keep_days=2, max_gb=0.5)) == RetentionLimits(2 * DAY, 5e8)
    assert RetentionLimits.of(Section()) == RetentionLimits()


async def test_the_store_keeps_its_bounds_when_it_is_asked(store_url, store, exchange, now):
    store.write(exchange(received=now - 2 * DAY), exchange(received=now))
    async with Store(store_url, lambda: now, RetentionLimits(keep_s=DAY)) as opened:
        assert await opened.retain("c1") == RetentionResult(1, 0)
