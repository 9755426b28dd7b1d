"""Recent traffic must name the units that a verdict about others counts."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.simulated import a_plan

from gateway.core.plan import Plan
from gateway.features.experiments.start.population import population_cautions, population_refusal

NOW = 200_000.0
NAMED = b'{"metadata":{"conversation_id":"c1"},"messages":[]}'
USUAL: dict[str, Any] = {
    "alias": "chat",
    "received": NOW - 60.0,
    "request": b'{"messages":[]}',
    "user_digest": None,
    "caller": "key",
}


def keep(store: Any, exchange: Any, *calls: dict[str, Any], n: int = 60) -> None:
    """n calls, of these kinds in turn."""
    store.write(*(exchange("1", **{**USUAL, **calls[i % len(calls)]}) for i in range(n)))


def refused(store: Any, plan: Plan) -> str:
    return store.run(lambda connection: population_refusal(connection, plan, NOW)) or ""


def cautions(store: Any, plan: Plan) -> list[str]:
    return store.run(lambda connection: list(population_cautions(connection, plan, NOW)))


def test_others_without_units_are_refused_with_the_remedy(store: Any, exchange: Any) -> None:
    keep(store, exchange, {})
    plan = a_plan(rules=3, population="others")
    says = refused(store, plan)
    assert "population others, but none of the last day's 60 recorded calls of chat names its user" in says
    assert "1 effective keys, of which 3 are needed: send `x-gateway-user` or `metadata.conversation_id`" in says
    assert "or set `population: these`" in says
    assert cautions(store, plan) == [], "what is refused needs no caution"


def test_others_with_keys_alone_are_a_caution(store: Any, exchange: Any) -> None:
    keep(store, exchange, *({"caller": f"key {i}"} for i in range(5)))
    plan = a_plan(rules=3, population="others")
    assert refused(store, plan) == ""
    (caution,) = cautions(store, plan)
    assert "the verdict counts 5 effective keys: send `x-gateway-user`" in caution


@pytest.mark.parametrize("population", [None, "others"])
def test_too_few_users_are_a_caution(store: Any, exchange: Any, population: Any) -> None:
    keep(store, exchange, {"user_digest": "a"}, {"user_digest": "b"})
    plan = a_plan(rules=3, population=population)
    assert refused(store, plan) == ""
    (caution,) = cautions(store, plan)
    assert "have 2 effective users, of which a verdict about others takes 3: set `population: these`" in caution


def test_a_few_users_are_told_to_send_more_users(store: Any, exchange: Any) -> None:
    keep(store, exchange, *({"user_digest": f"user {i}"} for i in range(5)))
    (caution,) = cautions(store, a_plan(rules=3))
    assert "have 5 effective users: looks before the last take 10, and the last counts these few" in caution
    assert "More users, not more pairs, decide it; or set `population: these`" in caution


@pytest.mark.parametrize(
    ("changes", "calls"),
    [
        ({}, {}),
        ({"population": "these"}, {}),
        ({"independent": True}, {"user_digest": "a"}),
        ({"population": "others"}, {"request": NAMED}),
        ({"population": "others", "rules": 2}, {}),
        ({"population": "others", "mode": "split", "split": 0.5}, {}),
        ({"population": "others"}, {"received": NOW - 90_000.0}),
        ({"population": "others"}, {"alias": "other"}),
    ],
)
def test_nothing_is_said_where_units_are_named_or_not_counted(
    store: Any, exchange: Any, changes: Any, calls: Any
) -> None:
    keep(store, exchange, calls)
    plan = a_plan(**{"rules": 3, **changes})
    assert refused(store, plan) == ""
    assert cautions(store, plan) == []
