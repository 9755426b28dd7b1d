"""Sums over what arms served: exposure, and failures by unit and by caller."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

from gateway.core.exchange import Target
from gateway.core.learned_route import route_target
from gateway.store.served_answers import served_answers
from gateway.store.served_sums import ServedCalls, caller_failures, exposure_of, unit_failures


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
