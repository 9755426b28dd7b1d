"""Runs in the store: each call once, 1 000 calls or 24 hours at most, and gone with their calls."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from gateway.core.exchange import run_key
from gateway.features.calls.rows import erase
from gateway.store import retention, runs
from gateway.store.retention import RetentionLimits
from gateway.store.tables import exchanges

pytestmark = pytest.mark.dialect

NOW = 1_000_000.0
RUNS = "SELECT run_id, part, calls, first_at, last_at FROM runs ORDER BY key, part"
WEB, BATCH = run_key("web", "r"), run_key("batch", "r")


def test_calls_are_counted_once_and_by_their_caller(store: Any, exchange: Any) -> None:
    first, second = (exchange(run="r", run_source="x-gateway-run", received=NOW + i) for i in range(2))
    other, alone = exchange(run="r", caller="batch", received=NOW), exchange(received=NOW)
    store.write(second, other)
    store.write(first, second, alone)
    store.write(first)
    assert sorted(store.sql(RUNS)) == sorted([(WEB, 0, 2, NOW, NOW + 1.5), (BATCH, 0, 1, NOW, NOW + 0.5)])
    found = dict(store.sql("SELECT id, run_id FROM exchanges"))
    assert found == {first.id: WEB, second.id: WEB, other.id: BATCH, alone.id: None}
    assert store.sql("SELECT DISTINCT run, run_source FROM exchanges WHERE run_id IS NOT NULL AND caller = 'web'") == [
        ("r", "x-gateway-run")
    ]


def test_a_shadow_is_not_a_call_of_the_run(store: Any, exchange: Any) -> None:
    served = exchange(run="r", received=NOW)
    store.write(served, exchange(run="r", role="shadow", pair=served.id, received=NOW))
    assert store.sql("SELECT calls FROM runs") == [(1,)]


def test_a_run_has_a_thousand_calls_at_most(store: Any, exchange: Any) -> None:
    calls = [exchange(run="r", received=NOW + i) for i in range(2_005)]
    for at in range(0, len(calls), 401):
        store.write(*calls[at : at + 401])
    assert [(row[0], row[2]) for row in store.sql(RUNS)] == [(WEB, 1000), (f"{WEB}.1", 1000), (f"{WEB}.2", 5)]
    counted = store.sql("SELECT run_id, COUNT(*) FROM exchanges GROUP BY run_id ORDER BY run_id")
    assert counted == [(WEB, 1000), (f"{WEB}.1", 1000), (f"{WEB}.2", 5)]


def test_a_run_lasts_a_day_at_most(store: Any, exchange: Any) -> None:
    store.write(*(exchange(run="r", received=NOW + hours * 3600.0) for hours in (0, 23.9, 24, 30)))
    assert [(row[0], row[2]) for row in store.sql(RUNS)] == [(WEB, 2), (f"{WEB}.1", 2)]


def test_retention_deletes_a_run_with_its_last_call(store: Any, exchange: Any) -> None:
    old, new = exchange(run="r", received=NOW), exchange(run="r", received=NOW + 3600)
    store.write(old, new)
    swept(store, keep_s=1800.0, now=NOW + 3700)
    assert store.sql("SELECT id FROM exchanges") == [(new.id,)]
    assert len(store.sql(RUNS)) == 1, "it has a call left"
    swept(store, keep_s=1800.0, now=NOW + 9000)
    assert store.sql(RUNS) == []


def swept(store: Any, keep_s: float, now: float) -> None:
    store.run(lambda c: c.execute(update(exchanges).values(stored=NOW)))
    bounds = RetentionLimits(keep_s=keep_s, protected_s=0.0)
    store.run(lambda c: retention.sweep(c, bounds, "me", now))


@pytest.mark.parametrize("kept", [False, True], ids=["deleted", "emptied"])
def test_an_erased_call_leaves_no_name_of_its_run(store: Any, exchange: Any, kept: bool) -> None:
    one = exchange(run="alice's task", received=NOW, **({"experiment": "swap", "plan": "p", "arm": "control"} if kept
                   else {}))  # fmt: skip
    store.write(one)
    store.run(lambda c: c.execute(update(exchanges).values(stored=NOW)))
    store.run(lambda c: erase.erase(c, [one.id], NOW + 7200))
    assert store.sql("SELECT run, run_source, run_id FROM exchanges") == ([(None, None, None)] if kept else [])
    assert store.sql(RUNS) == []


def test_a_quiet_run_is_due_once_and_again_if_it_continues(store: Any, exchange: Any) -> None:
    store.write(exchange(run="r", received=NOW))
    due = lambda before: store.run(lambda c: runs.due(c, before, NOW - 10, 10))  # noqa: E731
    assert due(NOW + 0.5) == [], "its last call ended just now"
    assert due(NOW + 1) == [(WEB, NOW + 0.5)]
    store.run(lambda c: runs.note_scored(c, WEB, NOW + 0.5, None))
    assert due(NOW + 1e5) == []
    store.write(exchange(run="r", received=NOW + 100))
    assert due(NOW + 101) == [(WEB, NOW + 100.5)]
    assert store.run(lambda c: runs.due(c, NOW + 1e6, NOW + 1e3, 10)) == [], "too long ago"
