"""An answer that a guard has refused or redacted cannot be read back: not by its id, and not from the background."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from gateway.fake import FakeUpstream

CARD = "4111 1111 1111 1111"
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
           "content": [{"type": "output_text", "text": f"The card is {CARD}.", "annotations": []}]}  # fmt: skip
ANSWER = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed",
          "output": [MESSAGE], "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}}  # fmt: skip


@pytest.fixture
def guarded(start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream) -> Callable[..., Any]:
    """Starts a gateway with a guard on answers, behind which the upstream answers with a card number."""

    async def starting(action: str, **limits: Any) -> Any:
        config = configured(upstream)
        guard = {"scorer": "personal_data", "on": "answer", "action": action, **limits}
        return await start({**config, "guards": {"cards": guard}, "responses": {"seal": False}})

    upstream.answers(200, orjson.dumps(ANSWER))
    return starting


async def create(gateway: Any, **fields: Any) -> Any:
    return await gateway.client.post("/responses", json={"model": "chat", "input": "hi", **fields})


@pytest.mark.parametrize("action", ["block", "redact"])
@pytest.mark.parametrize(
    ("method", "more"),
    [("GET", ""), ("GET", "?stream=true"), ("HEAD", ""), ("GET", "/input_items"), ("POST", "/cancel")],
)
async def test_a_guarded_answer_is_not_read_by_its_id(
    guarded: Callable[..., Any], upstream: FakeUpstream, action: str, method: str, more: str
) -> None:
    gateway = await guarded(action)
    made = await create(gateway)
    assert made.status_code == 200
    assert CARD not in made.text
    asked = len(upstream.calls)
    reply = await gateway.client.request(method, f"/responses/resp_1{more}")
    assert (reply.status_code, len(upstream.calls)) == (403, asked)
    assert CARD not in reply.text
    assert (await gateway.client.delete("/responses/resp_1")).status_code == 200


async def test_a_plain_refusal_has_no_id_of_the_upstream(guarded: Callable[..., Any]) -> None:
    made = await create(await guarded("block"))
    assert made.json()["id"].startswith("blocked-")
    assert "resp_1" not in made.text


@pytest.mark.parametrize("action", ["block", "redact"])
async def test_no_answer_is_made_in_the_background_unjudged(
    guarded: Callable[..., Any], upstream: FakeUpstream, action: str
) -> None:
    made = await create(await guarded(action), background=True)
    assert (made.status_code, made.json()["error"]["param"], upstream.calls) == (403, "background", [])


@pytest.mark.parametrize("background", ["true", 1, "yes", [1]])
async def test_whatever_reads_as_background_is_refused(
    guarded: Callable[..., Any], upstream: FakeUpstream, background: Any
) -> None:
    """Upstreams that convert types read more than `true` as true."""
    made = await create(await guarded("block"), background=background)
    assert (made.status_code, upstream.calls) == (403, [])
    assert (await create(await guarded("block"), background=False)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/files/file-1/content"),
        ("GET", "/files/file-1/content/"),
        ("GET", "/files/file-1/%63ontent"),
        ("GET", "/containers/c/files/f/content"),
        ("GET", "/vector_stores/v/files/f/content"),
        ("POST", "/vector_stores/v/search"),
    ],
)
@pytest.mark.parametrize(("side", "status"), [("answer", 403), ("request", 200)])
async def test_content_of_files_is_refused_to_guards_on_answers(
    start: Any,
    configured: Callable[..., dict[str, Any]],
    upstream: FakeUpstream,
    method: str,
    path: str,
    side: str,
    status: int,
) -> None:
    """The output of a batch is a file."""
    guard = {"scorer": "personal_data", "on": side, "action": "block"}
    gateway = await start(configured(upstream, guards={"cards": guard}, passthrough="u0"))
    upstream.answers(200, b'{"object":"file"}')
    assert (await gateway.client.request(method, path)).status_code == status
    assert (await gateway.client.get("/files/file-1")).status_code == 200, "which holds no answer"


@pytest.mark.parametrize("limits", [{"action": "observe"}, {"action": "flag"}, {"action": "block", "on": "request"}])
async def test_a_guard_that_refuses_nothing_closes_no_id(
    guarded: Callable[..., Any], upstream: FakeUpstream, limits: dict[str, Any]
) -> None:
    gateway = await guarded(**limits)
    assert (await gateway.client.get("/responses/resp_1")).status_code == 200
    assert (await create(gateway, background=True)).status_code == 200
    assert len(upstream.calls) == 2
