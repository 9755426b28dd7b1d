"""The run of a call in its record, through a real gateway: from what clients of today send, and by its caller."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import run_key
from gateway.fake import FakeUpstream


@pytest.fixture
async def gateway(start: Any, configured: Any, upstream: FakeUpstream) -> Any:
    """A gateway that records all calls by run, and takes a run's id from `prompt_cache_key` too."""
    return await start(configured(upstream, sampling={"rate": 1.0, "unit": "run"}, runs={"from": ["prompt_cache_key"]}))


async def chat(gateway: Any, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], **fields}
    return await gateway.client.post("/chat/completions", json=body, headers=headers or {})


async def test_the_record_has_the_run_and_where_it_was_named(gateway: Any) -> None:
    await chat(gateway, {"x-gateway-run": "task-1", "session-id": "other"})
    await chat(gateway, {"session-id": "codex-1"})
    await chat(gateway, metadata={"user_id": "user_ab_account__session_57a121ec-f78c-48c3"})
    await chat(gateway, prompt_cache_key="cache")
    await chat(gateway)
    found = await gateway.recorded(5)
    assert [(e.run, e.run_source) for e in found] == [
        ("task-1", "x-gateway-run"), ("codex-1", "session-id"), ("57a121ec-f78c-48c3", "metadata.user_id"),
        ("cache", "prompt_cache_key"), (None, None),
    ]  # fmt: skip
    assert [e.unit == run_key("tester", e.run) for e in found[:4]] == [True] * 4
    assert found[4].unit == found[4].id


async def test_a_run_is_not_sent_to_the_upstream(gateway: Any, upstream: FakeUpstream) -> None:
    await chat(gateway, {"x-gateway-run": "task-1", "x-claude-code-session-id": "s", "session_id": "s"})
    (received,) = upstream.calls
    sent = {name.lower() for name, _ in received.headers}
    assert not {"x-gateway-run", "x-claude-code-session-id", "session_id"} & sent


@pytest.mark.parametrize("given", ["x" * 129, "a b"])
async def test_an_id_that_is_none_is_refused(gateway: Any, upstream: FakeUpstream, given: str) -> None:
    answer = await chat(gateway, {"x-gateway-run": given})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("x-gateway-run: expected 1 to 128 visible ASCII characters")
    assert not upstream.calls


async def test_a_key_without_content_leaves_no_name(start: Any, configured: Any, upstream: FakeUpstream) -> None:
    config = configured(upstream, sampling={"rate": 1.0, "unit": "run"})
    config["keys"][0]["content"] = "metadata"
    gateway = await start(config)
    await chat(gateway, {"x-gateway-run": "alice@example.com"})
    (found,) = await gateway.recorded()
    assert "alice" not in repr(found)
    assert found.unit == run_key("tester", found.run)


async def test_a_run_is_kept_whole_and_its_calls_are_scored_by_their_rules(
    start: Any, configured: Any, upstream: FakeUpstream
) -> None:
    """Every run is recorded, since a call of it may fail; of the others, the tenth that the rate draws is scored."""
    rules = [{"when": {"outcome": "error"}, "rate": 1.0, "name": "errors"}]
    gateway = await start(configured(upstream, sampling={"rate": 0.1, "unit": "run", "rules": rules}))
    for n in range(20):
        await chat(gateway, {"x-gateway-run": f"task-{n}"})
    upstream.answers(500, b"{}")
    await chat(gateway, {"x-gateway-run": "task-0"})
    found = await gateway.recorded(21)
    assert {e.pi for e in found} == {1.0}
    assert {(e.stratum, e.score_rate) for e in found} == {("default", 0.1), ("errors", 1.0)}
    assert len({e.u for e in found if e.run == "task-0"}) == 1
    assert any(e.u >= 0.1 for e in found)
