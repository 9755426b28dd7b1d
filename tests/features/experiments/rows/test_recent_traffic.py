"""Calls of a model in an hour, from those that were recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures.simulated import a_plan

from gateway.features.experiments.rows.recent_traffic import FEWEST, calls_an_hour


def test_a_recorded_call_stands_for_those_that_were_not(store, exchange) -> None:
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
