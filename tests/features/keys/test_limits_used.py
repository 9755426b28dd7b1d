"""What the page says of limits is what the gateways have counted, in the window that is open."""

from __future__ import annotations

import time

from gateway.core.keys import KeyRecord, TeamRecord
from gateway.core.limits import counter_name
from gateway.core.usage import NANO
from gateway.features.keys.limits_used import scope_of, used_limits
from gateway.stream import Corridor
from gateway.stream.leases import LeaseServer


async def test_the_most_used_limit_comes_first_in_its_own_unit(corridor: Corridor) -> None:
    now = time.time()
    team = scope_of(TeamRecord("search", {"usd_per_month": 10.0, "requests_per_day": 100}))
    key = scope_of(KeyRecord(id="k1", name="web", digests=(), limits={"tokens_per_month": 1000}))
    counters = LeaseServer(corridor.client, corridor.state.prefix, "consumer")
    later_ms = round((now + 1000) * 1000)
    dollars = next(limit for limit in team.limits if limit.measure == "usd")
    await counters.raise_spent(counter_name(team, dollars, now), 9 * NANO, later_ms)
    await counters.raise_spent(counter_name(key, key.limits[0], now), 250, later_ms)
    found = await used_limits(corridor, [team, key], now)
    assert [(str(u.scope), u.limit.name, u.spent, u.near) for u in found] == [
        ("team search", "usd_per_month", 9.0, True),
        ("key k1", "tokens_per_month", 250.0, False),
        ("team search", "requests_per_day", 0.0, False),
    ]
    assert all(u.resets_at is not None and u.resets_at > now for u in found)


async def test_nobody_with_limits_asks_nothing(corridor: Corridor) -> None:
    assert await used_limits(corridor, [], time.time()) == []
