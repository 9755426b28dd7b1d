"""Forms of requests and answers that are not OpenAI's: Azure's paths, vLLM's, headers, redirects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from gateway.fake import FakeUpstream

Configured = Callable[..., dict[str, Any]]
HI = [{"role": "user", "content": "hi"}]


async def post(gateway: Any, path: str, **options: Any) -> httpx2.Response:
    """A request to a path of the root."""
    answer: httpx2.Response = await gateway.client.post(gateway.base_url.removesuffix("/v1") + path, **options)
    return answer


# Azure's paths


async def test_azures_client_asks_an_alias_by_its_deployment(gateway: Any, upstream: FakeUpstream) -> None:
    endpoint = gateway.base_url.removesuffix("/v1")
    async with openai.AsyncAzureOpenAI(azure_endpoint=endpoint, api_key="test-key", api_version="2026-01-01") as client:
        answer = await client.chat.completions.create(model="chat", messages=HI)  # type: ignore[arg-type]
        vectors = await client.embeddings.create(model="chat", input="x")
        response = await client.responses.create(model="chat", input="hi")
    assert answer.choices[0].message.content == "Hello from the fake upstream."
    assert vectors.data
    assert response.output_text
    assert [(r.path, r.query, r.json["model"]) for r in upstream.calls] == [
        ("/v1/chat/completions", "", "model-u0"),
        ("/v1/embeddings", "", "model-u0"),
        ("/v1/responses", "", "model-u0"),
    ], "the version of Azure's API is the gateway's own affair"


async def test_the_deployment_wins_over_the_bodys_model(gateway: Any, upstream: FakeUpstream) -> None:
    for body in ({"messages": HI}, {"messages": HI, "model": "gpt-dear"}):
        answer = await post(gateway, "/openai/deployments/chat/chat/completions?api-version=1&x=2", json=body)
        assert answer.status_code == 200, answer.text
        received = upstream.calls[-1]
        assert (received.json["model"], received.query) == ("model-u0", "x=2")
    refused = await post(gateway, "/openai/deployments/gpt-dear/chat/completions", json={"messages": HI})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_deployments_name_may_hold_an_encoded_slash(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    config = configured(upstream)
    config["models"]["org/chat"] = config["models"]["chat"]
    gateway = await start(config)
    answer = await post(gateway, "/openai/deployments/org%2Fchat/chat/completions", json={"messages": HI})
    assert answer.status_code == 200, answer.text


async def test_azures_newer_paths_are_openais(gateway: Any, upstream: FakeUpstream) -> None:
    answer = await post(gateway, "/openai/v1/chat/completions", json={"model": "chat", "messages": HI})
    assert answer.status_code == 200
    root = gateway.base_url.removesuffix("/v1")
    assert (await gateway.client.get(root + "/openai/v1/models")).json()["data"][0]["id"] == "chat"
    assert (await gateway.client.get(root + "/openai/models?api-version=1")).json()["data"][0]["id"] == "chat"


@pytest.mark.parametrize(
    "path", ["/openai/deployments/chat/unknown", "/openai/deployments/chat", "/openai/deployments/"]
)
async def test_other_paths_below_a_deployment_are_explained(gateway: Any, upstream: FakeUpstream, path: str) -> None:
    answer = await post(gateway, path, json={"messages": HI})
    assert answer.status_code == 404
    assert upstream.calls == []


# Headers


async def test_an_upstream_gets_the_headers_that_its_config_names(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    config = configured(upstream, second, passthrough="u0")
    config["upstreams"]["u0"]["pass_headers"] = ["X-Session-ID", "baggage"]
    config["models"]["other"] = {"targets": [{"upstream": "u1", "model": "m"}]}
    gateway = await start(config)
    headers = {"X-Session-ID": "s1", "Baggage": "a=b", "X-Other": "o", "X-Client-Request-Id": "c1"}
    for model in ("chat", "other"):
        body = {"model": model, "messages": HI}
        assert (await gateway.client.post("/chat/completions", json=body, headers=headers)).status_code == 200
    await gateway.client.get("/files", headers=headers)
    names = ("x-session-id", "baggage", "x-other", "x-client-request-id")
    routed, passed = upstream.calls
    assert [routed.header(n) for n in names] == ["s1", "a=b", None, "c1"]
    assert [passed.header(n) for n in names] == ["s1", "a=b", None, "c1"]
    assert [second.calls[0].header(n) for n in names] == [None, None, None, "c1"]


async def test_anthropics_upstream_gets_its_own_further_headers(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    config = configured(upstream)
    config["upstreams"]["u0"] |= {"kind": "anthropic", "pass_headers": ["anthropic-user-profile-id"]}
    gateway = await start(config)
    body = {"model": "chat", "messages": HI, "max_tokens": 9}
    headers = {"anthropic-user-profile-id": "p1"}
    assert (await gateway.client.post("/messages", json=body, headers=headers)).status_code == 200
    assert upstream.calls[0].header("anthropic-user-profile-id") == "p1"


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "x-gateway-target", "bad name", "Content-Length"])
async def test_a_credential_is_never_passed_on(
    start: Any, configured: Configured, upstream: FakeUpstream, name: str
) -> None:
    from gateway.config.loading import parse
    from gateway.core.errors import ConfigError

    models = "models: {m: {targets: [{upstream: u, model: m}]}}"
    text = f'upstreams: {{u: {{kind: vllm, pass_headers: ["{name}"]}}}}\n{models}'
    with pytest.raises(ConfigError, match="pass_headers"):
        parse(text)


async def test_the_upstreams_own_id_of_a_request_is_kept(gateway: Any, upstream: FakeUpstream) -> None:
    name = "x-request-id"
    upstream.answers(
        200, b'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}', {name: "req_theirs"}
    )
    answer = await gateway.chat()
    assert answer.headers["x-gateway-upstream-request-id"] == "req_theirs"
    assert answer.headers["x-request-id"] != "req_theirs"
    upstream.answers(400, b'{"error": {"message": "no"}}', {name: "req_refused"})
    assert (await gateway.chat()).headers["x-gateway-upstream-request-id"] == "req_refused"


# vLLM's and Cohere's forms


async def test_embeddings_in_bytes_pass_with_their_header(gateway: Any, upstream: FakeUpstream) -> None:
    metadata = '{"data": [{"start": 0, "end": 4}], "usage": {"prompt_tokens": 7, "total_tokens": 7}}'
    upstream.answers(200, b"\x00\x01\x02\xff", {"metadata": metadata}, content_type="application/octet-stream")
    body = {"model": "chat", "input": "x", "encoding_format": "bytes"}
    answer = await gateway.client.post("/embeddings", json=body)
    assert (answer.status_code, answer.content, answer.headers["metadata"]) == (200, b"\x00\x01\x02\xff", metadata)
    assert await gateway.metric("gateway_tokens_total", type="input") == 7


async def test_embeddings_that_are_no_json_are_no_answer(gateway: Any, upstream: FakeUpstream) -> None:
    upstream.answers(200, b"<html>", content_type="text/html")
    answer = await gateway.client.post("/embeddings", json={"model": "chat", "input": "x"})
    assert answer.status_code == 502


@pytest.mark.parametrize("path", ["/v2/rerank", "/v2/embed", "/inference/v1/generate", "/v1/chat/completions/batch"])
async def test_paths_of_vllm_are_routed_by_model(gateway: Any, upstream: FakeUpstream, path: str) -> None:
    upstream.answers(200, b'{"id": "x", "results": []}')
    body = {"model": "chat", "query": "q", "documents": ["d"], "messages": [HI, HI], "token_ids": [1]}
    answer = await post(gateway, path, json=body)
    assert answer.status_code == 200, answer.text
    [received] = upstream.calls
    assert (received.path, received.json["model"]) == (path, "model-u0")


async def test_an_edit_of_an_image_may_be_json(gateway: Any, upstream: FakeUpstream) -> None:
    upstream.answers(200, b'{"created": 1, "data": []}')
    body = {"model": "chat", "prompt": "x", "images": [{"image_url": "https://h/x.png"}]}
    answer = await gateway.client.post("/images/edits", json=body)
    assert answer.status_code == 200, answer.text
    assert upstream.calls[0].json == {**body, "model": "model-u0"}


async def test_a_models_entry_has_what_the_config_adds(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    gateway = await start(configured(upstream, chat={"listed": {"max_model_len": 32768, "id": "other"}}))
    [entry] = (await gateway.client.get("/models")).json()["data"]
    assert (entry["max_model_len"], entry["id"]) == (32768, "chat")
    assert (await gateway.client.get("/models/chat")).json() == entry


async def test_a_form_without_a_model_gets_the_default_of_images(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    upstream.answers(200, b'{"created": 1, "data": []}')
    gateway = await start(configured(upstream, defaults={"images": "chat"}))
    form = {"data": {"prompt": "x"}, "files": {"image": ("a.png", b"\x89PNG")}}
    assert (await gateway.client.post("/images/edits", **form)).status_code == 200
    [received] = upstream.calls
    boundary = (received.header("content-type") or "").partition("boundary=")[2].encode()
    parts = received.body.split(b"--" + boundary)
    assert parts[0] == b""
    assert parts[1] == b'\r\nContent-Disposition: form-data; name="model"\r\n\r\nmodel-u0\r\n'
    assert [b'name="prompt"' in parts[2], b"PNG" in parts[3]] == [True, True]
    named = form | {"data": {"prompt": "x", "model": ""}}
    assert (await gateway.client.post("/images/edits", **named)).status_code == 400, "an empty name is no name"


async def test_a_response_and_its_tokens_have_one_default(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    upstream.answers(200, b'{"object": "response.input_tokens", "input_tokens": 3}')
    gateway = await start(configured(upstream, defaults={"responses": "chat"}))
    for path in ("/responses/input_tokens", "/responses/compact"):
        assert (await gateway.client.post(path, json={"input": "x"})).status_code == 200
    assert [r.json["model"] for r in upstream.calls] == ["model-u0"] * 2


# Words that say what is wrong


async def test_json_where_a_form_is_needed_is_named(gateway: Any, upstream: FakeUpstream) -> None:
    answer = await gateway.client.post("/audio/transcriptions", json={"model": "chat"})
    assert answer.status_code == 400
    assert "takes a form (content-type multipart/form-data), not JSON" in answer.json()["error"]["message"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_named_and_not_followed(gateway: Any, upstream: FakeUpstream, status: int) -> None:
    upstream.answers(status, b"", {"location": "https://secret.internal/v1/"})
    answer = await gateway.chat()
    assert answer.status_code == 502
    message = answer.json()["error"]["message"]
    assert f"HTTP {status}: it redirects to another address, which is not followed" in message
    assert "secret.internal" not in answer.text
    assert len(upstream.calls) == 1


async def test_an_upstreams_own_words_reach_the_client(gateway: Any, upstream: FakeUpstream) -> None:
    words = "This server does not support embeddings. Start it with `--embeddings`"
    upstream.answers(501, b'{"error": {"message": "%b", "type": "not_supported_error"}}' % words.encode())
    answer = await gateway.client.post("/embeddings", json={"model": "chat", "input": "x"})
    assert answer.status_code == 502
    assert f"HTTP 501 not_supported_error ({words})" in answer.json()["error"]["message"]


@pytest.mark.parametrize("passthrough", [True, False])
async def test_a_browser_without_cors_is_told_what_to_set(
    start: Any, configured: Configured, upstream: FakeUpstream, passthrough: bool
) -> None:
    gateway = await start(configured(upstream, **({"passthrough": "u0"} if passthrough else {})))
    headers = {"origin": "http://page", "access-control-request-method": "POST"}
    async with httpx2.AsyncClient() as browser:
        answer = await browser.options(f"{gateway.base_url}/chat/completions", headers=headers)
    assert answer.status_code == 405
    assert "name its origin under `cors`" in answer.json()["error"]["message"]
