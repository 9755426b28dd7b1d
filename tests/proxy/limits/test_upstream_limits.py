"""Limits of an upstream over real sockets: shared by gateways, learned from the vendor, with fallbacks; and shares."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import httpx2
import pytest

from gateway.fake import HOLD, Delay, FakeUpstream

Configured = Callable[..., dict[str, Any]]
Start = Callable[..., Any]
ANSWER = (
    b'{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"ok"}}],"usage":{"prompt_tokens":5,"completion_tokens":5,"total_tokens":10}}'
)


def key(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "sha256": sha256(name.encode()).hexdigest(), **more}


def limited(config: dict[str, Any], queue_s: float = 20.0, **limits: int) -> dict[str, Any]:
    config["upstreams"]["u0"] |= {"limits": limits, "queue_s": queue_s}
    config["models"]["chat"]["timeouts"] |= {"answer_s": 50, "first_token_s": 50, "total_s": 60}
    return config


def early(seconds: float = 1e-3) -> float:
    """The shift of the stream server's clock by which a minute has just begun."""
    return 60 - time.time() % 60 + seconds


async def test_gateways_share_the_calls_in_flight_of_an_upstream(
    start: Start, configured: Configured, upstream: FakeUpstream
) -> None:
    upstream.says("one ", HOLD, "two ")
    config = limited(configured(upstream), concurrency=3)
    gateways = [await start(config) for _ in range(2)]
    loop = asyncio.get_running_loop()
    calls = [loop.create_task(gateways[n % 2].chat()) for n in range(8)]
    await upstream.until(lambda u: len(u.calls) == 3)
    waiting = lambda: sum(g.gateway.upstreams["u0"].limiter.waiting for g in gateways)  # noqa: E731
    await gateways[0].until(lambda: waiting() == 5)
    assert len(upstream.calls) == 3
    upstream.says("free")
    upstream.release()
    assert [answer.status_code for answer in await asyncio.gather(*calls)] == [200] * 8


