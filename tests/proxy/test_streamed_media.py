"""Streams with images and audio of 1.5 MB: every API, any split of the bytes, and everything that a stream passes
through: a fallback, a record, guards. Those over a WebSocket are in websocket/test_images.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fixtures.streamed_media import STREAMS, Part, unsealed, written

from gateway.fake import CUT, FakeUpstream, Fault

Configured = Callable[..., dict[str, Any]]
CUTS = [1000, 65_536, 1 << 20, None]
"""Sizes of the writes of an upstream; None: one write for each event."""
MEMBERS: dict[str, Part] = {
    "/chat/completions": {"messages": [{"role": "user", "content": "draw"}]},
    "/messages": {"messages": [{"role": "user", "content": "draw"}], "max_tokens": 9},
    "/responses": {"input": "draw"},
    "/images/generations": {"prompt": "draw"},
}
KINDS = pytest.mark.parametrize("kind", STREAMS)


@pytest.fixture
def made(start: Any, configured: Configured) -> Callable[..., Any]:
    """Starts a gateway whose upstreams have the API of a stream."""

    async def go(kind: str, *upstreams: FakeUpstream, **sections: Any) -> Any:
        config = configured(*upstreams, **sections)
        for upstream in config["upstreams"].values():
            if STREAMS[kind][0] == "/messages":
                upstream |= {"kind": "anthropic", "api_key": "sk-a"}
        return await start(config)

    return go


async def asked(gateway: Any, kind: str, **members: Any) -> tuple[int, list[Part]]:
    """Status and events of one call."""
    path, _ = STREAMS[kind]
    body = {"model": "chat", "stream": True, **MEMBERS[path], **members}
    reply: httpx2.Response = await gateway.client.post(path, json=body)
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
    return reply.status_code, [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize("size", CUTS)
@KINDS
async def test_a_stream_with_an_image_arrives_in_any_split(
    made: Any, upstream: FakeUpstream, kind: str, size: int | None
) -> None:
    gateway = await made(kind, upstream)
    parts = STREAMS[kind][1]
    upstream.streams(written(parts, size))
    status, events = await asked(gateway, kind)
    assert status == 200, events
    assert unsealed(events) == unsealed(parts)
    assert not any(state.breaker.open for state in gateway.gateway.router.target_states)


@KINDS
async def test_a_fallback_streams_an_image(made: Any, upstream: FakeUpstream, second: FakeUpstream, kind: str) -> None:
    gateway = await made(kind, upstream, second)
    upstream.always(Fault.status(503))
    second.streams(written(STREAMS[kind][1], 65_536))
    status, events = await asked(gateway, kind)
    assert (status, unsealed(events)) == (200, unsealed(STREAMS[kind][1]))


@KINDS
async def test_a_stream_with_an_image_is_recorded(made: Any, upstream: FakeUpstream, kind: str) -> None:
    gateway = await made(kind, upstream)
    upstream.streams(written(STREAMS[kind][1], 65_536))
    assert (await asked(gateway, kind))[0] == 200
    if kind == "images":
        return  # its exchanges are not recorded
    [exchange] = await gateway.recorded(1)
    assert (exchange.outcome, exchange.status) == ("ok", 200)


@pytest.mark.parametrize("action", ["observe", "block", "redact"])
@KINDS
async def test_guards_let_a_stream_with_an_image_pass(
    made: Any, upstream: FakeUpstream, kind: str, action: str
) -> None:
    guard = {"scorer": "secrets", "on": "answer", "action": action}
    gateway = await made(kind, upstream, guards={"keys": guard})
    upstream.streams(written(STREAMS[kind][1], 65_536))
    status, events = await asked(gateway, kind)
    assert (status, unsealed(events)) == (200, unsealed(STREAMS[kind][1]))


@pytest.mark.parametrize("kind", ["chat image", "responses partial images", "messages block"])
async def test_an_event_above_the_bound_does_not_open_the_breaker(made: Any, upstream: FakeUpstream, kind: str) -> None:
    """The provider has made it and is in order: other callers go on being served."""
    gateway = await made(kind, upstream, chat={"retries": {"attempts": 3}})
    upstream.streams([b"data: {", *[b"x" * (1 << 20)] * 18, CUT])
    for _ in range(6):
        status, _ = await asked(gateway, kind)
        assert status == 502
    assert len(upstream.received) == 6, "it was paid for once, and is not made again"
    assert not any(state.breaker.open for state in gateway.gateway.router.target_states)


async def test_a_megabyte_of_comments_is_no_answer(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    gateway = await start(configured(upstream, second))
    upstream.streams([b": keep-alive\n\n" * 50_000] * 4)
    second.says("in its place")
    status, events = await asked(gateway, "chat image")
    assert status == 200
    assert "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"]) == "in its place"
