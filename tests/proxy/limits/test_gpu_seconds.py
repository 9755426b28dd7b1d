"""GPU-seconds of one's own engines: a budget like one of dollars, at a price by tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.fake import FakeUpstream

Limited = Callable[..., dict[str, Any]]
IN, OUT = 1000.0, 10_000.0  # GPU-seconds per million tokens
BODY = {"model": "chat", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 50}


def on_engine(
    limited: Limited,
    *,
    key: Any = None,
    team: Any = None,
    person: Any = None,
    priced: bool = True,
    kind: str = "vllm",
    **sections: Any,
) -> dict[str, Any]:
    """The model is on an engine of one's own. priced: its GPU-seconds are known."""
    config = limited(key=key, team=team, person=person, prices=None, **sections)
    config["upstreams"]["u0"]["kind"] = kind
    gpu = {"u0/model-u0": {"input": IN, "output": OUT}} if priced else {}
    return {**config, "prices": {"as_of": "2026-11-29", "models": {}, "gpu_seconds": gpu}}


async def asked(gateway: Any, n: int = 1, **fields: Any) -> list[Any]:
    return [await gateway.client.post("/chat/completions", json={**BODY, **fields}) for _ in range(n)]


@pytest.mark.parametrize(
    ("where", "scope"),
    [
        ({"key": {"gpu_seconds_per_day": 2.0}}, "key tester"),
        ({"person": {"gpu_seconds_per_day": 2.0}}, "person ann"),
        ({"team": {"gpu_seconds_per_month": 2.0}}, "team search"),
        ({"organization": {"gpu_seconds_per_day": 2.0}}, "organization acme"),
        ({"team": {"models": {"chat": {"gpu_seconds_per_day": 2.0}}}}, "model team-search/chat"),
        ({"key": {"per_user": {"gpu_seconds_per_day": 2.0}}}, "user key-tester/"),
    ],
    ids=["key", "person", "team", "organization", "model", "end user"],
)
async def test_a_budget_in_gpu_seconds_is_kept(
    start: Any, limited: Limited, upstream: FakeUpstream, where: Any, scope: str
) -> None:
    upstream.says("word " * 50)
    gateway = await start(on_engine(limited, **where))
    answers = await asked(gateway, 6, user="ada")
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 3, "half a second of a GPU each"
    error = answers[-1].json()["error"]
    assert error["code"] == "insufficient_quota"
    assert error["scope"].startswith(scope)
    assert error["limit"].startswith("gpu_seconds_per_")
    assert (error["amount"], error["spent"]) == (2.0, pytest.approx(3 * 0.503))
    assert "GPU-seconds" in error["message"]


async def test_gpu_seconds_are_counted_recorded_and_shown(start: Any, limited: Limited, upstream: FakeUpstream) -> None:
    upstream.says("word " * 50)
    gateway = await start(on_engine(limited, key={"gpu_seconds_per_day": 100.0}))
    await asked(gateway, 3)
    one = 3 * IN / 1e6 + 50 * OUT / 1e6
    [limit] = (await gateway.client.get("/key")).json()["limits"]
    assert (limit["limit"], limit["spent"]) == ("gpu_seconds_per_day", pytest.approx(3 * one))
    assert await gateway.metric("gateway_gpu_seconds_total", alias="chat", upstream="u0") == pytest.approx(3 * one)
    assert await gateway.metric("gateway_team_gpu_seconds_total", team="search") == pytest.approx(3 * one)
    assert [each.gpu_seconds for each in await gateway.recorded(3)] == [pytest.approx(one)] * 3
    tally = await gateway.tally(lambda found: sum(each.sums.calls for each in found.usage) == 3)
    assert sum(each.sums.nano_gpu_seconds for each in tally.usage) == pytest.approx(3 * one * 1e9)


async def test_calls_without_a_limit_are_counted_too(start: Any, limited: Limited, upstream: FakeUpstream) -> None:
    upstream.says("word " * 50)
    gateway = await start(on_engine(limited))
    await asked(gateway, 2)
    tally = await gateway.tally(lambda found: sum(each.sums.calls for each in found.usage) == 2)
    assert sum(each.sums.nano_gpu_seconds for each in tally.usage) == pytest.approx(2 * 0.503e9)


@pytest.mark.parametrize(
    ("kind", "policy", "status"),
    [("vllm", "refuse", 403), ("vllm", "count_tokens", 200), ("vllm", "free", 200), ("openai", "refuse", 200)],
)
async def test_an_engine_without_a_price_is_a_matter_of_policy(
    start: Any, limited: Limited, kind: str, policy: str, status: int
) -> None:
    """A model that runs elsewhere uses no GPU-second of one's own."""
    config = on_engine(limited, key={"gpu_seconds_per_day": 1e-6}, priced=False, kind=kind)
    gateway = await start({**config, "budgets": {"unknown_price": policy}, "passthrough": "u0"})
    [answer] = await asked(gateway)
    assert answer.status_code == status
    forwarded = await gateway.client.post("/files", json={})
    assert (forwarded.status_code == 403) == (status == 403)
    if status == 403:
        assert answer.json()["error"]["code"] == "unknown_price"
        assert "prices.gpu_seconds" in answer.json()["error"]["message"]


async def test_a_fallback_elsewhere_costs_no_gpu_seconds(
    start: Any, limited: Limited, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    upstream.answers(503, b"{}")
    second.says("one two three")
    config = on_engine(limited, key={"gpu_seconds_per_day": 2.0}, upstreams=(upstream, second))
    gateway = await start(config)
    answers = await asked(gateway, 6)
    assert [answer.status_code for answer in answers] == [200] * 6
    [limit] = (await gateway.client.get("/key")).json()["limits"]
    assert limit["spent"] == 0.0
