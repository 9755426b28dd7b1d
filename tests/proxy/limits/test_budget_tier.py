"""The cheaper tier of a model when money is short."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.config.config import Retries, Timeouts
from gateway.fake import FakeUpstream
from gateway.proxy.limits.budget_tier import tiered_down
from gateway.proxy.routing.router import Route, RouteOption
from gateway.proxy.routing.sampling import SampleDraw

Limited = Callable[..., dict[str, Any]]
CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


async def ask(gateway: Any) -> Any:
    return await gateway.client.post("/chat/completions", json=CHAT)


CHEAP = {"as_of": "2026-11-01", "models": {
    "model-u0": {"input": 100.0, "output": 1000.0}, "model-u1": {"input": 1.0, "output": 10.0}}}  # fmt: skip


def tiered(limited: Limited, upstream: FakeUpstream, second: FakeUpstream, usd: float, **limits: Any) -> dict[str, Any]:
    config = limited(key={"usd_per_day": usd, **limits}, upstreams=(upstream, second), prices=CHEAP)
    config["models"]["chat"]["fallback"][0]["on"] = ["budget"]
    return config


async def test_calls_continue_at_the_cheap_target_when_money_is_short(
    start: Any, limited: Limited, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """The budget holds, and the metric says how many calls were moved."""
    upstream.says("one two three")
    second.says("one two three")
    gateway = await start(tiered(limited, upstream, second, 0.1))
    answers = [await ask(gateway) for _ in range(40)]
    assert [answer.status_code for answer in answers] == [200] * 40
    moved = [answer.headers.get("x-gateway-tier") == "budget" for answer in answers]
    assert moved == sorted(moved), "once the budget is nearly used up, it stays so"
    assert [answer.headers["x-gateway-upstream"] for answer in answers] == [f"u{int(each)}" for each in moved]
    assert 0 < sum(moved) < 40
    assert await gateway.metric("gateway_tier_down_total", alias="chat") == sum(moved)
    assert [each.tier for each in await gateway.recorded(40)].count("budget") == sum(moved)
    tally = await gateway.tally(lambda found: sum(each.sums.calls for each in found.usage) == 40)
    assert sum(each.sums.tiered_calls for each in tally.usage) == sum(moved)
    limit = (await gateway.client.get("/key")).json()["limits"][0]
    assert limit["spent"] <= 0.1


async def test_a_budget_that_is_used_up_refuses_the_cheap_target_too(
    start: Any, limited: Limited, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    until = datetime.fromtimestamp(datetime.now(UTC).timestamp() + 9e4, UTC).isoformat()
    gateway = await start(
        tiered(limited, upstream, second, 1.0, carried={"usd_per_day": {"amount": 1.0, "until": until}})
    )
    assert (await ask(gateway)).json()["error"]["code"] == "insufficient_quota"


async def test_other_failures_do_not_lead_to_a_fallback_for_budgets(
    start: Any, limited: Limited, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    upstream.answers(503, {})
    gateway = await start(tiered(limited, upstream, second, 100.0))
    assert (await ask(gateway)).status_code >= 500
    assert second.received == []


@pytest.mark.parametrize("limit", ["requests_per_day", "tokens_per_day"])
async def test_only_money_moves_calls_down(
    start: Any, limited: Limited, upstream: FakeUpstream, second: FakeUpstream, limit: str
) -> None:
    gateway = await start(tiered(limited, upstream, second, 100.0, **{limit: 1}))
    assert (await ask(gateway)).status_code in (200, 429)
    assert (await ask(gateway)).status_code == 429


@pytest.mark.parametrize(("at", "tier"), [(0.5, "budget"), (0.7, None)])
async def test_calls_move_down_at_the_share_that_is_set(
    start: Any, limited: Limited, upstream: FakeUpstream, second: FakeUpstream, at: float, tier: str | None
) -> None:
    carried = {"usd_per_day": {"amount": 60, "until": "2099-01-01T00:00:00Z"}}
    config = tiered(limited, upstream, second, 100.0, carried=carried)
    gateway = await start({**config, "budgets": {"tier_down_at": at}})
    for _ in range(3):
        assert (await ask(gateway)).headers.get("x-gateway-tier") == tier


def test_the_tier_takes_the_place_of_the_targets_and_the_experiment() -> None:
    state: Any = object()
    cheap, usual = RouteOption(state, frozenset({"budget"})), RouteOption(state, frozenset({"error"}))
    drawn, assigned = SampleDraw("id", 0.5, 1.0, "default", 1.0), state
    route = Route((usual,), Timeouts(), Retries(), "off", drawn, assigned, True, choice=state, tier=(cheap,))
    moved = tiered_down(route)
    assert (moved.candidates, moved.assignment, moved.choice, moved.tiered_down) == ((cheap,), None, None, True)
    assert (moved.drawn, moved.recordable) == (drawn, True)
