"""GET /v1/models and GET /v1/key: a caller sees its models and its own limits, and no secret."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Any

import httpx2

from gateway.fake import FakeUpstream

Configured = Callable[..., dict[str, Any]]


async def test_a_caller_sees_its_limits_and_remainders(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    config = configured(upstream)
    config["keys"][0] |= {"team": "search", "person": "ann", "limits": {"requests_per_day": 5}, "tags": ["a"]}
    config["people"] = {"ann": {"limits": {"usd_per_month": 30}}}
    config["budgets"] = {"unknown_price": "count_tokens"}
    config["teams"] = {"search": {"organization": "acme", "tags": ["b"], "limits": {"tokens_per_day": 1000}}}
    config["organizations"] = {"acme": {"limits": {"concurrency": 8}}}
    gateway = await start(config)
    total = (await gateway.chat(max_tokens=9)).json()["usage"]["total_tokens"]
    answer = await until_used(gateway, "tokens_per_day", total)
    assert answer.headers["x-request-id"]
    key = answer.json()
    by_limit = {each["limit"]: each for each in key.pop("limits")}
    assert key == {
        "object": "key", "id": "tester", "name": "tester", "team": "search", "organization": "acme",
        "person": "ann", "tags": ["a", "b"], "models": ["chat"],
    }  # fmt: skip
    requests, tokens, flight = (by_limit[name] for name in ("requests_per_day", "tokens_per_day", "concurrency"))
    assert (requests["scope"], requests["amount"], requests["used"], requests["remaining"]) == ("key tester", 5, 1, 4)
    assert (tokens["scope"], tokens["used"], tokens["remaining"]) == ("team search", total, 1000 - total)
    assert (by_limit["usd_per_month"]["scope"], by_limit["usd_per_month"]["remaining"]) == ("person ann", 30)
    assert (flight["used"], flight["remaining"], flight["reset"]) == (0, 8, None)
    assert requests["reset"].endswith("T00:00:00Z")
    assert sha256(b"test-key").hexdigest() not in answer.text


async def until_used(gateway: Any, limit: str, amount: int) -> httpx2.Response:
    """The answer of GET /key once a limit shows what was used: a call is charged just after its answer."""
    async with asyncio.timeout(60):
        while True:
            answer: httpx2.Response = await gateway.client.get("/key")
            if any(each["limit"] == limit and each["used"] == amount for each in answer.json()["limits"]):
                return answer
            await asyncio.sleep(0.02)


async def test_a_stranger_sees_nothing(start: Any, configured: Configured, upstream: FakeUpstream) -> None:
    gateway = await start(configured(upstream))
    async with httpx2.AsyncClient(base_url=gateway.base_url) as stranger:
        assert (await stranger.get("/key")).status_code == 401
    assert (await gateway.client.post("/key")).status_code == 405


async def test_an_open_gateway_has_callers_without_a_key(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    gateway = await start(configured(upstream, keys=[], open=True), key=None)
    key = (await gateway.client.get("/key")).json()
    assert (key["id"], key["limits"]) == (None, [])


async def test_an_absurd_model_name_is_not_found(gateway: Any) -> None:
    for name in ("%00", "%ff", "a%2fb", "..%2f..", "x" * 3000):
        reply = await gateway.client.get(f"/models/{name}")
        assert reply.status_code == 404, name


async def test_anthropics_clients_get_its_models_and_errors(gateway: Any) -> None:
    headers = {"anthropic-version": "2023-06-01", "x-api-key": "test-key"}
    listed = (await gateway.client.get("/models", headers=headers)).json()
    [model] = listed["data"]
    assert (model["type"], model["id"], model["display_name"]) == ("model", "chat", "chat")
    assert datetime.fromisoformat(model["created_at"]).tzinfo is not None
    assert (listed["has_more"], listed["first_id"], listed["last_id"]) == (False, "chat", "chat")
    assert (await gateway.client.get("/models/chat", headers=headers)).json() == model
    missing = await gateway.client.get("/models/other", headers=headers)
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    other = await gateway.client.get("/files", headers=headers)
    assert (other.status_code, other.json()["type"]) == (404, "error")


async def test_the_anthropic_client_lists_models(gateway: Any) -> None:
    import anthropic

    url = gateway.base_url.removesuffix("/v1")
    async with anthropic.AsyncAnthropic(base_url=url, api_key="test-key", _strict_response_validation=True) as client:
        models = await client.models.list()
        assert [m.display_name for m in models.data] == ["chat"]
        assert (await client.models.retrieve("chat")).id == "chat"
