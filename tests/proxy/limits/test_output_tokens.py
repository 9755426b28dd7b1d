"""Learned outputs reach the estimates of the config in force, and only those that ask for them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from fixtures.limit_calls import LimitCalls

from gateway.core.errors import StreamDown
from gateway.core.limits import Limit, LimitScope
from gateway.core.output_tokens import KINDS, SHARED_NAME, kind_of, tables_to_json
from gateway.fake import HOLD
from gateway.proxy.limits.estimate import ModelEstimate
from gateway.proxy.limits.lease import Lease
from gateway.proxy.limits.output_tokens import OutputTokenPoller
from gateway.stream import Corridor

TABLE = dict.fromkeys(KINDS, 20)


def limiter(by_request: bool = True) -> Any:
    estimates = {name: ModelEstimate(0.0, 0.0, None) for name in ("chat", "other")}
    return SimpleNamespace(estimates=estimates, estimates_by_request=by_request)


async def test_the_newest_tables_are_in_force(caplog: pytest.LogCaptureFixture) -> None:
    """Until there are others, or none; also while the server does not answer."""
    texts: list[Any] = [tables_to_json({"chat": TABLE}), StreamDown("down"), "not JSON", "not JSON", None]
    one, seen = limiter(), []

    async def recall(name: str) -> str | None:
        assert name == SHARED_NAME
        text = texts.pop(0)
        if isinstance(text, Exception):
            raise text
        return text

    poller = OutputTokenPoller(recall, lambda: one)
    with caplog.at_level(logging.WARNING):
        while texts:
            await poller.look()
            seen.append((one.estimates["chat"].by_kind, one.estimates["other"].by_kind))
    assert seen == [(TABLE, {}), (TABLE, {}), ({}, {}), ({}, {}), ({}, {})]
    assert len(caplog.records) == 1, "a table that cannot be read is named once"


async def test_a_config_that_does_not_ask_reads_nothing() -> None:
    async def recall(_: str) -> str | None:
        raise AssertionError

    await OutputTokenPoller(recall, lambda: limiter(by_request=False)).look()


def test_looking_a_kind_up_takes_one_call_more() -> None:
    """Calls of functions that the gateway's own code makes for one reservation, as tests/bench/test_hot.py counts."""
    limit = Limit("tokens", 1e9, "day")
    lease = Lease(LimitScope("key", "web", (limit,)), limit, "x", 0.0, time.time() + 86_400)
    lease.free = 10**9
    calls, kinds = LimitCalls(lease), {kind: kind + 1 for kind in KINDS}

    def counted() -> int:
        n = 0

        def count(frame: FrameType, event: str, _: Any) -> None:
            nonlocal n
            n += event in ("call", "c_call") and "/gateway/" in frame.f_code.co_filename

        sys.setprofile(count)
        try:
            calls.reserve_for({"tools": []}, b"x" * 600)
        finally:
            sys.setprofile(None)
        return n

    counted()
    before = counted()
    calls.estimate.by_kind = kinds
    assert counted() == before + 1
    reserved = calls.reserve_for({"tools": []}, b"x" * 600).needs
    assert reserved[1] == 600 // 4 + kinds[kind_of(600, {"tools": []}, False)] + 1


async def test_more_calls_run_at_once_within_the_same_limit(
    start: Any, limited: Any, upstream: Any, stream_url: str, stream_name: str
) -> None:
    """A limit of 2 000 tokens, which an unknown model's 1 000 for each call leave to one call at a time. If calls of
    this kind are known to produce 20, eight run at once, and what they use stays within the limit."""
    upstream.says("one ", HOLD, "two ")
    patient = {"timeouts": {"first_token_s": 60, "idle_s": 60, "total_s": 120}}
    config = limited({"tokens_per_day": 2000}, chat=patient, budgets={"estimate": "request"})
    loop = asyncio.get_running_loop()

    async def statuses(gateway: Any) -> list[int]:
        """Of eight calls, each begun once the one before is in flight or refused."""

        async def streamed() -> int:
            async with gateway.stream() as response:
                await response.aread()
                return int(response.status_code)

        calls = []
        for _ in range(8):
            before = len(upstream.calls)
            calls.append(loop.create_task(streamed()))
            while len(upstream.calls) == before and not calls[-1].done():
                await asyncio.sleep(0.01)
        upstream.release()
        return [await call for call in calls]

    async with contextlib.AsyncExitStack() as stack:
        assert await statuses(await start(config, stack=stack)) == [200] + [429] * 7
    corridor = Corridor(stream_url, stream_name)
    await corridor.state.remember(SHARED_NAME, tables_to_json({"chat": TABLE}), 60)
    await corridor.aclose()
    upstream.says("one ", HOLD, "two ")
    gateway = await start(config)
    assert await statuses(gateway) == [200] * 8
    assert 0 < (await gateway.client.get("/key")).json()["limits"][0]["used"] <= 2000
