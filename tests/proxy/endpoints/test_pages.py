"""The paths next to the hot path: the errors of unknown paths, and that no name from outside becomes a label."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.metric_samples import sample_sum_of_page

from gateway.proxy.app import unknown_path


@pytest.mark.parametrize("path", ["/v1/nothing", "/nothing", "/v1/models/nothing"])
async def test_every_refusal_has_the_openai_shape_and_an_id(gateway: Any, path: str) -> None:
    reply = await gateway.client.get(gateway.base_url.removesuffix("/v1") + path)
    assert reply.status_code == 404
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert reply.headers["x-request-id"]


WORDS = [
    ("/chat/completions", "must end in /v1", 404),
    ("/models", "must end in /v1", 404),
    ("/v1/files", "forwarded where `passthrough` in gateway.yaml names an upstream", 404),
    ("/v1/conversations/conv_1/items", "with `allow: [passthrough]`", 404),
    ("/v1/messages/batches", "forwarded where `passthrough`", 404),
    ("/v1beta/files", "`passthrough.gemini` names an upstream", 404),
    ("/guardrail/g/version/1/apply", "`passthrough.bedrock` names an upstream", 404),
    ("/v1beta/models/g:generateContent", "takes POST, not GET", 405),
    ("/model/m/converse", "takes POST, not GET", 405),
    ("/v1/realtime", "not relayed", 501),
    ("/v1/realtime/sessions", "`passthrough` names an upstream", 404),
    ("/openai/deployments/m/batches", "Azure's paths of models are served", 404),
    ("/api/chat", "Ollama's own API is not served", 404),
    ("/anything" + "x" * 500, "GET /anythingx", 404),
]


@pytest.mark.parametrize(("path", "words", "status"), WORDS, ids=[w[0][:30] for w in WORDS])
def test_an_unknown_path_gets_an_error_that_explains_it(path: str, words: str, status: int) -> None:
    error = unknown_path(path, "GET")
    assert words in error.message
    assert (error.status, error.retry) == (status, False)
    assert len(error.message) < 400


async def test_names_that_are_not_from_the_config_never_become_labels(gateway: Any) -> None:
    """Unknown models, users and paths cost no series."""
    for n in range(20):
        body = {"model": f"unknown-{n}", "messages": [{"role": "user", "content": "x"}], "user": f"user-{n}"}
        assert (await gateway.client.post("/chat/completions", json=body)).status_code == 404
        await gateway.client.get(f"/nothing-{n}")
    await gateway.chat(user="user-9")
    text = (await gateway.client.get(gateway.base_url.removesuffix("/v1") + "/metrics")).text
    assert "unknown-" not in text
    assert "user-" not in text
    assert "nothing-" not in text
    assert sample_sum_of_page(text, "gateway_refused_total", code="model_not_found", status="404") == 20
