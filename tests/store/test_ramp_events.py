"""The audit of ramps: every event once, in order, and never changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy.exc import DBAPIError

from gateway.core.ramp import RampChange, RampDesign, RampEvent, advanced, started
from gateway.store.ramp_events import add_ramp_events, stored_ramp_events

AT = RampChange(100.0, "mia", "because")
FIRST = started("swap", "abc", AT)
SECOND = advanced(FIRST, RampDesign((0.1, 1.0), 0.0, 1), replace(AT, at=200.0))
EVENTS = [RampEvent("100-0", FIRST, None, {}), RampEvent("200-0", SECOND, ("shadow", -1), {"verdict": "ship"})]


def test_events_are_stored_once_and_read_in_order(store):
    store.run(lambda c: add_ramp_events(c, EVENTS[1:]))
    store.run(lambda c: add_ramp_events(c, EVENTS))
    assert store.run(lambda c: stored_ramp_events(c, "swap")) == EVENTS
    assert store.run(lambda c: stored_ramp_events(c, "other")) == []
    assert store.sql("SELECT kind, actor, reason FROM ramp_events ORDER BY version")[1] == (
        "advanced",
        "mia",
        "because",
    )


@pytest.mark.parametrize("statement", ["UPDATE ramp_events SET actor = 'eve'", "DELETE FROM ramp_events"])
def test_the_audit_of_ramps_refuses_to_be_changed(store, statement):
    store.run(lambda c: add_ramp_events(c, EVENTS))
    with pytest.raises(DBAPIError, match="append-only"):
        store.run(lambda c: c.exec_driver_sql(statement))
    assert store.sql("SELECT count(*) FROM ramp_events WHERE actor = 'mia'") == [(2,)]


def test_the_audit_of_ramps_refuses_to_be_replaced(store):
    """Storing an event once more changes nothing, so a replacement is ignored where its row has the event's id."""
    store.run(lambda c: add_ramp_events(c, EVENTS))
    into = "INTO ramp_events (rowid, id, experiment, plan, version, at, actor, kind, reason, record, evidence)"
    forged = "'swap', 'abc', 1, 1.0, 'eve', 'advanced', '', '{}', '{}' FROM ramp_events"
    by_row = "TRUNCATE ramp_events"
    if store.engine.dialect.name == "sqlite":
        by_row = f"INSERT OR REPLACE {into} SELECT rowid, 'new', {forged}"
        store.run(lambda c: c.exec_driver_sql(f"INSERT OR REPLACE {into} SELECT NULL, id, {forged}"))
    with pytest.raises(DBAPIError, match="append-only"):
        store.run(lambda c: c.exec_driver_sql(by_row))
    assert store.run(lambda c: stored_ramp_events(c, "swap")) == EVENTS
