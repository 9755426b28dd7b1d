"""A file, vector store or prompt belongs to the key that made it through `passthrough`, in every request that
names it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
import yaml

from gateway.fake import FakeUpstream

FILE, STORE, PROMPT = "file-" + "a" * 24, "vs_" + "b" * 32, "pmpt_" + "c" * 32
Configured = Callable[..., dict[str, Any]]


def with_keys(configured: Configured, upstream: FakeUpstream, **sections: Any) -> dict[str, Any]:
    config = configured(upstream, passthrough={"openai": "u0", "anthropic": "u1"}, **sections)
    config["keys"].append({"name": "other", "sha256": sha256(b"other").hexdigest(), "allow": ["passthrough"]})
    config["upstreams"]["u1"] = {"kind": "anthropic", "base_url": upstream.base_url}
    config["models"]["claude"] = {"targets": [{"upstream": "u1", "model": "claude"}]}
    return config


@pytest.fixture
async def two_keys(start: Any, configured: Configured, upstream: FakeUpstream) -> Any:
    """A gateway with two keys."""
    return await start(with_keys(configured, upstream))


def of(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def made(gateway: Any, upstream: FakeUpstream, path: str, answer: dict[str, Any], key: str = "test-key") -> None:
    """Makes something at the upstream, as this key."""
    upstream.answers(200, json.dumps(answer, indent=2).encode() + b"\n")
    assert (await gateway.client.post(path, json={"a": 1}, headers=of(key))).status_code == 200
    upstream.says("hello")


async def asked(gateway: Any, path: str, key: str, members: dict[str, Any] | bytes) -> Any:
    if isinstance(members, bytes):
        headers = {**of(key), "content-type": "application/json"}
        return await gateway.client.post(path, content=members, headers=headers)
    body = {"input": "hi"} if path == "/responses" else {"messages": [{"role": "user", "content": "hi"}]}
    body |= {"model": "claude" if path == "/messages" else "chat", "max_tokens": 5}
    return await gateway.client.post(path, json=body | members, headers=of(key))


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "hi"}, *parts]}]


PADDING = {"type": "text", "text": "x" * 2_400_000}
NAMED: list[tuple[str, dict[str, Any], str]] = [
    ("/chat/completions", {"messages": user({"type": "file", "file": {"file_id": FILE}})}, "file"),
    ("/chat/completions", {"messages": user(PADDING, {"type": "file", "file": {"file_id": FILE}})}, "file"),
    ("/responses", {"input": user({"type": "input_file", "file_id": FILE})}, "file"),
    ("/responses", {"input": user({"type": "input_image", "file_id": FILE})}, "file"),
    ("/responses", {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f", FILE]}}]},
     "file"),
    ("/responses", {"tools": [{"type": "file_search", "vector_store_ids": [STORE]}]}, "vector_store"),
    ("/responses", {"prompt": {"variables": {"a": {"id": "b"}}, "id": PROMPT}}, "prompt"),
    ("/responses", {"prompt": {"variables": {"a": "x" * 1_200_000}, "id": PROMPT}}, "prompt"),
    ("/messages", {"messages": user({"type": "document", "source": {"type": "file", "file_id": FILE}})}, "file"),
]  # fmt: skip
COLLECTIONS = {"file": ("/files", FILE), "vector_store": ("/vector_stores", STORE), "prompt": ("/prompts", PROMPT)}
PARAMS = {"file": ("file_id", "file_ids"), "vector_store": ("vector_store_ids",), "prompt": ("prompt.id",)}


@pytest.mark.parametrize(("path", "members", "kind"), NAMED)
async def test_another_key_does_not_reach_what_one_made(
    two_keys: Any, upstream: FakeUpstream, path: str, members: dict[str, Any], kind: str
) -> None:
    assert (await asked(two_keys, path, "other", members)).status_code == 200, "nobody is known to have made it"
    collection, made_id = COLLECTIONS[kind]
    await made(two_keys, upstream, collection, {"id": made_id, "object": kind})
    sent = len(upstream.calls)
    refused = await asked(two_keys, path, "other", members)
    assert refused.status_code == 404, refused.text
    assert f'{kind} "{made_id}" does not exist' in refused.json()["error"]["message"]
    if path == "/messages":
        assert refused.json()["error"]["type"] == "not_found_error"
    else:
        assert refused.json()["error"]["param"] in PARAMS[kind]
        assert refused.json()["error"]["code"] == f"{kind}_not_found"
    assert len(upstream.calls) == sent
    assert (await asked(two_keys, path, "test-key", members)).status_code == 200


SPELLED = [
    rb'"\u0066ile_id": "%b"' % FILE.encode(),
    b'"file_id" \n : \t "%b"' % FILE.replace("f", "\\u0066", 1).encode(),
    rb'"file_ids": ["a]", "\"", "x\u0022", "\\", "%b"]' % FILE.encode(),
    rb'"x": "\\u0022", "file_ids": ["\\u0022","%b"]' % FILE.encode(),
]


@pytest.mark.parametrize("spelled", SPELLED)
async def test_no_spelling_hides_an_id(two_keys: Any, upstream: FakeUpstream, spelled: bytes) -> None:
    body = b'{"model": "chat", "messages": [{"role": "user", "content": [{"type": "file", %b}]}]}' % spelled
    assert json.loads(body)
    assert (await asked(two_keys, "/chat/completions", "other", body)).status_code == 200
    await made(two_keys, upstream, "/files", {"id": FILE})
    assert (await asked(two_keys, "/chat/completions", "other", body)).status_code == 404
    assert (await asked(two_keys, "/chat/completions", "test-key", body)).status_code == 200


async def test_a_text_names_no_file(two_keys: Any, upstream: FakeUpstream) -> None:
    await made(two_keys, upstream, "/files", {"id": FILE})
    text = json.dumps({"file_id": FILE})
    assert (await asked(two_keys, "/chat/completions", "other", {"messages": user({"text": text})})).status_code == 200


async def test_using_a_file_claims_nothing(two_keys: Any) -> None:
    """One caller could otherwise lock the others out of a file that all of them share."""
    members = {"input": user({"type": "input_file", "file_id": FILE})}
    for key in ("other", "test-key", "other"):
        assert (await asked(two_keys, "/responses", key, members)).status_code == 200


async def test_where_using_claims_the_first_key_has_it(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    gateway = await start(with_keys(configured, upstream, responses={"files": "used"}))
    members = {"input": user({"type": "input_file", "file_id": FILE})}
    codes = [(await asked(gateway, "/responses", key, members)).status_code for key in ("other", "test-key", "other")]
    assert codes == [200, 404, 200]


async def test_where_files_are_shared_every_key_uses_them(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    gateway = await start(with_keys(configured, upstream, responses={"files": "shared"}))
    await made(gateway, upstream, "/files", {"id": FILE})
    members = {"input": user({"type": "input_file", "file_id": FILE})}
    assert (await asked(gateway, "/responses", "other", members)).status_code == 200
    assert (await gateway.client.get(f"/files/{FILE}", headers=of("other"))).status_code == 200


async def test_another_process_knows_who_made_it(two_keys: Any, start: Any, upstream: FakeUpstream) -> None:
    second = await start(yaml.safe_load(two_keys.config_path.read_text()))
    await made(two_keys, upstream, "/files", {"id": FILE})
    ids = two_keys.gateway.affinity.ids
    async with asyncio.timeout(60):
        while await two_keys.corridor.state.recall(f"owner:{ids.state_digest(FILE)}") is None:
            await asyncio.sleep(0.005)
    members = {"input": user({"type": "input_file", "file_id": FILE})}
    assert (await asked(second, "/responses", "other", members)).status_code == 404
    assert (await asked(second, "/responses", "test-key", members)).status_code == 200
