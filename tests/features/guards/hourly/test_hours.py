"""Sums of hours: they add up to what the decisions say, whichever hours a consumer has stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.guards import GuardDecision, to_json
from gateway.features.guards.hourly.hours import HOUR_S, DecisionRow, hours_from_json, hours_to_json, seconds_at, summed
from gateway.features.guards.metrics import summed_evidence
from gateway.features.guards.rows import SETTLED_S, decided_hours, hours_since, recent_hits, store_hour
from gateway.store.query import reading

ROWS = st.builds(
    DecisionRow,
    caller=st.sampled_from(["web", "bot"]),
    unit=st.sampled_from(["a", "b", "c"]),
    on=st.sampled_from(["answer", "request"]),
    config_hash=st.sampled_from(["c1", "c2"]),
    action=st.sampled_from(["observe", "block"]),
    result=st.sampled_from(["hit", "near", "pass", "failed"]),
    failure=st.sampled_from([None, "timeout"]),
    score=st.one_of(st.none(), st.floats(0, 1)),
    acted=st.booleans(),
    seconds=st.floats(0, 10),
    pi=st.sampled_from([1.0, 0.5, 0.1]),
    stratum=st.sampled_from(["default", "guard:g"]),
    received=st.floats(0, 3 * HOUR_S - 1),
)


@given(st.lists(ROWS, max_size=30))
def test_hours_hold_every_decision_once_and_survive_json(rows: list[DecisionRow]) -> None:
    hours = summed(rows)
    assert {begin: hours_from_json(hours_to_json(of)) for begin, of in hours.items()} == hours
    parts = [hour for of in hours.values() for hour in of]
    assert sum(hour.weight("hit", "near", "pass", "failed") for hour in parts) == pytest.approx(
        sum(1 / row.pi for row in rows)
    )
    judged = sum(1 / row.pi for row in rows if row.result != "failed")
    assert sum(quarter.judged for hour in parts for quarter in hour.quarters) == pytest.approx(judged)
    units = [caller.units for hour in parts for caller in hour.callers.values()]
    assert sum(u.n for u in units) == len(
        {(r.received // HOUR_S, r.on, r.config_hash, r.caller, r.unit) for r in rows if r.result != "failed"}
    )


def test_a_quantile_is_at_most_a_quarter_too_large() -> None:
    [hour] = summed(row(seconds=0.001 * (i + 1), received=float(i)) for i in range(100))[0.0]
    assert 0.099 <= (seconds_at(0.99, hour.seconds) or 0) <= 0.124
    assert seconds_at(0.99, {}) is None


def row(**fields: Any) -> DecisionRow:
    plain = {
        "caller": "web", "unit": "u", "on": "answer", "config_hash": "c", "action": "observe", "result": "pass",
        "failure": None, "score": 0.0, "acted": False, "seconds": 0.001, "pi": 1.0, "stratum": "default",
        "received": 0.0,
    }  # fmt: skip
    return DecisionRow(**{**plain, **fields})


def decided(result: Any, **fields: Any) -> dict[str, Any]:
    return {"guards": to_json([GuardDecision("g", "answer", "observe", result, False, config_hash="c")]), **fields}


@pytest.fixture
def guarded(store: Any, exchange: Callable[..., Any]) -> Any:
    """A store with calls of three hours, of which the last has not ended."""
    store.scorers.clear()
    for hour in range(3):
        for i in range(4):
            store.write(
                exchange("x", **decided("hit" if i == hour else "pass", received=hour * HOUR_S + 1000.0 * i + 1))
            )
    return store


def test_hours_that_are_stored_and_others_give_the_same(guarded: Any) -> None:
    now = 2 * HOUR_S + 3100.0
    with reading(guarded.url) as connection:
        found = decided_hours(connection, "g", 0.0)
    with guarded.engine.begin() as connection:
        store_hour(connection, "g", 0.0, found[0.0], HOUR_S + SETTLED_S)
        store_hour(connection, "g", HOUR_S, [], HOUR_S + 10.0)  # read too early: it counts as unknown
    with reading(guarded.url) as connection:
        assert hours_since(connection, "g", 0.0, now) == found
        part = hours_since(connection, "g", 500.0, now)
        assert part[0.0][0].weight("pass") == 3, "an hour that begins before is read again"
        assert hours_since(connection, "g", now + 1, now + 1) == {}


def test_stored_hours_are_used_when_the_decisions_are_gone(guarded: Any) -> None:
    with reading(guarded.url) as connection:
        found = decided_hours(connection, "g", 0.0, HOUR_S)
    with guarded.engine.begin() as connection:
        store_hour(connection, "g", 0.0, found[0.0], 3 * HOUR_S)
        connection.exec_driver_sql("DELETE FROM guard_decisions")
    with reading(guarded.url) as connection:
        assert hours_since(connection, "g", 0.0, 3 * HOUR_S) == found


def test_recent_hits_are_the_newest_without_those_that_passed(guarded: Any) -> None:
    with reading(guarded.url) as connection:
        found = recent_hits(connection, "g", 2)
    assert [(hit.result, hit.received) for hit in found] == [("hit", 2 * HOUR_S + 2001), ("hit", HOUR_S + 1001)]


MANY = """
INSERT INTO guard_decisions
WITH RECURSIVE s(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM s WHERE k < 30000)
SELECT 'copy ' || s.k, guard, on_side, action, 'pass', acted, score, failure, found, matches, seconds, config_hash, pi,
  stratum, received + s.k, unit, asked
FROM s, (SELECT * FROM guard_decisions LIMIT 1)
"""


def test_pages_read_few_rows_however_many_decisions_there_are(file_store: Any, exchange: Callable[..., Any]) -> None:
    """The work is counted in steps of SQLite's machine, of which a row takes ten or more."""
    file_store.scorers.clear()
    file_store.write(*(exchange("x", **decided("hit", received=1.0 + i)) for i in range(20)))
    with file_store.engine.begin() as connection:
        hour = decided_hours(connection, "g", 0.0)[0.0]
        store_hour(connection, "g", 0.0, hour, 3 * HOUR_S)
        connection.exec_driver_sql(MANY)
    with file_store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    with reading(file_store.url) as connection:
        taken, raw = [0], connection.connection.driver_connection
        raw.set_progress_handler(lambda: taken.__setitem__(0, taken[0] + 100) or 0, 100)
        found = summed_evidence(connection, "g", 0.0)
        assert len(recent_hits(connection, "g", 50)) == 20
        raw.set_progress_handler(None, 0)
    assert found is not None
    assert taken[0] < 30_000
