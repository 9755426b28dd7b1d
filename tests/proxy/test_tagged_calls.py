"""Tags of calls, through a real gateway: in the record, in usage, and in the metrics; and of listed keys only."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.fake import FakeUpstream


@pytest.fixture
async def gateway(start: Any, configured: Any, upstream: FakeUpstream) -> Any:
    """A gateway whose calls may have tags of the key `feature`, for a key with the tag `internal`."""
    config = configured(upstream, tags={"keys": ["feature"]})
    config["keys"][0]["tags"] = ["internal"]
    return await start(config)


async def chat(gateway: Any, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], **fields}
    return await gateway.client.post("/chat/completions", json=body, headers=headers or {})


async def test_tags_are_in_the_record_in_usage_and_in_metrics(gateway: Any, upstream: FakeUpstream) -> None:
    await chat(gateway, {"x-gateway-tags": "feature=search,env=prod"})
    await chat(gateway, metadata={"tags": "feature=search"})
    await chat(gateway)
    found = await gateway.recorded(3)
    assert [e.tags for e in found] == ["feature=search", "feature=search", None]
    whole = await gateway.tally(lambda tally: sum(each.sums.calls for each in tally.usage) == 3)
    calls = {each.cell.tags: each.sums.calls for each in whole.usage}
    assert calls == {"feature=search internal": 2, "internal": 1}
    assert await gateway.metric("gateway_tag_requests_total", tag="feature=search") == 2
    assert await gateway.metric("gateway_tag_tokens_total", tag="feature=search", type="output") > 0
    assert not any("x-gateway-tags" in dict(received.headers) for received in upstream.calls)


async def test_a_header_that_is_none_is_refused(gateway: Any, upstream: FakeUpstream) -> None:
    answer = await chat(gateway, {"x-gateway-tags": "search"})
    assert answer.status_code == 400
    assert "key=value" in answer.json()["error"]["message"]
    assert not upstream.calls


async def test_without_keys_tags_are_left_alone(start: Any, configured: Any, upstream: FakeUpstream) -> None:
    gateway = await start(configured(upstream))
    assert (await chat(gateway, {"x-gateway-tags": "anything at all"})).status_code == 200
    (found,) = await gateway.recorded()
    assert found.tags is None
