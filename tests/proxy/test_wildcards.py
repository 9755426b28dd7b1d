"""Aliases with a star: routed by prefix, allowed by key, counted under one label."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from gateway.fake import FakeUpstream
from gateway.fake.faults import Fault

Configured = Callable[..., dict[str, Any]]


def with_patterns(configured: Configured, *upstreams: FakeUpstream, **sections: Any) -> dict[str, Any]:
    """`chat` as usual; behind it "one/*" on the first upstream and "*" on the last."""
    config = configured(*upstreams, **sections)
    last = f"u{len(upstreams) - 1}"
    config["models"]["one/*"] = {"targets": [{"upstream": "u0", "model": "*"}]}
    config["models"]["*"] = {"targets": [{"upstream": last, "model": "other-*"}]}
    return config


async def test_a_name_is_routed_by_its_longest_prefix(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    gateway = await start(with_patterns(configured, upstream, second))
    for name in ("one/big", "one/small", "free", "chat"):
        assert (await gateway.chat(model=name)).status_code == 200, name
    assert [r.json["model"] for r in upstream.calls] == ["big", "small", "model-u0"]
    assert [r.json["model"] for r in second.calls] == ["other-free"]


async def test_metrics_have_the_pattern_and_records_the_model(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    gateway = await start(with_patterns(configured, upstream))
    answer = await gateway.chat(model="one/big")
    assert answer.headers["x-gateway-model"] == "big"
    for n in range(130):
        assert (await gateway.chat(model=f"one/m{n}")).status_code == 200
    assert await gateway.metric("gateway_requests_total", alias="one/*", outcome="ok") == 131
    assert await gateway.metric("gateway_requests_total", alias="one/big") == 0
    assert await gateway.metric("gateway_requests_total", alias="one/*", upstream="u0", model="*") == 131
    assert await gateway.metric("gateway_attempts_total", upstream="u0", model="*") == 131
    text = (await gateway.client.get(gateway.base_url.removesuffix("/v1") + "/metrics")).text
    labels = {line.split('model="')[1].split('"')[0] for line in text.splitlines() if "gateway_breaker_open{" in line}
    assert len(labels) <= 104, "names that clients make up do not become labels forever"
    exchanges = await gateway.recorded(131)
    assert (exchanges[0].alias, exchanges[0].target.model) == ("one/*", "big")
    assert exchanges[-1].target.model == "*", "the last ones share a label"
    assert b'"model":"m129"' in exchanges[-1].request.replace(b" ", b""), "the request has the name"


async def test_each_model_has_its_own_breaker(start: Any, configured: Configured, upstream: FakeUpstream) -> None:
    config = with_patterns(configured, upstream)
    config["upstreams"]["u0"]["breaker"] = {"failures": 1, "open_s": 60, "max_open_s": 60}
    config["models"]["one/*"]["retries"] = {"attempts": 1}
    gateway = await start(config)
    upstream.then(Fault.status(500))
    assert (await gateway.chat(model="one/broken")).status_code == 502
    assert (await gateway.chat(model="one/broken")).status_code == 503
    assert (await gateway.chat(model="one/well")).status_code == 200


async def test_a_rate_limit_pauses_its_model_alone(start: Any, configured: Configured, upstream: FakeUpstream) -> None:
    """Names beyond the first 100 share their state, and are not paused together."""
    config = with_patterns(configured, upstream, sampling={"rate": 0.0})
    config["models"]["one/*"]["retries"] = {"attempts": 1}
    gateway = await start(config)
    limited = Fault.status(429, retry_after=3600)
    upstream.then(limited)
    assert [(await gateway.chat(model=f"one/{name}")).status_code for name in ("a", "a", "b")] == [429, 503, 200]
    for n in range(110):
        assert (await gateway.chat(model=f"one/m{n}")).status_code == 200
    upstream.then(limited)
    assert [(await gateway.chat(model=f"one/{name}")).status_code for name in ("c", "d")] == [429, 200]


async def test_a_key_may_use_a_pattern_or_one_of_its_names(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    keys = [
        {"name": name, "sha256": sha256(name.encode()).hexdigest(), "models": models}
        for name, models in (("wide", ["one/*"]), ("narrow", ["one/big"]))
    ]
    gateway = await start(with_patterns(configured, upstream, keys=keys), key="wide")

    async def status(key: str, model: str) -> int:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        headers = {"authorization": f"Bearer {key}"}
        return int((await gateway.client.post("/chat/completions", json=body, headers=headers)).status_code)

    assert [await status("wide", m) for m in ("one/big", "one/x", "free", "chat", "one/*", "*")] == [
        200, 200, 404, 404, 404, 404,
    ]  # fmt: skip
    assert [await status("narrow", m) for m in ("one/big", "one/x")] == [200, 404]
    listed = await gateway.client.get("/models", headers={"authorization": "Bearer narrow"})
    assert [m["id"] for m in listed.json()["data"]] == ["one/big"]


async def test_models_lists_known_names_and_no_pattern(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    prices = {
        "as_of": "2026-11-01",
        "models": {"u0/known-1": {"input": 1, "output": 2}, "u0/known-2": {"input": 1, "output": 2}},
    }
    config = with_patterns(configured, upstream, prices=prices)
    del config["models"]["*"]
    gateway = await start(config)
    names = [m["id"] for m in (await gateway.client.get("/models")).json()["data"]]
    assert names == ["chat", "one/known-1", "one/known-2"]
    assert (await gateway.client.get("/models/one/whatever")).json()["id"] == "one/whatever"
    assert (await gateway.client.get("/models/one/*")).status_code == 404
    assert (await gateway.client.get("/models/two/x")).status_code == 404


async def test_a_priced_model_behind_a_pattern_costs_its_price(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    prices = {"as_of": "2026-11-01", "models": {"u0/dear": {"input": 1e6, "output": 0}}}
    gateway = await start(with_patterns(configured, upstream, prices=prices))
    usage = (await gateway.chat(model="one/dear")).json()["usage"]
    assert await gateway.metric("gateway_cost_usd_total", alias="one/*") == usage["prompt_tokens"]


@pytest.mark.parametrize("name", ["one/*", "one/a b", "one/" + "x" * 400, "one/ü"])
async def test_unknown_model_names_reach_no_upstream(
    start: Any, configured: Configured, upstream: FakeUpstream, name: str
) -> None:
    gateway = await start(with_patterns(configured, upstream))
    answer = await gateway.chat(model=name)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert upstream.calls == []
