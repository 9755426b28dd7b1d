"""The audit of ramps: every event once, in order, and never changed."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from gateway.core.exchange import Target
from gateway.core.learned_route import route_target
from gateway.core.ramp import RampChange, RampDesign, RampEvent, advanced, started
from gateway.features.notices.rows import (
    WebhookDelivery,
    add_deliveries,
    count_deliveries,
    due_deliveries,
    first_deliveries,
    save_delivery,
)
from gateway.features.ramp.rows import (
    ServedCalls,
    add_ramp_events,
    caller_failures,
    exposure_of,
    stored_ramp_events,
    unit_failures,
)
from gateway.store.served_answers import served_answers
from tests.features.ramp.deliveries import deliveries_of

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


def test_exposure_is_what_the_arm_served(store, exchange):
    mine = {"experiment": "swap", "plan": "abc", "target": Target("local", "new")}
    now = time.time()
    for n in range(3):
        store.write(exchange("1", arm="candidate", received=now + n, **mine))
    store.write(exchange("1", arm="control", **mine), exchange("1", arm="candidate", role="shadow", **mine))
    found = store.run(lambda c: exposure_of(c, "abc", "candidate"))
    assert (found.requests, found.newest) == (3, now + 2)
    assert store.run(lambda c: exposure_of(c, "other", "candidate")).requests == 0


def test_failures_are_counted_by_unit(store, exchange):
    """A unit's failures are a share of its answers; what a fallback answered is one."""
    mine = {"experiment": "swap", "plan": "abc", "arm": "candidate", "received": 150.0, "cluster": "talk"}
    new, old = Target("local", "new"), Target("local", "old")
    store.write(
        exchange("1", target=new, **mine),
        exchange("1", target=old, **mine),
        exchange("1", target=new, **{**mine, "cluster": None}, caller="web", status=503, outcome="upstream_error"),
        exchange("1", target=new, **{**mine, "received": 99.0}),
    )
    calls = ServedCalls("abc", {"candidate": new}, 100.0, math.inf, keyed=True)
    found = store.run(lambda c: unit_failures(c, calls))
    assert found == {"candidate": (2, 1.5, 1.25)}
    assert store.run(lambda c: unit_failures(c, replace(calls, first=200.0, end=300.0))) == {}


ONE = WebhookDelivery("ramp_1-0", "ops", "swap", '{"type":"ramp.advanced"}', created=10.0, due=10.0)


def test_a_delivery_is_added_once_and_kept_as_it_is(store: Any) -> None:
    store.run(lambda c: add_deliveries(c, [ONE, replace(ONE, webhook="chat")]))
    store.run(lambda c: save_delivery(c, replace(ONE, state="delivered", attempts=1, ended=11.0)))
    store.run(lambda c: add_deliveries(c, [ONE]))
    found = store.run(lambda c: deliveries_of(c, "swap"))
    assert found == [replace(ONE, webhook="chat"), replace(ONE, state="delivered", attempts=1, ended=11.0)]
    assert store.run(count_deliveries) == {("ops", "delivered"): 1, ("chat", "pending"): 1}
    assert store.run(first_deliveries) == {"ops": 10.0, "chat": 10.0}


def test_due_deliveries_are_pending_and_of_known_receivers(store: Any) -> None:
    later = replace(ONE, event="ramp_2-0", due=99.0)
    gone = replace(ONE, webhook="gone")
    store.run(lambda c: add_deliveries(c, [ONE, later, gone]))
    assert store.run(lambda c: due_deliveries(c, ["ops"], 50.0, 9)) == [ONE]
    assert store.run(lambda c: due_deliveries(c, ["ops"], 99.0, 9)) == [ONE, later]
    assert store.run(lambda c: due_deliveries(c, ["ops"], 99.0, 1)) == [ONE]


def test_an_ended_delivery_is_never_changed(store: Any) -> None:
    store.run(lambda c: add_deliveries(c, [ONE]))
    dead = replace(ONE, state="dead", attempts=8, ended=20.0, error="HTTP 500")
    store.run(lambda c: save_delivery(c, dead))
    store.run(lambda c: save_delivery(c, replace(ONE, state="delivered", attempts=9, ended=30.0)))
    assert store.run(lambda c: deliveries_of(c, "swap")) == [dead]


NEW, OLD = Target("local", "new"), Target("local", "old")
CALLS = ServedCalls("abc", {"candidate": NEW}, 100.0, math.inf, keyed=True)


def test_failures_are_counted_by_caller_and_unit(store: Any, exchange: Any) -> None:
    mine = {"experiment": "swap", "plan": "abc", "arm": "candidate", "received": 150.0, "target": NEW}
    failed = {"status": 503, "outcome": "upstream_error"}
    store.write(
        exchange("1", cluster="talk", caller="a", **mine),
        exchange("1", cluster="talk", caller="a", **mine, **failed),
        exchange("1", cluster="talk", caller="b", **mine),
        exchange("1", cluster="more", caller="b", **{**mine, "target": OLD}),
        exchange("1", cluster="late", caller="b", **{**mine, "received": 99.0}, **failed),
        exchange("1", cluster="gone", caller="b", **mine, status=200, outcome="client_gone"),
        exchange("1", caller="c", **mine, **failed),
        exchange("1", caller="c", **mine),
    )
    found = store.run(lambda c: caller_failures(c, CALLS))
    assert found == {"a": (2, 1, 0.5, 0.25), "b": (2, 2, 1.0, 1.0), "c": (2, 1, 0.5, 0.25)}
    assert store.run(lambda c: caller_failures(c, replace(CALLS, stratum="other"))) == {}


def test_a_route_gives_the_answer_of_whichever_target_it_chose(store: Any, exchange: Any) -> None:
    """Only what another target had to give is a failure of the arm, whether the route moved the call or kept it."""
    mine = {"experiment": "swap", "plan": "abc", "arm": "candidate", "received": 150.0, "caller": "a"}
    store.write(
        exchange("1", target=NEW, route="safe/0", cluster="1", **mine),
        exchange("1", target=OLD, route="safe/1", cluster="2", **mine),
        exchange("1", target=OLD, route="safe/0", fell_back=True, cluster="3", **mine),
        exchange("1", target=NEW, route="safer/0", cluster="4", **mine),
    )
    target = route_target("safe", "0" * 16)
    calls = replace(CALLS, targets={"candidate": target})
    assert store.run(lambda c: caller_failures(c, calls)) == {"a": (4, 4, 2.0, 2.0)}
    found = store.run(lambda c: unit_failures(c, calls))
    assert found == {"candidate": (4, 2.0, 2.0)}
    rows = store.run(lambda c: served_answers(c, "abc", ("candidate",)))
    assert sorted((row.unit, row.is_own(target)) for row in rows) == [
        ("1", True), ("2", True), ("3", False), ("4", False)
    ]  # fmt: skip


def test_refused_requests_count_nowhere(store: Any, exchange: Any) -> None:
    mine = {"experiment": "swap", "plan": "abc", "arm": "candidate", "received": 150.0, "cluster": "t"}
    store.write(
        exchange("1", target=NEW, caller="a", status=400, outcome="upstream_error", **mine),
        exchange("1", target=NEW, caller="b", status=401, outcome="upstream_error", **mine),
        exchange("1", target=OLD, caller="c", status=400, outcome="upstream_error", **mine),
    )
    found = store.run(lambda c: caller_failures(c, CALLS))
    assert found == {"b": (1, 1, 1.0, 1.0), "c": (1, 1, 1.0, 1.0)}, "a fallback's refusal is a failure of the arm"