async def test_gateways_share_the_requests_of_a_minute(
    start: Start, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """Requests beyond them go to the fallback, and the limit is shown like that of a caller."""
    config = limited(configured(upstream, second), queue_s=0.3, requests_per_minute=12)
    shift_s = early()
    gateways = [await start(config, limits_shift_s=shift_s) for _ in range(2)]
    answers = await asyncio.gather(*(gateways[n % 2].chat() for n in range(40)))
    assert [answer.status_code for answer in answers] == [200] * 40
    assert 10 <= len(upstream.calls) <= 12, "never more; the last ones may be held by the other worker"
    assert len(upstream.calls) + len(second.calls) == 40
    used = [await g.metric("gateway_limit_used_ratio", scope="upstream u0") for g in gateways]
    assert 0.8 <= max(used) <= 1.0


async def test_tokens_of_a_minute_are_settled_by_what_the_vendor_reports(
    start: Start, configured: Configured, upstream: FakeUpstream
) -> None:
    upstream.answers(200, ANSWER)
    gateway = await start(limited(configured(upstream), queue_s=0.2, tokens_per_minute=100), limits_shift_s=early())
    statuses = [(await gateway.chat(max_tokens=40)).status_code for _ in range(10)]
    assert statuses.count(200) >= 5, "each has used 10 of the 50 that were reserved"
    assert statuses[-1] == 429, "then what is reserved for the next does not fit"
    refused = await gateway.chat(max_tokens=40)
    assert refused.headers["retry-after"] == "1"


async def test_the_vendors_remaining_amount_is_respected(
    start: Start, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    left = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "0"}
    upstream.answers(200, ANSWER, list((left | {"x-ratelimit-reset-requests": "1h0m0s"}).items()))
    gateway = await start(limited(configured(upstream, second), queue_s=0.1))
    assert [(await gateway.chat()).headers["x-gateway-upstream"] for _ in range(3)] == ["u0", "u1", "u1"]
    upstream.answers(200, ANSWER, list((left | {"x-ratelimit-reset-requests": "100ms"}).items()))
    gateway = await start(limited(configured(upstream, second), queue_s=20))
    assert [(await gateway.chat()).headers["x-gateway-upstream"] for _ in range(5)] == ["u0"] * 5


SPENT = [
    ("x-ratelimit-limit-requests", "10"),
    ("x-ratelimit-remaining-requests", "0"),
    ("x-ratelimit-reset-requests", "8h"),
]


def with_other(config: dict[str, Any]) -> dict[str, Any]:
    """The config with an alias `other` at another model of the same upstream."""
    other = {**config["models"]["chat"], "targets": [{"upstream": "u0", "model": "model-other"}]}
    return {**config, "models": {**config["models"], "other": other}}


async def test_a_models_headers_close_no_other_model(
    start: Start, configured: Configured, upstream: FakeUpstream
) -> None:
    """Calls of the closed model that fill the upstream's queue change nothing, and their 429 names the header."""
    config = with_other(limited(configured(upstream), queue_s=0.2))
    config["upstreams"]["u0"] |= {"queue": 3}
    gateway = await start(config)
    upstream.answers(200, ANSWER, SPENT)
    assert (await gateway.chat()).status_code == 200
    upstream.answers(200, ANSWER)
    refused = await gateway.chat()
    assert refused.status_code == 429
    assert "x-ratelimit-remaining-requests: 0, which resets 28,800 s later" in refused.json()["error"]["message"]
    assert int(refused.headers["retry-after"]) in range(1, 61)
    loop = asyncio.get_running_loop()
    waiting = [loop.create_task(gateway.chat()) for _ in range(3)]
    others = await asyncio.gather(*(gateway.chat(model="other") for _ in range(8)))
    assert [answer.status_code for answer in others] == [200] * 8
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [429] * 3


async def test_a_minute_after_the_report_one_call_asks(
    start: Start, configured: Configured, upstream: FakeUpstream
) -> None:
    passed = [0.0]
    gateway = await start(limited(configured(upstream), queue_s=0.2), passed_s=lambda: passed[0])
    upstream.answers(200, ANSWER, SPENT)
    assert (await gateway.chat()).status_code == 200
    for _ in range(2):
        passed[0] += 61.0
        answers = await asyncio.gather(*(gateway.chat() for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [200, *[429] * 5]


async def test_an_answer_without_figures_ends_the_wait(
    start: Start, configured: Configured, upstream: FakeUpstream
) -> None:
    passed = [0.0]
    gateway = await start(limited(configured(upstream), queue_s=50.0), passed_s=lambda: passed[0])
    upstream.answers(200, ANSWER, SPENT)
    assert (await gateway.chat()).status_code == 200
    passed[0] += 61.0
    upstream.answers(200, ANSWER)
    answers = await asyncio.gather(*(gateway.chat() for _ in range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6


async def test_an_upstream_without_limits_does_not_wait(
    start: Start, configured: Configured, upstream: FakeUpstream
) -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h"}
    upstream.answers(200, ANSWER, list(headers.items()))
    gateway = await start(configured(upstream))
    assert [(await gateway.chat()).status_code for _ in range(3)] == [200] * 3


async def test_classes_and_weights_decide_whose_turn_it_is(
    start: Start, configured: Configured, upstream: FakeUpstream
) -> None:
    keys = [key("night", **{"class": "batch"}), key("web", **{"class": "interactive"}), key("other")]
    config = limited(configured(upstream, keys=keys), concurrency=100)
    del config["upstreams"]["u0"]["limits"]
    config["upstreams"]["u0"] |= {"kind": "vllm", "priority": True, "concurrency": 1, "shares": {"keys": {"web": {}}}}
    gateway = await start(config, key="other")
    upstream.says("one ", HOLD, "two ")
    loop, calls = asyncio.get_running_loop(), []
    async with httpx2.AsyncClient(base_url=gateway.base_url, timeout=60) as client:

        def ask(name: str, **more: Any) -> None:
            body = {"model": "chat", "messages": [{"role": "user", "content": name}], **more}
            calls.append(loop.create_task(client.post("/chat/completions", json=body, headers={"x-api-key": name})))

        limiter = gateway.gateway.upstreams["u0"].limiter
        ask("other")
        await upstream.until(lambda u: len(u.calls) == 1)
        for n, name in enumerate(("night", "night", "other", "web")):
            ask(name, **({"priority": -5} if name == "night" else {}))
            await gateway.until(lambda n=n: limiter.waiting == n + 1)
        upstream.says("free")
        upstream.release()
        assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}
    received = [call.json for call in upstream.calls]
    assert [r["messages"][0]["content"] for r in received] == ["other", "web", "other", "night", "night"]
    assert [r.get("priority") for r in received] == [None, -10, None, 10, 10], "vLLM's own order is the same"


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_shares_and_p95_of_a_full_upstream_over_60_seconds(
    start: Start, configured: Configured, upstream: FakeUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    """Teams of weights 5, 3 and 2; then a flood of batches alongside ten users."""
    upstream.remember = False
    upstream.says(Delay(0.05), "done")
    weights = {"search": 5, "ads": 3, "lab": 2}
    keys = [key(team, team=team) for team in weights]
    keys += [key("web", **{"class": "interactive"}), key("night", **{"class": "batch"})]
    config = configured(upstream, keys=keys, teams={team: {} for team in weights}, sampling={"rate": 0.0})
    shares = {"teams": {team: {"weight": weight} for team, weight in weights.items()}}
    config["upstreams"]["u0"] |= {"concurrency": 8, "queue": 128, "queue_s": 50, "shares": shares}
    config["models"]["chat"]["timeouts"] |= {"answer_s": 50, "first_token_s": 50, "total_s": 60}
    gateway = await start(config, key="web")

    async def load(callers: dict[str, tuple[int, float]], seconds: float) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {name: [] for name in callers}
        ends = time.monotonic() + seconds

        async def caller(name: str, pause_s: float) -> None:
            headers = {"x-api-key": name}
            async with httpx2.AsyncClient(base_url=gateway.base_url, timeout=60, headers=headers) as client:
                body = {"model": "chat", "messages": [{"role": "user", "content": name}]}
                while time.monotonic() < ends:
                    began = time.monotonic()
                    assert (await client.post("/chat/completions", json=body)).status_code == 200
                    found[name].append(time.monotonic() - began)
                    await asyncio.sleep(pause_s)

        await asyncio.gather(*(caller(name, pause_s) for name, (n, pause_s) in callers.items() for _ in range(n)))
        return found

    served = await load(dict.fromkeys(weights, (14, 0.0)), 60)
    total = sum(map(len, served.values()))
    parts = {team: len(calls) / total for team, calls in served.items()}
    quiet = sorted((await load({"web": (10, 0.2)}, 30))["web"])
    flooded = sorted((await load({"web": (10, 0.2), "night": (60, 0.0)}, 30))["web"])
    p95 = [1000 * calls[int(0.95 * len(calls))] for calls in (quiet, flooded)]
    with capsys.disabled():
        print(f"\n{total} calls in 60 s: {parts}")  # noqa: T201
        print(f"interactive p95 {p95[0]:.0f} ms, in a flood of batches {p95[1]:.0f} ms")  # noqa: T201
    for team, part in parts.items():
        assert part == pytest.approx(weights[team] / 10, rel=0.05)
    assert p95[1] <= p95[0] + 150, "one call of 50 ms is waited for, and the machine's own delays"


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("classes", [False, True], ids=["weights", "classes"])
async def test_shares_hold_over_two_gateways_with_unbalanced_connections(
    start: Start, configured: Configured, upstream: FakeUpstream, capsys: pytest.CaptureFixture[str], classes: bool
) -> None:
    """Teams of weights 5, 3 and 2: all calls of the first reach one gateway, those of the second the other, the third's
    both. Or: a flood of batches at one gateway, and ten users of class `interactive` at the other."""
    upstream.remember = False
    upstream.says(Delay(0.05), "done")
    weights = {"search": 5, "ads": 3, "lab": 2}
    keys = [key(team, team=team) for team in weights]
    keys += [key("web", **{"class": "interactive"}), key("night", **{"class": "batch"})]
    config = limited(
        configured(upstream, keys=keys, teams={t: {} for t in weights}, sampling={"rate": 0.0}), concurrency=8
    )
    shares = {"teams": {team: {"weight": weight} for team, weight in weights.items()}}
    config["upstreams"]["u0"] |= {"queue": 128, "queue_s": 50, "shares": shares}
    gateways = [await start(config, key="web") for _ in range(2)]
    served: dict[str, list[float]] = {name: [] for name in (*weights, "web", "night")}
    plan = [("search", 0, 14, 0.0), ("ads", 1, 14, 0.0), ("lab", 0, 7, 0.0), ("lab", 1, 7, 0.0)]
    plan = [("night", 0, 60, 0.0), ("web", 1, 10, 0.2)] if classes else plan
    begins = time.monotonic() + 5
    ends = begins + 60

    async def caller(name: str, at: int, pause_s: float) -> None:
        headers = {"x-api-key": name}
        async with httpx2.AsyncClient(base_url=gateways[at].base_url, timeout=60, headers=headers) as client:
            body = {"model": "chat", "messages": [{"role": "user", "content": name}]}
            while time.monotonic() < ends:
                began = time.monotonic()
                assert (await client.post("/chat/completions", json=body)).status_code == 200
                if began > begins:
                    served[name].append(time.monotonic() - began)
                await asyncio.sleep(pause_s)

    await asyncio.gather(*(caller(name, at, pause_s) for name, at, n, pause_s in plan for _ in range(n)))
    total = sum(map(len, served.values()))
    parts = {team: len(served[team]) / total for team in weights}
    web = sorted(served["web"]) or [0.0]
    with capsys.disabled():
        print(f"\n{total} calls in 60 s: {parts}; web p95 {1000 * web[int(0.95 * len(web))]:.0f} ms")  # noqa: T201
    if classes:
        assert web[int(0.95 * len(web))] < 1.0
        return
    for team, part in parts.items():
        assert part == pytest.approx(weights[team] / 10, rel=0.1)
