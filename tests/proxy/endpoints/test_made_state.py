"""What a key makes through `passthrough` belongs to it: no other key reaches it by its path."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from gateway.fake import FakeUpstream
from gateway.proxy.endpoints.made_state import makes_state

FILE, STORE = "file-" + "a" * 24, "vs_" + "b" * 32


@pytest.fixture
async def two_keys(start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream) -> Any:
    config = configured(upstream, passthrough="u0")
    config["keys"].append({"name": "other", "sha256": sha256(b"other").hexdigest(), "allow": ["passthrough"]})
    return await start(config)


def of(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def made(gateway: Any, upstream: FakeUpstream, path: str, answer: dict[str, Any]) -> None:
    """Makes something at the upstream."""
    upstream.answers(200, json.dumps(answer, indent=2).encode() + b"\n")
    assert (await gateway.client.post(path, json={"a": 1}, headers=of("test-key"))).status_code == 200
    upstream.says("hello")


@pytest.mark.parametrize(
    ("method", "path", "makes"),
    [("POST", b"/v1/files", True), ("POST", b"/v1//files/", True), ("GET", b"/v1/files", False),
     ("POST", b"/v1/uploads/u/complete", True), ("POST", b"/v1/vector_stores/v/files", False),
     ("POST", b"/v1/batches/b/cancel", False), ("DELETE", b"/v1/files/f", False)],
)  # fmt: skip
def test_only_what_is_new_is_made(method: str, path: bytes, makes: bool) -> None:
    assert makes_state(method, path) is makes


async def test_an_answer_in_pieces_is_read(two_keys: Any, upstream: FakeUpstream) -> None:
    answer = json.dumps({"meta": {"a": {}}, "id": FILE}).encode()
    upstream.streams([answer[at : at + 7] for at in range(0, len(answer), 7)], content_type="application/json")
    assert (await two_keys.client.post("/files", json={}, headers=of("test-key"))).json()["id"] == FILE
    assert (await two_keys.client.get(f"/files/{FILE}", headers=of("other"))).status_code == 404


MADE = [
    ("/files", {"id": FILE}, f"/files/{FILE}/content", "file"),
    ("/vector_stores", {"id": STORE}, f"/vector_stores/{STORE}/files", "vector_store"),
    ("/conversations", {"id": "conv_" + "d" * 40}, f"/conversations/conv_{'d' * 40}", "conversation"),
    ("/batches", {"id": "batch_" + "e" * 40}, f"/batches/batch_{'e' * 40}/cancel", "batch"),
    (f"/uploads/upload_{'f' * 32}/complete", {"id": "upload_" + "f" * 32, "file": {"id": FILE}}, f"/files/{FILE}",
     "file"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "answer", "below", "kind"), MADE)
async def test_a_path_of_another_keys_state_is_not_found(
    two_keys: Any, upstream: FakeUpstream, path: str, answer: dict[str, Any], below: str, kind: str
) -> None:
    await made(two_keys, upstream, path, answer)
    sent = len(upstream.calls)
    for method in ("GET", "POST", "DELETE"):
        refused = await two_keys.client.request(method, below, headers=of("other"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, f"{kind}_not_found")
        assert refused.json()["error"]["param"] == "id"
    spelled = below.replace("_", "%5f").replace("-", "%2d")
    assert (await two_keys.client.get(spelled, headers=of("other"))).status_code == 404
    assert len(upstream.calls) == sent
    upstream.answers(200, b"{}")
    assert (await two_keys.client.get(below, headers=of("test-key"))).status_code == 200


async def test_what_is_added_below_something_is_not_made(two_keys: Any, upstream: FakeUpstream) -> None:
    """A file in a vector store has the id of the file, which may be shared."""
    await made(two_keys, upstream, f"/vector_stores/{STORE}/files", {"id": FILE})
    assert (await two_keys.client.get(f"/files/{FILE}", headers=of("other"))).status_code == 200


async def test_what_was_refused_was_not_made(two_keys: Any, upstream: FakeUpstream) -> None:
    upstream.answers(400, json.dumps({"id": FILE}).encode())
    assert (await two_keys.client.post("/files", json={}, headers=of("test-key"))).status_code == 400
    upstream.says("hello")
    assert (await two_keys.client.get(f"/files/{FILE}", headers=of("other"))).status_code == 200
