"""A plan that counts by conversation or user says so where recent calls name none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures.simulated import a_plan

from gateway.core.plan import Plan
from gateway.features.experiments.traffic_units import unit_cautions

NOW = 200_000.0
NAMED = b'{"metadata":{"conversation_id":"c1"},"messages":[]}'


def keep(store: Any, exchange: Any, n: int = 60, **changes: Any) -> None:
    usual = {"alias": "chat", "received": NOW - 60.0, "request": b'{"messages":[]}', "user_digest": None}
    store.write(*(exchange("1", **{**usual, **changes}) for _ in range(n)))


def said(store: Any, plan: Plan) -> list[str]:
    return store.run(lambda connection: list(unit_cautions(connection, plan, NOW)))


@pytest.mark.parametrize(("unit", "words"), [("conversation", "metadata.conversation_id"), ("user", "x-gateway-user")])
def test_a_unit_that_no_call_names_is_a_caution(store, exchange, unit: Any, words: str) -> None:
    keep(store, exchange)
    (caution,) = said(store, a_plan(mode="split", split=0.5, unit=unit))
    assert f"unit {unit}, but none of the last day's 60 recorded calls of chat names one" in caution
    assert words in caution


@pytest.mark.parametrize(
    ("unit", "changes"),
    [
        ("conversation", {"request": NAMED}),
        ("conversation", {"cluster": "c"}),
        ("user", {"user_digest": "d"}),
        ("conversation", {"received": NOW - 90_000.0}),
        ("conversation", {"alias": "other"}),
        ("conversation", {"request": b"{}"}),
        ("key", {}),
        ("request", {}),
    ],
)
def test_nothing_is_said_of_a_unit_that_is_named_or_unknown(
    store, exchange, unit: Any, changes: dict[str, Any]
) -> None:
    keep(store, exchange, **changes)
    assert said(store, a_plan(mode="split", split=0.5, unit=unit)) == []


def test_few_calls_and_those_of_other_keys_say_nothing(store, exchange) -> None:
    keep(store, exchange, n=20)
    plan = a_plan(mode="split", split=0.5, unit="user")
    assert said(store, plan) == []
    keep(store, exchange)
    assert said(store, replace(plan, keys=("nobody",))) == []
