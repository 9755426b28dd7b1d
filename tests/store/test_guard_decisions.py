"""Each decision of a guard is a row, stored once, deleted with its exchange. On both databases."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from gateway.core.exchange import Exchange
from gateway.core.guards import GuardDecision, to_json
from gateway.features.calls.rows.erase import ErasureRequest, count, erase, find
from gateway.store.retention import RetentionLimits, sweep

Make = Callable[..., Exchange]
HIT = GuardDecision("secrets", "answer", "block", "hit", True, 1.0, None, ("key", "email"), 2, 0.001, "abc")
LATE = GuardDecision("judge", "request", "observe", "failed", False, None, "timeout", seconds=1.0)


def test_each_decision_is_a_row_with_its_probability(store: Any, exchange: Make) -> None:
    one = exchange("1", guards=to_json([HIT, LATE]), pi=0.25, stratum="guard")
    store.write(one, exchange("0"))
    store.write(one)
    rows = store.sql(
        "SELECT exchange_id, guard, on_side, action, result, acted, score, failure, found, matches, config_hash, pi, "
        "stratum, received FROM guard_decisions ORDER BY guard"
    )
    assert rows == [
        (
            one.id,
            "judge",
            "request",
            "observe",
            "failed",
            False,
            None,
            "timeout",
            "",
            0,
            "",
            0.25,
            "guard",
            one.received,
        ),
        (
            one.id,
            "secrets",
            "answer",
            "block",
            "hit",
            True,
            1.0,
            None,
            "key email",
            2,
            "abc",
            0.25,
            "guard",
            one.received,
        ),
    ]
    assert store.sql("SELECT guards FROM exchanges ORDER BY guards") in (
        [(None,), (one.guards,)],
        [(one.guards,), (None,)],
    )


def test_the_copies_of_a_call_do_not_repeat_its_decisions(store: Any, exchange: Make) -> None:
    """The record of a shadow has the decisions of its served call, by which it is redacted."""
    one = exchange("1", guards=to_json([HIT]))
    shadow = exchange("0", guards=one.guards, role="shadow", arm="candidate", pair=one.id)
    store.write(one, shadow)
    assert store.sql("SELECT exchange_id FROM guard_decisions") == [(one.id,)]


def test_decisions_go_with_their_exchange(store: Any, exchange: Make) -> None:
    guards = to_json([HIT])
    old, new = exchange("1", received=1.0, guards=guards), exchange("0", guards=guards)
    store.write(old, new)
    store.run(lambda c: sweep(c, RetentionLimits(30 * 86_400.0), "c1", time.time() + 4000))
    assert store.sql("SELECT exchange_id FROM guard_decisions") == [(new.id,)]
    request = ErasureRequest("caller", new.caller)
    assert store.run(lambda c: count(c, request)).n["decisions of guards"] == 1
    later = time.time() + 7200
    ids = store.run(lambda c: list(find(c, request)))
    assert store.run(lambda c: erase(c, ids, later)).n["decisions of guards"] == 1
    assert store.sql("SELECT exchange_id FROM guard_decisions") == []


def test_a_call_of_a_ramp_has_its_unit_and_a_digest_of_its_prompt(store: Any, exchange: Make) -> None:
    """The same prompt of the same key and end user has the same digest, wherever it stands in a conversation."""
    counted = to_json([replace(HIT, unit="u1"), LATE])

    def asks(text: str, *before: str, **fields: Any) -> Exchange:
        turns = [{"role": "user" if i % 2 == 0 else "assistant", "content": t} for i, t in enumerate((*before, text))]
        return exchange("1", guards=counted, request=orjson.dumps({"messages": turns}), **fields)

    made = [
        asks("pay it"),
        asks(" pay  it\n", "pay it", "No."),
        asks("pay it", user_digest="u"),
        asks("pay it", caller="app"),
        asks("pay all"),
        exchange("1", guards=counted, request=b"{}"),
        exchange("1", guards=counted, request=b'{"messages": [{"role": "tool", "content": "done"}]}'),
        exchange("1", guards=counted, request=b'{"messages": [{"role": "us'),
    ]
    store.write(*made)
    found = {
        row[0]: row[1:]
        for row in store.sql("SELECT exchange_id, unit, asked FROM guard_decisions WHERE guard = 'secrets'")
    }
    rows = [found[each.id] for each in made]
    assert {unit for unit, _ in rows} == {"u1"}
    asked = [digest for _, digest in rows]
    assert asked[0] == asked[1] is not None
    assert len({*asked[:5]}) == 4
    assert asked[5:] == [None, None, None], "no prompt of a user is known"
    assert store.sql("SELECT unit, asked FROM guard_decisions WHERE guard = 'judge' LIMIT 1") == [(None, None)]
