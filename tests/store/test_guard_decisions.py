"""Each decision of a guard is a row, stored once, deleted with its exchange. On both databases."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

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
