"""Limits keep counting what was spent when the stream server has lost its data."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from gateway.consumer.consumer import Consumer
from gateway.core.errors import StreamDown
from gateway.core.exchange import Tally
from gateway.core.keys import Directory, TeamRecord
from gateway.core.limits import LimitScope, counter_name, limits_of, window_start
from gateway.core.usage import UsageCell, UsageCount, UsageSums, utc_day
from gateway.features.hooks import Hooks
from gateway.features.usage.work import ROUNDS, LimitRepair, looks_of
from gateway.stream.leases import LeaseReport, LeaseServer

TEAM = TeamRecord("search", {"usd_per_month": 5.0, "requests_per_day": 100})


class Counters:
    """Counters that were raised, by name."""

    def __init__(self) -> None:
        self.raised: dict[str, int] = {}
        self.calls = 0

    async def raise_spent(self, name: str, amount: int, expires_ms: int) -> None:
        assert expires_ms > time.time() * 1000
        self.calls += 1
        self.raised[name] = max(amount, self.raised.get(name, 0))


def used(calls: int) -> Tally:
    cell = UsageCell(utc_day(time.time()), "web", "web", "search", "", "", "chat", "u", "m", "", "", "")
    return Tally("g1", time.time(), 0, usage=(UsageCount(cell, UsageSums(calls=calls, nano_usd=calls * 7)),))


@pytest.fixture
def counters() -> Counters:
    """Limits' counters that the repair raises."""
    return Counters()


async def lose_everything(context: Any) -> None:
    client = context.corridor.client
    async for key in client.scan_iter(match=f"*{context.corridor.state.prefix}*"):
        await client.delete(key)


def repair(context: Any, counters: Any) -> LimitRepair:
    static = Directory(0, {}, {"search": TEAM}, {})
    return LimitRepair(context.store, context.corridor.state, counters, static, time.time)


async def test_after_a_loss_limits_count_the_usage_again(room: Any, counters: Counters) -> None:
    async with room.opened() as (_, context):
        async with room.consuming():
            await room.send(used(3))
            await room.until_read()
        await repair(context, counters).look()
        assert sorted(counters.raised.values()) == [3, 21]


async def test_a_server_that_has_lost_nothing_is_left_alone(room: Any, counters: Counters) -> None:
    """The server's own counters may begin later than the window: a limit that was set today counts from today."""
    async with room.opened() as (_, context):
        for _ in range(ROUNDS):
            await repair(context, counters).look()
        async with room.consuming():
            await room.send(used(3))
            await room.until_read()
        await repair(context, counters).look()
        assert counters.raised == {}
        await lose_everything(context)
        await repair(context, counters).look()
        assert sorted(counters.raised.values()) == [3, 21]


async def test_usage_that_is_read_after_the_loss_is_added(room: Any, counters: Counters) -> None:
    async with room.opened() as (_, context):
        await repair(context, counters).look()
        assert counters.raised == {}
        async with room.consuming():
            await room.send(used(3), used(5))
            await room.until_read()
        for _ in range(ROUNDS + 3):
            await repair(context, counters).look()
        assert sorted(counters.raised.values()) == [5, 35]
        assert counters.calls == 2 * (ROUNDS - 1)


async def test_a_server_that_refuses_it_stops_no_scoring(room: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An ACL may forbid the keys of limits: that is logged, and tried again."""

    class Forbidden(Counters):
        async def raise_spent(self, name: str, amount: int, expires_ms: int) -> None:
            raise StreamDown("no permissions to access a key")

    async with room.opened() as (_, context):
        async with room.consuming():
            await room.send(used(2))
            await room.until_read()
        forbidden, counters = repair(context, Forbidden()), Counters()
        await forbidden.look()
        await forbidden.look()
        assert caplog.text.count("no permissions to access a key") == 1
        await repair(context, counters).look()
        assert counters.calls == 2, "it was not marked as repaired"


async def test_the_consumer_looks_by_itself(room: Any, counters: Counters) -> None:
    async with room.opened() as (_, context):
        await context.corridor.join()
        async with room.consuming():
            await room.send(used(2))
            await room.until_read()
        watched = replace(context, hooks=Hooks(figures=(looks_of(repair(context, counters)),)))
        consumer = Consumer(watched, "c2")
        consumer.stop()
        await consumer.run()  # one last look before it leaves
        assert sorted(counters.raised.values()) == [2, 14]


async def test_gateways_are_granted_the_rest_after_the_repair(room: Any) -> None:
    """A real stream server grants the leases: five dollars a month, of which 3e-9 were spent before the loss."""
    async with room.opened() as (_, context):
        async with room.consuming():
            await room.send(used(3))
            await room.until_read()
        leases = LeaseServer(context.corridor.client, room.stream_name, "g2")
        await repair(context, LeaseServer(context.corridor.client, room.stream_name, "consumer")).look()
        now = time.time()
        [scope] = [LimitScope("team", "search", limits_of(TEAM.limits))]
        found = {}
        for limit in scope.limits:
            assert limit.window is not None
            starts, ends = (round(t * 1000) for t in (window_start(limit.window, "UTC", now).timestamp(), now + 3600))
            amount = 100 if limit.measure == "requests" else 5 * 10**9
            name = counter_name(scope, limit, now)
            reply = await leases.exchange([LeaseReport(name, 0, 0, -1, 0, 0, amount, starts, ends, 1000)])
            assert reply is not None
            found[limit.name] = (reply.grants[0].spent, reply.grants[0].left)
        assert found == {"requests_per_day": (3, 97), "usd_per_month": (21, 5 * 10**9 - 21)}
