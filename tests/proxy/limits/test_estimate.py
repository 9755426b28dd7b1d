"""Amounts that are reserved for a call, and the learned outputs that they follow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
import time
from types import FrameType
from typing import Any

import pytest
from fixtures.limit_calls import LimitCalls

from gateway.config.config import Config
from gateway.config.derive import plans_of, prices_of
from gateway.core.errors import StreamDown
from gateway.core.limits import Limit, LimitScope
from gateway.core.output_tokens import KINDS, SHARED_NAME, kind_of, tables_to_json
from gateway.fake import HOLD
from gateway.proxy.limits.estimate import ModelEstimate, OutputTokenPoller, estimates_of
from gateway.proxy.limits.lease import Lease
from gateway.stream import Corridor


def a_config(**changes: Any) -> Config:
    return Config.model_validate({
        "keys": [{"name": "web", "sha256": "0" * 64}],
        "upstreams": {"near": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}, "far": {"kind": "openai"}},
        "models": {
            "chat": {
                "targets": [{"upstream": "near", "model": "small"}],
                "fallback": [{"upstream": "far", "model": "large"}],
            },
            "other": {"targets": [{"upstream": "near", "model": "own"}]},
        },
        "prices": {"as_of": "2026-11-01", "models": {
            "small": {"input": 0.1, "output": 0.4}, "large": {"input": 2, "output": 1, "reasoning": 9},
        }},
        **changes,
    })  # fmt: skip


def estimates(config: Config, before: Any = None) -> dict[str, ModelEstimate]:
    return estimates_of(config, prices_of(config), plans_of(config), before or {})


def test_dollars_are_reserved_at_the_highest_price() -> None:
    chat = estimates(a_config())["chat"]
    assert (chat.input_nano, chat.output_nano, chat.unpriced) == (2000, 9000, None)


def test_a_target_without_a_price_is_named() -> None:
    assert estimates(a_config())["other"].unpriced == "near/own"


@pytest.mark.parametrize(("mode", "unpriced"), [("split", "near/new"), ("shadow", None)])
def test_an_arm_that_serves_counts_and_one_that_shadows_does_not(mode: str, unpriced: str | None) -> None:
    arms = {"control": {"upstream": "near", "model": "small"}, "candidate": {"upstream": "near", "model": "new"}}
    experiment = {"model": "chat", "mode": mode, **arms}
    assert estimates(a_config(experiments={"swap": experiment}))["chat"].unpriced == unpriced


def test_a_reload_keeps_learned_values() -> None:
    before = estimates(a_config())
    before["chat"].learn(70)
    assert estimates(a_config(), before)["chat"].output == 140


@pytest.mark.parametrize("scale", [30, 3000])
def test_nine_of_ten_calls_stay_below_the_learned_value(scale: int) -> None:
    rng = random.Random(1)
    estimate = ModelEstimate(0, 0, None)
    outputs = [int(rng.expovariate(1 / scale)) for _ in range(6000)]
    for n in outputs[:2000]:
        estimate.learn(n)
    below = 0
    for n in outputs[2000:]:
        below += n <= estimate.output
        estimate.learn(n)
    assert 0.87 < below / 4000 < 0.93


def test_the_estimate_never_becomes_nothing() -> None:
    estimate = ModelEstimate(0, 0, None)
    for _ in range(1000):
        estimate.learn(0)
    assert estimate.output >= 16


TABLE = dict.fromkeys(KINDS, 20)


async def test_the_newest_tables_are_in_force(caplog: pytest.LogCaptureFixture) -> None:
    """Tables are in force until there are others, or none, and while the server does not answer."""
    texts: list[Any] = [tables_to_json({"chat": TABLE}), StreamDown("down"), "not JSON", "not JSON", None]
    estimates, seen = {name: ModelEstimate(0.0, 0.0, None) for name in ("chat", "other")}, []

    async def recall(name: str) -> str | None:
        assert name == SHARED_NAME
        text = texts.pop(0)
        if isinstance(text, Exception):
            raise text
        return text

    poller = OutputTokenPoller(recall, lambda: estimates)
    with caplog.at_level(logging.WARNING):
        while texts:
            await poller.look()
            seen.append((estimates["chat"].by_kind, estimates["other"].by_kind))
    assert seen == [(TABLE, {}), (TABLE, {}), ({}, {}), ({}, {}), ({}, {})]
    assert len(caplog.records) == 1, "a table that cannot be read is named once"


async def test_a_config_that_does_not_ask_reads_nothing() -> None:
    async def recall(_: str) -> str | None:
        raise AssertionError

    await OutputTokenPoller(recall, dict).look()


def test_looking_a_kind_up_takes_one_call_more() -> None:
    """Calls of functions that the gateway's own code makes for one reservation, as bench/test_hot.py counts."""
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
        """Statuses of eight calls, each begun once the previous one is in flight or refused."""

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
