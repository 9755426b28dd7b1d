"""Recorded calls that are decisions, and the reasons of those that are not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fixtures.simulated import a_plan

from gateway.core.exchange import Target
from gateway.features.experiments.start.decisions import decision_calls, decision_cautions

NOW = 200_000.0
SCHEMA = {"type": "object", "properties": {"refund": {"type": "boolean"}}}
FREE = {"type": "object", "properties": {"why": {"type": "string"}}}
DECIDER = (("candidate", Target("small", "decider", "decision")),)


def a_request(schema: Any, **members: Any) -> bytes:
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    return orjson.dumps({"messages": [{"role": "user", "content": "Twice."}], "response_format": form, **members})


def keep(store: Any, exchange: Any, *requests: bytes, **changes: Any) -> None:
    usual = {"alias": "chat", "received": NOW - 60.0, "pi": 0.5}
    store.write(*(exchange("1", **{**usual, "request": request, **changes}) for request in requests))


def test_calls_are_counted_by_reason(store: Any, exchange: Any) -> None:
    keep(store, exchange, *[a_request(SCHEMA)] * 3, *[a_request(FREE)] * 2, a_request(SCHEMA, n=2), b"{}", b'{"a":')
    keep(store, exchange, a_request(SCHEMA), received=NOW - 100_000)
    keep(store, exchange, a_request(SCHEMA), alias="other")
    calls = store.run(lambda connection: decision_calls(connection, "chat", None, NOW - 86_400))
    assert (calls.read, calls.decisions, calls.apis) == (7, 3, ("chat",))
    assert calls.reasons == (("free_text", 2), ("several_answers", 1), ("unreadable", 1))
    assert calls.share == pytest.approx(3 / 7)
    assert calls.calls == 6.0, "each stands for two"


def test_a_plan_says_what_stays_outside(store: Any, exchange: Any) -> None:
    keep(store, exchange, a_request(SCHEMA), a_request(FREE))
    plan = a_plan(candidates=DECIDER)
    [caution] = store.run(lambda connection: list(decision_cautions(connection, plan, NOW)))
    assert "1 of the last day's 2 newest recorded calls of chat are decisions" in caution
    assert "free_text: 1 (a member of the schema is free text)" in caution
    assert store.run(lambda connection: list(decision_cautions(connection, a_plan(), NOW))) == []


def test_a_plan_whose_calls_are_all_decisions_says_nothing(store: Any, exchange: Any) -> None:
    plan = a_plan(candidates=DECIDER)
    assert store.run(lambda connection: list(decision_cautions(connection, plan, NOW))) == []
    keep(store, exchange, a_request(SCHEMA))
    assert store.run(lambda connection: list(decision_cautions(connection, plan, NOW))) == []
