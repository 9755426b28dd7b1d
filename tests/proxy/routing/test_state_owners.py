"""Stored state of an upstream belongs to the key that used it first, whatever the size of the request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import pytest
import yaml

from gateway.fake import FakeUpstream
from gateway.proxy.request.call import Caller
from gateway.proxy.routing.response_ids import ResponseIds
from gateway.proxy.routing.state_owners import StateOwners
from gateway.runtime.tasks import Tasks

CONVERSATION, CONTAINER, MESSAGE = ("conv_" + "a" * 40, "cntr_" + "b" * 40, "msg_" + "c" * 40)
Configured = Callable[..., dict[str, Any]]


@pytest.fixture
async def two_keys(start: Any, configured: Configured, upstream: FakeUpstream) -> Any:
    """A gateway with two keys, and an alias on an upstream of Anthropic's API."""
    config = configured(upstream)
    config["keys"].append({"name": "other", "sha256": sha256(b"other").hexdigest()})
    config["upstreams"]["u1"] = {"kind": "anthropic", "base_url": upstream.base_url}
    config["models"]["claude"] = {"targets": [{"upstream": "u1", "model": "claude"}]}
    return await start(config)


async def asked(gateway: Any, path: str, key: str, **members: Any) -> Any:
    body = {"input": "hi"} if path == "/responses" else {"messages": [{"role": "user", "content": "hi"}]}
    body |= {"model": "claude" if path == "/messages" else "chat", "max_tokens": 5}
    headers = {"authorization": f"Bearer {key}"}
    return await gateway.client.post(path, json=body | members, headers=headers)


STATE: list[tuple[str, dict[str, Any], str, str]] = [
    ("/responses", {"conversation": CONVERSATION}, "conversation", "conversation_not_found"),
    ("/responses", {"conversation": {"id": CONVERSATION}}, "conversation", "conversation_not_found"),
    ("/responses", {"tools": [{"type": "code_interpreter", "container": CONTAINER}]}, "tools[0].container",
     "container_not_found"),
    ("/messages", {"container": CONTAINER}, "container", "container_not_found"),
    ("/messages", {"container": {"id": CONTAINER, "skills": []}}, "container", "container_not_found"),
    ("/chat/completions", {"container": CONTAINER}, "container", "container_not_found"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "members", "param", "code"), STATE)
async def test_another_key_does_not_reach_it(
    two_keys: Any, upstream: FakeUpstream, path: str, members: dict[str, Any], param: str, code: str
) -> None:
    assert (await asked(two_keys, path, "test-key", **members)).status_code == 200
    sent = len(upstream.calls)
    refused = await asked(two_keys, path, "other", **members)
    assert refused.status_code == 404, refused.text
    if path != "/messages":
        assert (refused.json()["error"]["param"], refused.json()["error"]["code"]) == (param, code)
    assert "does not exist" in refused.json()["error"]["message"]
    assert len(upstream.calls) == sent
    assert (await asked(two_keys, path, "test-key", **members)).status_code == 200


async def test_a_large_request_hides_nothing(two_keys: Any, upstream: FakeUpstream) -> None:
    """Large members of large bodies are not parsed for anything else."""
    tools = [{"type": "code_interpreter", "container": CONTAINER}]
    assert (await asked(two_keys, "/responses", "test-key", tools=tools)).status_code == 200
    padded = [*tools, {"type": "function", "name": "f", "description": "x" * 1_200_000}]
    assert (await asked(two_keys, "/responses", "other", tools=padded)).status_code == 404


async def test_refused_state_has_no_owner(two_keys: Any, upstream: FakeUpstream) -> None:
    """A key claims nothing by naming it."""
    upstream.answers(404, b'{"error": {"message": "Conversation not found."}}')
    assert (await asked(two_keys, "/responses", "other", conversation=CONVERSATION)).status_code == 404
    upstream.says("hello")
    assert (await asked(two_keys, "/responses", "test-key", conversation=CONVERSATION)).status_code == 200


async def test_a_short_name_is_every_keys_own(two_keys: Any, upstream: FakeUpstream) -> None:
    """Some servers let clients choose the name, and two clients may choose the same."""
    for key in ("test-key", "other"):
        assert (await asked(two_keys, "/responses", key, conversation="conv_1")).status_code == 200


async def test_many_other_ids_do_not_hide_one(two_keys: Any) -> None:
    mine = [{"type": "code_interpreter", "container": f"cntr_{n:040}"} for n in range(99)]
    theirs = {"type": "code_interpreter", "container": CONTAINER}
    assert (await asked(two_keys, "/responses", "test-key", tools=[theirs])).status_code == 200
    refused = await asked(two_keys, "/responses", "other", tools=[*mine, theirs])
    assert (refused.status_code, refused.json()["error"]["param"]) == (404, "tools[99].container")
    too_many = [{"type": "code_interpreter", "container": f"cntr_{n:040}"} for n in range(1001)]
    refused = await asked(two_keys, "/responses", "other", tools=too_many)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools[1000].container")


