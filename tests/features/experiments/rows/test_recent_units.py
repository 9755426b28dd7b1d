"""Which units the recorded calls of a model name."""

from __future__ import annotations

from dataclasses import replace

from fixtures.simulated import a_plan

from gateway.features.experiments.rows.recent_units import MOST_READ, RecentUnits, recent_units

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
