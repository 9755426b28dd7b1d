"""Forms of requests and answers that are not OpenAI's: Azure's paths, vLLM's, headers, redirects."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from hashlib import sha256
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


async def test_embeddings_that_are_not_json_are_not_an_answer(gateway: Any, upstream: FakeUpstream) -> None:
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
    assert (await gateway.client.post("/images/edits", **named)).status_code == 400, "an empty name is refused"


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


@pytest.mark.parametrize("path", ["/v1/v1/chat/completions", "/v1/v1/models"])
async def test_a_base_url_that_has_v1_already_is_served(gateway: Any, path: str) -> None:
    """Anthropic's clients add /v1 themselves."""
    root = gateway.base_url.removesuffix("/v1")
    body = {"model": "chat", "messages": HI}
    answer = await gateway.client.request("GET" if path.endswith("models") else "POST", root + path, json=body)
    assert answer.status_code == 200, answer.text


async def test_the_key_of_geminis_client_is_read_on_every_path(gateway: Any) -> None:
    root = gateway.base_url.removesuffix("/v1")
    async with httpx2.AsyncClient(headers={"x-goog-api-key": "test-key"}) as client:
        listed = await client.get(f"{root}/v1/models")
        called = await client.post(f"{root}/v1/chat/completions", json={"model": "chat", "messages": HI})
    assert (listed.status_code, called.status_code) == (200, 200)


@pytest.mark.parametrize(
    ("path", "words"), [("/chat/completions", "is not served by WebSocket"), ("/realtime", "realtime sessions")]
)
async def test_a_websocket_is_refused_by_its_own_name(gateway: Any, path: str, words: str) -> None:
    answer = await gateway.client.get(path, headers={"connection": "upgrade", "upgrade": "websocket"})
    assert answer.status_code == 501
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b'{"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}'),
        (404, b'{"detail":"Not Found"}'),
        (404, b"404 page not found"),
    ],
)
async def test_an_upstream_without_the_endpoint_is_named(
    gateway: Any, upstream: FakeUpstream, status: int, body: bytes
) -> None:
    upstream.answers(status, body)
    answer = await gateway.client.post("/rerank", json={"model": "chat", "query": "q", "documents": ["d"]})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "unsupported_api")
    assert error["message"] == 'the upstream "u0" of "chat" has no /v1/rerank'


async def test_a_404_about_the_model_passes_unchanged(gateway: Any, upstream: FakeUpstream) -> None:
    body = b'{"error": {"message": "The model `m` does not exist.", "code": 404}}'
    upstream.answers(404, body)
    answer = await gateway.chat()
    assert (answer.status_code, answer.content) == (404, body)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_compressed_answer_is_named_and_not_asked_for_again(
    gateway: Any, upstream: FakeUpstream, stream: bool
) -> None:
    kind = "text/event-stream" if stream else "application/json"
    upstream.answers(200, gzip.compress(b'{"choices": []}'), {"content-encoding": "gzip"}, kind)
    answer = await gateway.chat(stream=stream)
    assert answer.status_code == 502
    assert "compressed its answer (gzip)" in answer.json()["error"]["message"]
    assert len(upstream.calls) == 1


async def test_an_answer_without_content_has_its_own_status(gateway: Any, upstream: FakeUpstream) -> None:
    upstream.answers(204, b"")
    assert "returned HTTP 204 without an answer" in (await gateway.chat()).json()["error"]["message"]


async def test_the_only_model_of_a_key_is_taken(start: Any, configured: Configured, upstream: FakeUpstream) -> None:
    config = configured(upstream, defaults="auto")
    config["models"]["other"] = config["models"]["chat"]
    config["keys"] += [
        {"name": name, "sha256": sha256(name.encode()).hexdigest(), "models": models}
        for name, models in (("one", ["other"]), ("both", ["chat", "other"]))
    ]
    gateway = await start(config)
    statuses = []
    for key in ("one", "both", "test-key"):
        headers = {"authorization": f"Bearer {key}"}
        answer = await gateway.client.post("/chat/completions", json={"messages": HI}, headers=headers)
        statuses.append(answer.status_code)
    assert statuses == [200, 400, 400]
    assert "`defaults` in gateway.yaml" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "member"), [("llamacpp", {"timings": {"prompt_n": 3}}), ("vllm", {"system_fingerprint": "vllm-0.32-tp1"})]
)
async def test_members_of_the_usage_chunk_come_with_the_last_chunk(
    start: Any, configured: Configured, upstream: FakeUpstream, kind: str, member: dict[str, Any]
) -> None:
    """Such a member comes with the usage, which the client has not asked for."""
    config = configured(upstream)
    config["upstreams"]["u0"]["kind"] = kind
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}, **member},
    ]
    gateway = await start(config)
    events = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks]
    for pieces in ([*events, b"data: [DONE]\n\n"], [b"".join(events) + b"data: [DONE]\n\n"], events):
        upstream.streams(pieces)
        async with gateway.stream() as answer:
            lines = [line async for line in answer.aiter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        came = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        assert came == [*chunks[:2], chunks[2] | member]
