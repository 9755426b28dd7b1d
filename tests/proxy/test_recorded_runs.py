"""The run of a call in its record, through a real gateway: from what clients of today send, and by its caller."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.run_histories import growing

from gateway.core.exchange import run_key
from gateway.fake import FakeUpstream
from gateway.features.runs.rows import requests_of
from gateway.proxy.request.call import Caller
from gateway.proxy.routing.response_chains import ResponseChains
from gateway.proxy.routing.response_ids import ResponseIds
from gateway.runtime.tasks import Tasks
from gateway.store.query import reading


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


async def respond(gateway: Any, previous: str | None = None, **fields: Any) -> str:
    """The id of a response, as the client gets it."""
    body = {"model": "chat", "input": "hi", "previous_response_id": previous, **fields}
    answer = await gateway.client.post("/responses", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


@pytest.fixture
async def chained(start: Any, configured: Any, upstream: FakeUpstream) -> Any:
    """A gateway that makes a run of responses that continue each other."""
    return await start(configured(upstream, runs={"from": ["previous_response_id", "prompt_cache_key"]}))


async def test_responses_that_continue_each_other_are_a_run(chained: Any) -> None:
    first = await respond(chained)
    second = await respond(chained, first, prompt_cache_key="cache")
    await respond(chained, second)
    await respond(chained, first)
    await respond(chained)
    found = await chained.recorded(5)
    assert [e.run_source for e in found] == ["previous_response_id"] * 5
    assert [e.run for e in found] == [found[0].id] * 4 + [found[4].id]


async def test_a_chain_does_not_need_sealed_ids(start: Any, configured: Any, upstream: FakeUpstream) -> None:
    gateway = await start(configured(upstream, runs={"from": ["previous_response_id"]}, responses={"seal": False}))
    await respond(gateway, await respond(gateway, "resp_from_before"))
    first, second = await gateway.recorded(2)
    assert first.run == second.run != first.id


async def test_another_name_of_the_run_counts_first(chained: Any) -> None:
    first = await respond(chained, metadata={"run_id": "task-1"})
    await respond(chained, first)
    found = await chained.recorded(2)
    assert (found[0].run, found[0].run_source) == ("task-1", "metadata.run_id")
    assert found[1].run_source == "previous_response_id"


async def test_other_apis_have_no_chain(chained: Any) -> None:
    await chat(chained)
    await chat(chained, prompt_cache_key="cache")
    assert [e.run for e in await chained.recorded(2)] == [None, "cache"]


async def test_a_chain_is_found_by_another_worker_and_by_its_caller_alone(gateway: Any) -> None:
    secret, state = b"s" * 32, gateway.corridor.state
    async with Tasks() as tasks:
        one, other, lone = (ResponseChains(store, tasks, ResponseIds(secret), 2) for store in (state, state, None))
        mine, theirs = Caller("web"), Caller("batch")
        one.note(mine, "resp_1", "run-1")
        await gateway.until(lambda: len(tasks) == 0)
        assert await other.find(mine, "resp_1") == "run-1"
        assert await other.find(theirs, "resp_1") is None
        assert await lone.find(mine, "resp_1") is None
        for n in range(3):
            lone.note(mine, f"resp_{n}", f"run-{n}")
        assert [await lone.find(mine, f"resp_{n}") for n in range(3)] == [None, "run-1", "run-2"]


async def test_fifty_calls_that_end_at_a_megabyte_are_kept_once(
    start: Any, configured: Any, upstream: FakeUpstream, room: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store has what was sent through the gateway, the stream and a consumer."""
    gateway = await start(configured(upstream))
    requests = growing(50, 1_000_000)
    for body in requests:
        answer = await gateway.client.post("/chat/completions", content=body, headers={"x-gateway-run": "task-1"})
        assert answer.status_code == 200
    entries: list[Any] = []
    while len(entries) < 50:
        pages = [page async for page in gateway.corridor.pages()]
        entries = [entry.fields for page in pages for entry in page if b"req" in entry.fields]
    appended = sum(len(value) for fields in entries for value in fields.values())
    new = len(requests[-1]) + sum(len(fields[b"res"]) for fields in entries)
    empty = used(room)
    async with room.consuming():
        await room.until_read()
    with reading(room.store_url) as connection:
        found = sorted(requests_of(connection, run_key("tester", "task-1")).values(), key=len)
    assert found == [call.body for call in upstream.calls], "as they were sent to the upstream"
    stored = used(room) - empty
    with capsys.disabled():
        sent = sum(map(len, requests))
        print(f"\nsent {sent:,} bytes, new {new:,}; stream {appended:,} ({appended / new:.3f} x), store {stored:,}")  # noqa: T201
    assert appended <= 1.2 * new
    assert stored <= 2_000_000


def used(room: Any) -> int:
    """Bytes of the store's file that hold something."""
    [[pages], [page], [free]] = (
        room.sql(f"PRAGMA {name}")[0] for name in ("page_count", "page_size", "freelist_count")
    )
    return int((pages - free) * page)
