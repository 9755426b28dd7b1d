"""Calls of a model in an hour, from those that were recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures.simulated import a_plan

from gateway.features.experiments.rows.traffic import (
    FEWEST,
    MOST_READ,
    RecentUnits,
    UnitCounts,
    calls_an_hour,
    recent_units,
    unit_counts,
)


def test_a_recorded_call_represents_those_that_were_not(store, exchange) -> None:
    usual = {"alias": "chat", "api": "chat"}
    calls = [exchange("1", **usual, received=1000.0 + 360.0 * i, pi=0.25 if i % 2 else 0.5) for i in range(FEWEST)]
    others = [
        exchange("1", **{**usual, **changes}, received=1000.0)
        for changes in ({"alias": "other"}, {"role": "shadow"}, {"caller": "app"})
    ]
    store.write(*calls, *others)
    plan, now = replace(a_plan(), keys=("web",)), 1000.0 + 7200.0
    assert store.run(lambda c: calls_an_hour(c, plan, 0.0, now)) == pytest.approx(10 * (4 + 2) / 2)
    assert store.run(lambda c: calls_an_hour(c, plan, 1001.0, now)) is None, "one too few"
    assert store.run(lambda c: calls_an_hour(c, plan, 0.0, 1000.0 + 3599.0)) is None, "less than an hour"


BARE, NAMED = b'{"messages":[]}', b'{"metadata":{"conversation_id":"c1"},"messages":[]}'


def test_calls_that_name_a_user_or_a_conversation_are_counted(store, exchange) -> None:
    usual = {"alias": "chat", "received": 100.0, "request": BARE}
    store.write(
        exchange("1", **usual),
        exchange("1", **{**usual, "request": NAMED}),
        exchange("1", **usual, user_digest="d"),
        exchange("1", **usual, cluster="talk"),
        exchange("1", **usual, cluster="talk"),
        exchange("1", **usual, cluster="its own"),
        exchange("1", **{**usual, "request": b"{}"}),
        exchange("1", **{**usual, "alias": "other"}, user_digest="d"),
        exchange("1", **{**usual, "received": 10.0}, user_digest="d"),
        exchange("1", **usual, role="shadow", user_digest="d"),
        exchange("1", **usual, caller="app", user_digest="d"),
    )
    plan = replace(a_plan(), keys=("web",))
    assert store.run(lambda c: recent_units(c, plan, 50.0)) == RecentUnits(6, users=1, conversations=3)


def test_only_the_newest_calls_are_read(store, exchange) -> None:
    store.write(*(exchange("1", alias="chat", received=100.0 + i, request=BARE) for i in range(MOST_READ + 5)))
    assert store.run(lambda c: recent_units(c, a_plan(), 0.0)).calls == MOST_READ


def test_units_of_recent_calls_are_counted(store: Any, exchange: Any) -> None:
    plan = a_plan()
    usual = {"alias": plan.model, "received": 1000.0}
    store.write(*(exchange("1", caller=f"k{i % 3}", user_digest=f"u{i % 4}", **usual) for i in range(12)))
    store.write(
        exchange("1", caller="early", **{**usual, "received": 1.0}),
        exchange("1", caller="elsewhere", **{**usual, "alias": "other"}),
        exchange("1", caller="shadow", role="shadow", **usual),
    )
    assert store.run(lambda c: unit_counts(c, plan, 500.0)) == UnitCounts(12, 3, 4)
    few = replace(plan, keys=("k0",))
    assert store.run(lambda c: unit_counts(c, few, 500.0)).callers == 1
