"""A candidate that is dropped gets no more requests from any gateway; the others keep their probability."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gateway.fake import HOLD, FakeUpstream

ARMS = ("fast", "slow", "tiny")


def asked_of(upstream: FakeUpstream) -> Counter[str]:
    """Requests by model; the arms have models of their own."""
    return Counter(received.json["model"] for received in upstream.received)


def several(configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream) -> dict[str, Any]:
    made = configured(upstream, second)
    made["models"]["chat"]["fallback"] = []
    swap = {
        "model": "chat", "control": {"upstream": "u0", "model": "model-u0"},
        "candidates": {arm: {"upstream": "u1", "model": arm} for arm in ARMS}, "family": "best",
        "primary": "error_rate", "shadow": 0.5, "repeat_control": 0.5, "min_hours": 0, "budget": {"concurrency": 64},
        "gate": {"latency": False},
    }  # fmt: skip
    return {**made, "experiments": {"swap": swap}}


async def drop(gateway: Any, *arms: str) -> None:
    """Stores it on the stream server, as the consumer does."""
    known = (await gateway.corridor.state.plans())["swap"]
    assert await gateway.corridor.state.set_plan(replace(known, dropped=arms), known)


async def runs_without(gateway: Any, *arms: str) -> None:
    experiments = gateway.gateway.router.experiments
    await gateway.until(lambda: "swap" in experiments.in_force and experiments.in_force["swap"].dropped == arms)


async def quiet(*gateways: Any) -> None:
    for gateway in gateways:
        await gateway.until(lambda gateway=gateway: not gateway.gateway.in_use)


async def ask(n: int, *gateways: Any) -> None:
    for gateway in gateways:
        for _ in range(n):
            assert (await gateway.chat()).status_code == 200
    await quiet(*gateways)


async def test_a_dropped_candidate_gets_no_more_requests_from_the_fleet(
    start: Any, configured: Any, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    fleet = [await start(several(configured, upstream, second)) for _ in range(2)]
    for gateway in fleet:
        await runs_without(gateway)
    await ask(20, *fleet)
    before = asked_of(second)
    assert before["fast"] == before["slow"] == before["tiny"] > 0
    await drop(fleet[0], "slow")
    for gateway in fleet:
        await runs_without(gateway, "slow")
    await ask(20, *fleet)
    after = asked_of(second)
    assert after["slow"] == before["slow"]
    assert after["fast"] == after["tiny"] > before["fast"]
    records = await fleet[0].recorded(len(upstream.calls) + len(second.calls))
    shadows = [each for each in records if each.role == "shadow"]
    assert {each.pi for each in shadows} == {0.5}, "of those that are left, as before"
    served = [each for each in records if each.role == "served" and each.asked]
    assert {frozenset(each.asked) - {"repeat"} for each in served} == {frozenset(ARMS), frozenset({"fast", "tiny"})}


async def test_a_candidate_comes_back(
    start: Any, configured: Any, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    gateway = await start(several(configured, upstream, second))
    await runs_without(gateway)
    await drop(gateway, "slow", "tiny")
    await runs_without(gateway, "slow", "tiny")
    await ask(10, gateway)
    assert set(asked_of(second)) == {"fast"}
    await drop(gateway, "tiny")
    await runs_without(gateway, "tiny")
    await ask(10, gateway)
    assert set(asked_of(second)) == {"fast", "slow"}


async def test_nobody_is_asked_where_no_candidate_is_left(
    start: Any, configured: Any, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """The control is not asked again, either: a repeat without a candidate tells nothing."""
    gateway = await start(several(configured, upstream, second))
    await runs_without(gateway)
    await drop(gateway, *ARMS)
    await runs_without(gateway, *ARMS)
    await ask(20, gateway)
    assert not asked_of(second)
    assert asked_of(upstream)["model-u0"] == 20
    assert await gateway.metric("gateway_shadow_total", result="not_offered_all_dropped") > 0


async def test_a_call_on_its_way_asks_those_that_are_left(
    start: Any, configured: Any, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """A candidate is dropped while a client's answer is being written: the shadow is decided at its end."""
    config = several(configured, upstream, second)
    config["experiments"]["swap"]["shadow"] = 1.0
    gateway = await start(config)
    await runs_without(gateway)
    upstream.says("one ", HOLD, "two ")
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(gateway.chat(stream=True))
        await upstream.until(lambda u: len(u.calls) == 1)
        await drop(gateway, "tiny")
        await runs_without(gateway, "tiny")
        upstream.release()
    assert waiting.result().status_code == 200
    await quiet(gateway)
    await gateway.until(lambda: len(asked_of(second)) == 2)
    assert set(asked_of(second)) == {"fast", "slow"}


async def test_by_default_more_candidates_than_four_are_asked(
    start: Any, configured: Any, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """The default concurrency of 4 rises to the requests of one shadow: five candidates, and the control again."""
    made = several(configured, upstream, second)
    swap = made["experiments"]["swap"]
    del swap["budget"]
    swap |= {"candidates": {f"c{n}": {"upstream": "u1", "model": f"c{n}"} for n in range(5)}, "shadow": 1}
    swap["repeat_control"] = 1
    gateway = await start(made)
    await runs_without(gateway)
    await ask(1, gateway)
    assert asked_of(second) == Counter([f"c{n}" for n in range(5)])
