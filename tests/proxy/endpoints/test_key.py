"""GET /v1/key: a caller sees its own limits, and no secret."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import httpx2

from gateway.fake import FakeUpstream

Configured = Callable[..., dict[str, Any]]


async def test_a_caller_sees_its_limits_and_what_is_left(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    config = configured(upstream)
    config["keys"][0] |= {"team": "search", "limits": {"requests_per_day": 5}, "tags": ["a"]}
    config["teams"] = {"search": {"organization": "acme", "tags": ["b"], "limits": {"tokens_per_day": 1000}}}
    config["organizations"] = {"acme": {"limits": {"concurrency": 8}}}
    gateway = await start(config)
    total = (await gateway.chat(max_tokens=9)).json()["usage"]["total_tokens"]
    answer = await gateway.client.get("/key")
    assert answer.headers["x-request-id"]
    key = answer.json()
    by_limit = {each["limit"]: each for each in key.pop("limits")}
    assert key == {
        "object": "key", "id": "tester", "name": "tester", "team": "search", "organization": "acme",
        "tags": ["a", "b"], "models": ["chat"],
    }  # fmt: skip
    requests, tokens, flight = (by_limit[name] for name in ("requests_per_day", "tokens_per_day", "concurrency"))
    assert (requests["scope"], requests["amount"], requests["used"], requests["remaining"]) == ("key tester", 5, 1, 4)
    assert (tokens["scope"], tokens["used"], tokens["remaining"]) == ("team search", total, 1000 - total)
    assert (flight["used"], flight["remaining"], flight["reset"]) == (0, 8, None)
    assert requests["reset"].endswith("T00:00:00Z")
    assert sha256(b"test-key").hexdigest() not in answer.text


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
