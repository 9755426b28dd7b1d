"""A plan takes its pairs from the failures of the last day, and says which guardrail it cannot decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fixtures.simulated import a_plan

from gateway.core.exchange import Target
from gateway.core.horizon import AT_MOST
from gateway.core.plan import Guardrail, Plan
from gateway.core.plan_horizon import horizon_of
from gateway.features.experiments.start.failures import failure_cautions, with_failure_rate

NOW = 200_000.0
CONTROL = Target("a", "old")


def plan(margin: float = 0.02, **changes: Any) -> Plan:
    made = a_plan(
        rules=3, method="hybrid", aa="alarm", repeat_control=0.25, auto_horizon=True,
        guardrails=(Guardrail("error_rate", margin),), **changes,
    )  # fmt: skip
    return replace(made, max_pairs=horizon_of(made))


def keep(store: Any, exchange: Any, n: int, **changes: Any) -> None:
    usual = {"alias": "chat", "received": NOW - 60.0, "target": CONTROL, "request": b'{"messages":[]}'}
    store.write(*(exchange("1", **{**usual, **changes}) for _ in range(n)))


def planned(store: Any, wanted: Plan) -> Plan:
    return store.run(lambda connection: with_failure_rate(connection, wanted, NOW))


def said(store: Any, wanted: Plan) -> list[str]:
    return store.run(lambda connection: list(failure_cautions(connection, wanted, NOW)))


def test_failures_of_the_last_day_lengthen_the_plan(store, exchange) -> None:
    keep(store, exchange, 297)
    keep(store, exchange, 3, outcome="upstream_error", status=503)
    before = plan()
    after = planned(store, before)
    assert (before.max_pairs or 0) < (after.max_pairs or 0) <= AT_MOST * (before.max_pairs or 0)
    assert after.same_design(before)
    assert said(store, after) == []


def test_a_guardrail_that_cannot_hold_is_named_with_a_margin(store, exchange) -> None:
    keep(store, exchange, 270)
    keep(store, exchange, 30, outcome="upstream_error", status=503)
    (caution,) = said(store, plan(0.01))
    assert "the control failed in 10.00% of the last day's 300 recorded calls" in caution
    assert "set the margin to 0." in caution


def test_few_calls_and_refused_requests_say_nothing(store, exchange) -> None:
    keep(store, exchange, 150, outcome="upstream_error", status=503)
    assert planned(store, plan()) == plan()
    keep(store, exchange, 300, outcome="upstream_error", status=400)
    assert said(store, plan()) == []


def test_plans_of_older_rules_stay(store, exchange) -> None:
    keep(store, exchange, 270)
    keep(store, exchange, 30, outcome="upstream_error", status=503)
    older = replace(plan(), rules=2)
    assert planned(store, older) == older
    assert said(store, older) == []