@pytest.mark.parametrize("path", ["/responses/compact", "/responses/input_tokens"])
async def test_no_further_path_reaches_it(two_keys: Any, path: str) -> None:
    assert (await asked(two_keys, "/responses", "test-key", conversation=CONVERSATION)).status_code == 200
    headers = {"authorization": "Bearer other"}
    body = {"model": "chat", "input": "hi", "conversation": CONVERSATION}
    assert (await two_keys.client.post(path, json=body, headers=headers)).status_code == 404


@pytest.mark.parametrize("stream", [False, True])
async def test_a_thread_of_another_key_is_not_found(two_keys: Any, upstream: FakeUpstream, stream: bool) -> None:
    """The error has the code on which Anthropic's clients send the whole conversation."""
    message = {"id": MESSAGE, "type": "message", "role": "assistant", "content": [{"type": "text", "text": "hi"}]}
    started = {"type": "message_start", "message": message}
    said = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
    if stream:
        upstream.streams([f"data: {json.dumps(e)}\n\n".encode() for e in (started, said, {"type": "message_stop"})])
    else:
        upstream.answers(200, json.dumps(message).encode())
    made = await asked(two_keys, "/messages", "test-key", thread={"type": "create"}, stream=stream)
    assert made.status_code == 200
    assert MESSAGE in made.text
    continued = {"type": "continue", "previous_message_id": MESSAGE}
    refused = await asked(two_keys, "/messages", "other", thread=continued)
    assert (refused.status_code, refused.json()["error"]["type"]) == (404, "not_found_error")
    assert refused.json()["error"]["details"] == {"error_code": "thread_not_found"}
    again = await asked(two_keys, "/messages", "test-key", thread=continued, stream=stream)
    assert again.status_code == 200


async def test_another_process_knows_the_owner(two_keys: Any, start: Any, upstream: FakeUpstream) -> None:
    second = await start(yaml.safe_load(two_keys.config_path.read_text()))
    assert (await asked(two_keys, "/responses", "test-key", conversation=CONVERSATION)).status_code == 200
    ids = two_keys.gateway.affinity.ids
    async with asyncio.timeout(60):
        while await two_keys.corridor.state.recall(f"owner:{ids.state_digest(CONVERSATION)}") is None:
            await asyncio.sleep(0.005)
    assert (await asked(second, "/responses", "other", conversation=CONVERSATION)).status_code == 404
    assert (await asked(second, "/responses", "test-key", conversation=CONVERSATION)).status_code == 200


async def test_without_seals_ids_are_the_upstreams(start: Any, configured: Configured, upstream: FakeUpstream) -> None:
    gateway = await start(configured(upstream, responses={"seal": False}))
    made = await asked(gateway, "/responses", "test-key")
    theirs = made.json()["id"]
    assert "." not in theirs
    upstream.answers(200, b'{"object": "response"}')
    assert (await gateway.client.get(f"/responses/{theirs}")).status_code == 200
    assert (await gateway.client.get("/responses/resp_made_elsewhere")).status_code == 200
    assert (await asked(gateway, "/responses", "test-key", previous_response_id=theirs)).status_code == 200
    assert [call.path for call in upstream.calls][1:3] == [
        f"/v1/responses/{theirs}",
        "/v1/responses/resp_made_elsewhere",
    ]
    assert upstream.calls[-1].json["previous_response_id"] == theirs


class Counted:
    """A stream server that counts what it is given."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    async def remember(self, name: str, value: str, keep_s: int) -> None:
        self.kept.append(name)

    async def recall_all(self, names: Sequence[str]) -> list[str | None]:
        return [None for _ in names]


async def test_an_owner_who_continues_keeps_it() -> None:
    """Ownership is shared for a week, and again on the first use of each day."""
    store, now = Counted(), [0.0]
    async with Tasks() as tasks:
        owners = StateOwners(store, tasks, ResponseIds(), clock=lambda: now[0])
        for day in (0.0, 0.1, 0.9, 1.0, 1.5, 2.1):
            now[0] = day * 86400
            owners.own(Caller("ada", None), CONVERSATION)
            async with asyncio.timeout(60):
                while len(tasks):
                    await asyncio.sleep(0)
    assert len(store.kept) == 3


@pytest.mark.parametrize("name", ["conversation", "container", "thread", "tools", "previous_response_id"])
@pytest.mark.parametrize(
    "value",
    [b'{"id":"x","n":1e999,"pad":"%b"}' % (b"x" * 70_000), b"[1e999%b]" % (b",1" * 40_000), b"9" * 70_000],
    ids=["an object", "an array", "a number"],
)
async def test_large_state_that_cannot_be_read_is_refused(
    gateway: Any, upstream: FakeUpstream, name: str, value: bytes
) -> None:
    body = b'{"model":"chat","input":"hi","%b":%b}' % (name.encode(), value)
    reply = await gateway.client.post("/responses", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == name
    assert f"{name} cannot be read" in reply.json()["error"]["message"]
    assert upstream.calls == []


async def test_a_container_of_a_tool_that_cannot_be_read_is_refused(gateway: Any) -> None:
    tool = b'{"type":"code_interpreter","container":1e999}'
    body = b'{"model":"chat","input":"%b","tools":[%b]}' % (b"x" * 5000, tool)
    reply = await gateway.client.post("/responses", content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "tools"), reply.text
