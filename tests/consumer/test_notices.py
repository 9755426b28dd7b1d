"""The consumer as a whole tells people what its sources find."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.config.loading import parse
from gateway.consumer.serve import opened
from gateway.core.limits import LimitScope, counter_name, limits_of
from gateway.stream.leases import LeaseReport, LeaseServer


async def spent(stream_url: str, stream_name: str, scope: LimitScope, usd: int) -> None:
    """Reports that a gateway has spent so much of the scope's first limit."""
    [limit] = scope.limits
    server, units = Redis.from_url(stream_url), usd * 10**9
    name, ends_ms = counter_name(scope, limit, time.time()), round((time.time() + 86_400) * 1000)
    leases = LeaseServer(server, stream_name, "w1")
    await leases.exchange([LeaseReport(name, units, units, -1, 0, 0, round(1e11), 0, ends_ms, 60_000)])
    await server.aclose()


async def test_a_consumer_reports_a_budget_that_is_nearly_used_up(
    receiver: Any, place_store: Any, tmp_path: Path, stream_url: str, stream_name: str
) -> None:
    """80 % is a cause of its own, with a link; the soft limit of nobody's usage is none, nor what an import carried."""
    carried = {"usd_per_month": {"amount": 75, "until": "2099-01-01T00:00:00Z"}}
    limits = {"usd_per_month": 100, "carried": carried, "soft": {"usd_per_month": 1}}
    config = parse(yaml.safe_dump({
        "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}},
        "models": {"chat": {"targets": [{"upstream": "local", "model": "m"}]}},
        "teams": {"search": {"limits": limits}},
        "stream": {"url": stream_url, "name": stream_name},
        "notify": {"console_url": "https://c.example.org", "targets": {"ops": {"kind": "slack", "url": receiver.url}}},
    }))  # fmt: skip
    store = place_store(tmp_path / "gateway.db")
    await spent(stream_url, stream_name, LimitScope("team", "search", limits_of(limits)), 10)
    async with opened(config, store, stream_url, CollectorRegistry()), asyncio.timeout(60):
        while not receiver.got:
            await asyncio.sleep(0.02)
    (got,) = receiver.got
    assert "<https://c.example.org/console/keys|team search has used 80% of its usd_per_month>" in got.body["text"]
