"""The usage and cost of calls are counted once for their payer, for every outcome. Over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import httpx2
import pytest

from gateway.core.usage import UsageCell, UsageCount, UsageSums, nano_usd
from gateway.fake import HOLD, FakeUpstream, Fault

Configured = Callable[..., dict[str, Any]]
PRICES = {
    "as_of": "2026-11-26",
    "models": {"model-u0": {"input": 2.0, "output": 8.0}, "model-u1": {"input": 4.0, "output": 16.0}},
}


def key(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "sha256": sha256(name.encode()).hexdigest(), **more}


KEYS = [
    key("web", team="search", tags=["prod"], person="ann"),
    key("batch", team="search"),
    key("alone"),
    key("judges", sample="never", allow=["target"]),
]
TEAMS = {"search": {"organization": "acme", "tags": ["cc-7"]}}


@pytest.fixture
def priced(configured: Configured) -> Configured:
    """A config with keys, a team and prices; nothing is sampled."""

    def make(*upstreams: FakeUpstream, **sections: Any) -> dict[str, Any]:
        evals = {"base_url": "http://127.0.0.1:9/v1", "api_key": "judges"}
        owners = {
            "keys": KEYS,
            "teams": TEAMS,
            "organizations": {"acme": {}},
            "people": {"ann": {}},
            "prices": PRICES,
            "evals": evals,
        }
        return configured(*upstreams, **{"sampling": {"rate": 0.0}, **owners, **sections})

    return make


async def usage_of(gateway: Any, calls: int) -> dict[UsageCell, UsageSums]:
    """The counts of the process, once it has this number of calls; the next tally reports them."""

    def counts() -> tuple[UsageCount, ...]:
        gateway.gateway.metrics.counts.fold()
        found: tuple[UsageCount, ...] = gateway.gateway.recorder.usage.everything()
        return found

    await gateway.until(lambda: sum(count.sums.calls for count in counts()) >= calls)
    return {count.cell._replace(day=""): count.sums for count in counts()}


def cell(key_id: str, upstream: str = "u0", team: str = "search", tags: str = "cc-7") -> UsageCell:
    organization = "acme" if team else ""
    return UsageCell("", key_id, key_id, team, organization, tags, "chat", upstream, f"model-{upstream}", "", "", "")


WEB, BATCH, ALONE = cell("web", tags="cc-7 prod")._replace(person="ann"), cell("batch"), cell("alone", team="", tags="")


def as_key(gateway: Any, name: str) -> None:
    gateway.client.headers["authorization"] = f"Bearer {name}"


async def test_each_call_counts_for_its_key_person_team_and_model(
    start: Any, priced: Configured, upstream: FakeUpstream
) -> None:
    gateway = await start(priced(upstream), key="web")
    used = [(await gateway.chat("hi there")).json()["usage"]]
    async with gateway.stream() as reply:
        await reply.aread()
    for name in ("batch", "alone"):
        as_key(gateway, name)
        used.append((await gateway.chat()).json()["usage"])
    found = await usage_of(gateway, 4)
    assert set(found) == {WEB, BATCH, ALONE}
    assert (found[WEB].calls, found[BATCH].calls, found[ALONE].calls) == (2, 1, 1)
    for tested, its in ((BATCH, used[1]), (ALONE, used[2])):
        usd = (its["prompt_tokens"] * 2.0 + its["completion_tokens"] * 8.0) / 1e6
        assert found[tested].input_tokens == its["prompt_tokens"]
        assert found[tested].output_tokens == its["completion_tokens"]
        assert found[tested].nano_usd == nano_usd(usd)


async def test_a_call_counts_once_for_the_target_that_answered(
    start: Any, priced: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    upstream.always(Fault.status(500))
    gateway = await start(priced(upstream, second), key="batch")
    its = (await gateway.chat()).json()["usage"]
    found = await usage_of(gateway, 1)
    usd = (its["prompt_tokens"] * 4.0 + its["completion_tokens"] * 16.0) / 1e6
    assert {c: (s.calls, s.nano_usd) for c, s in found.items()} == {cell("batch", "u1"): (1, nano_usd(usd))}


async def test_a_client_that_leaves_pays_for_what_was_produced(
    start: Any, priced: Configured, upstream: FakeUpstream
) -> None:
    upstream.says("one ", "two ", HOLD, "three")
    gateway = await start(priced(upstream), key="batch")
    async with gateway.stream("x" * 400) as reply:
        async for line in reply.aiter_lines():
            if "two" in line:
                break
    [sums] = (await usage_of(gateway, 1)).values()
    assert (sums.calls, sums.estimated_calls) == (1, 1)
    assert sums.input_tokens >= 100
    assert sums.output_tokens >= 1


async def test_calls_that_reach_no_upstream_are_not_counted(
    start: Any, priced: Configured, upstream: FakeUpstream
) -> None:
    gateway = await start(priced(upstream), key="batch")
    assert (await gateway.client.post("/chat/completions", json={"model": "none", "messages": []})).status_code >= 400
    port = upstream.port
    await upstream.stop()
    assert (await gateway.chat()).status_code == 502
    await upstream.start(port=port)
    await gateway.until(lambda: all(t.ready for t in gateway.gateway.router.target_states))
    await gateway.chat()
    assert {c: s.calls for c, s in (await usage_of(gateway, 1)).items()} == {BATCH: 1}


async def test_a_model_without_a_price_is_unpriced(start: Any, priced: Configured, upstream: FakeUpstream) -> None:
    gateway = await start(priced(upstream, prices={"as_of": "2026-11-26", "models": {}}), key="batch")
    await gateway.chat()
    [sums] = (await usage_of(gateway, 1)).values()
    assert (sums.calls, sums.unpriced_calls, sums.nano_usd) == (1, 1, 0)
    assert sums.input_tokens > 0
    assert await gateway.metric("gateway_team_unpriced_total", team="search") == 1


async def test_shadow_requests_are_their_experiments(
    start: Any, priced: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    ref = {"upstream": "u1", "model": "model-u1"}
    control = {"upstream": "u0", "model": "model-u0"}
    swap = {"model": "chat", "control": control, "candidate": ref, "shadow": 1.0, "repeat_control": 1.0}
    gateway = await start(priced(upstream, second, experiments={"swap": swap}), key="batch")
    await gateway.chat()
    found = await usage_of(gateway, 3)
    nobody = UsageCell("", "", "", "", "", "", "chat", "u1", "model-u1", "swap", "candidate", "")
    assert set(found) == {BATCH, nobody, nobody._replace(upstream="u0", model="model-u0", arm="repeat")}
    assert found[nobody].nano_usd == 2 * found[BATCH].nano_usd > 0
    assert await gateway.metric("gateway_team_requests_total") == 1


async def test_scorers_calls_are_their_own(start: Any, priced: Configured, upstream: FakeUpstream) -> None:
    """The key of a scorer's call says which scorer it is; other keys may not."""
    gateway = await start(priced(upstream), key="judges")
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    named = {"x-gateway-scorer": "is%20it%20helpful"}
    for name in ("judges", "batch"):
        as_key(gateway, name)
        assert (await gateway.client.post("/chat/completions", json=body, headers=named)).status_code == 200
    found = await usage_of(gateway, 2)
    scorer = UsageCell("", "judges", "judges", "", "", "", "chat", "u0", "model-u0", "", "", "is it helpful")
    assert {c: s.calls for c, s in found.items()} == {BATCH: 1, scorer: 1}
    assert "x-gateway-scorer" not in {name.lower() for call in upstream.calls for name, _ in call.headers}


