"""The budgets that `gateway status` looks at, on both databases, and those of them that it lists."""

from __future__ import annotations

import time
from typing import Any

from gateway.core.keys import Directory, KeyRecord, OrganizationRecord, PersonRecord, TeamRecord
from gateway.core.limits import counter_name
from gateway.features.status.near_limits import caller_budgets, near_limits
from gateway.store.directory import DirectoryRow, begin_change, save_row
from gateway.stream import Corridor
from gateway.stream.leases import LeaseServer

LIMITS = {"usd_per_month": 50.0, "tokens_per_hour": 90, "requests_per_minute": 3, "concurrency": 2}
OF_CALLS = {"models": {"chat": {"usd_per_day": 2.0}}, "tags": {"project=demo": {"requests_per_day": 5}},
            "per_user": {"usd_per_day": 1.0}}  # fmt: skip
STATIC = Directory(
    0, {"acme": OrganizationRecord("acme", LIMITS)}, {"search": TeamRecord("search", {"concurrency": 4})}, {},
    {"requests_per_week": 9}, {"ann": PersonRecord("ann", {"usd_per_month": 30.0})},
)  # fmt: skip


def with_a_key(store: Any) -> None:
    key = KeyRecord("key_1", "web", (), OF_CALLS)
    store.run(lambda c: save_row(c, DirectoryRow(key, 1.0, 1.0, begin_change(c))))


def test_rates_and_end_users_are_no_budgets_and_defaults_are(store: Any) -> None:
    with_a_key(store)
    found = store.run(lambda c: caller_budgets(c, STATIC, time.time()))
    assert {f"{scope.kind} {name}": [limit.name for limit in scope.limits] for scope, name in found.items()} == {
        "organization acme": ["tokens_per_hour", "usd_per_month"],
        "person ann": ["usd_per_month"],
        "key web": ["requests_per_week"],
        "model key-web/chat": ["usd_per_day"],
        "tag key-web/project=demo": ["requests_per_day"],
    }


async def test_the_most_used_is_the_first_and_the_others_are_left_out(corridor: Corridor, store: Any) -> None:
    with_a_key(store)
    now = time.time()
    budgets = store.run(lambda c: caller_budgets(c, STATIC, now))
    counters = LeaseServer(corridor.client, corridor.state.prefix, "consumer")
    shares = {"key-web/chat": 0.8, "key-web/project=demo": 1.4, "acme": 0.79, "ann": 0.9}
    for scope, name in budgets.items():
        for limit in scope.limits:
            used = round(shares.get(name, 0.0) * limit.amount * limit.scale)
            await counters.raise_spent(counter_name(scope, limit, now), used, round((now + 900) * 1000))
    found = await near_limits(corridor, budgets, now)
    assert [(near.scope, near.name, near.limit, near.spent, near.amount) for near in found] == [
        ("tag", "key-web/project=demo", "requests_per_day", 7.0, 5.0),
        ("person", "ann", "usd_per_month", 27.0, 30.0),
        ("model", "key-web/chat", "usd_per_day", 1.6, 2.0),
    ]
    assert all(near.resets_at is not None and near.resets_at > now for near in found)