async def test_a_reload_loses_no_usage(start: Any, priced: Configured, upstream: FakeUpstream) -> None:
    config = priced(upstream)
    gateway = await start(config, key="batch")
    await gateway.chat()
    before = gateway.gateway
    gateway.write({**config, "limits": {"drain_s": 7}})
    await gateway.until(lambda: gateway.gateway is not before)
    await gateway.chat()
    [sums] = (await usage_of(gateway, 2)).values()
    assert sums.calls == 2


async def test_every_answer_is_in_the_final_tally(start: Any, priced: Configured, upstream: FakeUpstream) -> None:
    gateway = await start(priced(upstream), key="batch")
    names = ("web", "batch", "alone")
    async with httpx2.AsyncClient(base_url=gateway.base_url, timeout=30) as client:

        async def ask(name: str) -> dict[str, Any]:
            body = {"model": "chat", "messages": [{"role": "user", "content": name * 9}]}
            reply = await client.post("/chat/completions", json=body, headers={"x-api-key": name})
            used: dict[str, Any] = reply.json()["usage"]
            return used

        answers = await asyncio.gather(*(ask(names[n % 3]) for n in range(30)))
    gateway.server.should_exit = True
    tally = await gateway.tally(lambda t: t.final)
    assert sum(count.sums.calls for count in tally.usage) == 30
    assert sum(count.sums.input_tokens for count in tally.usage) == sum(a["prompt_tokens"] for a in answers)
    assert sum(count.sums.output_tokens for count in tally.usage) == sum(a["completion_tokens"] for a in answers)


async def test_limits_and_usage_count_the_same(
    start: Any, priced: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """Both agree to the token and the nano-dollar, however calls end."""
    limits = {"requests_per_day": 100, "tokens_per_day": 10**6, "usd_per_day": 10}
    config = priced(upstream, second, keys=[key("web", team="search", limits=limits)], passthrough="u0")
    config["keys"][0]["allow"] = ["passthrough"]
    gateway = await start(config, key="web")
    await gateway.chat("hi there")
    async with gateway.stream() as reply:
        await reply.aread()
    upstream.then(Fault.status(500), Fault.status(500), Fault.context_length())
    assert (await gateway.chat()).headers["x-gateway-upstream"] == "u1"
    await gateway.chat()
    upstream.says("one ", "two ", HOLD, "three")
    async with gateway.stream("x" * 400) as reply:
        async for line in reply.aiter_lines():
            if "two" in line:
                break
    await gateway.client.get("/files")
    await gateway.until(lambda: not gateway.gateway.in_use)
    total = UsageSums()
    for sums in (await usage_of(gateway, 6)).values():
        total = total.plus(sums)
    shown = (await gateway.client.get("/key")).json()["limits"]
    used = {each["limit"]: each["used"] for each in shown}
    tokens = total.input_tokens + total.output_tokens
    assert used["requests_per_day"] == total.calls
    assert used["tokens_per_day"] == tokens
    assert nano_usd(used["usd_per_day"]) == total.nano_usd


async def test_the_used_share_of_each_limit_is_shown(start: Any, priced: Configured, upstream: FakeUpstream) -> None:
    gateway = await start(priced(upstream, keys=[key("web", limits={"requests_per_day": 4})]), key="web")
    for _ in range(3):
        await gateway.chat()
    await gateway.client.get("/key")  # the newest figures
    ratio = await gateway.metric("gateway_limit_used_ratio", scope="key web", limit="requests_per_day")
    assert ratio == 0.75
