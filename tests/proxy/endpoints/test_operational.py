"""The paths beside the hot path: readiness and metrics, who may see them, and the errors of unknown paths."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from hashlib import sha256
from typing import Any

import httpx2
import pytest
import yaml

from gateway.config.environment import WorkerEnvironment
from gateway.fake import FakeUpstream
from gateway.proxy.app import unknown_path
from gateway.proxy.serve import Process

SCRAPE = {"authorization": "Bearer scrape"}
METRICS = {"sha256": sha256(b"scrape").hexdigest()}


@pytest.fixture
async def public(
    tmp_path: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream
) -> AsyncIterator[Callable[..., Any]]:
    """Asks a gateway that listens beyond loopback, in this process and without a socket."""
    async with contextlib.AsyncExitStack() as stack:

        async def go(**sections: Any) -> httpx2.AsyncClient:
            path = tmp_path / "gateway.yaml"
            path.write_text(yaml.safe_dump(configured(upstream, **sections)))
            process = Process(WorkerEnvironment(path, tmp_path / "data", loopback=False))
            app = await stack.enter_async_context(process.opened())
            transport = httpx2.ASGITransport(app=app)
            return await stack.enter_async_context(httpx2.AsyncClient(transport=transport, base_url="http://gw"))

        yield go


async def test_beyond_loopback_metrics_need_a_key_of_their_own(public: Any) -> None:
    client = await public(metrics=METRICS)
    for headers in ({}, {"authorization": "Bearer test-key"}, {"authorization": "Bearer "}):
        refused = await client.get("/metrics", headers=headers)
        assert refused.status_code == 401, "a caller's key is none"
        assert "gateway_" not in refused.text
    assert "gateway_requests" in (await client.get("/metrics", headers=SCRAPE)).text


async def test_without_a_key_the_refusal_says_how_to_get_access(public: Any) -> None:
    client = await public()
    refused = await client.get("/metrics", headers=SCRAPE)
    assert refused.status_code == 401
    assert "set metrics.sha256 or metrics.bind" in refused.json()["error"]["message"]


async def test_beyond_loopback_readiness_details_need_the_key(public: Any) -> None:
    client = await public(metrics=METRICS)
    assert (await client.get("/ready")).json() == {"status": "ready"}
    assert (await client.get("/ready", headers=SCRAPE)).json()["targets"] == {"u0/model-u0": "ready"}


async def test_on_loopback_metrics_are_open_unless_a_key_is_set(gateway: Any) -> None:
    root = gateway.base_url.removesuffix("/v1")
    reply = await gateway.client.get(f"{root}/metrics", headers={"authorization": ""})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    "header",
    [
        {"x-forwarded-for": "203.0.113.9"},
        {"forwarded": "for=203.0.113.9"},
        {"via": "1.1 proxy"},
        {"host": "gateway.example.com"},
        {"host": "rebound.example:8080"},
    ],
    ids=str,
)
async def test_behind_a_proxy_loopback_opens_nothing(gateway: Any, header: dict[str, str]) -> None:
    """A proxy on the same machine connects over loopback for the whole internet; so does a page with a rebound name."""
    root = gateway.base_url.removesuffix("/v1")
    refused = await gateway.client.get(f"{root}/metrics", headers=header)
    assert refused.status_code == 401
    assert "gateway_" not in refused.text
    assert (await gateway.client.get(f"{root}/ready", headers=header)).json() == {"status": "ready"}


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:80", "127.1.2.3", "[::1]:8080", "[::1]"])
async def test_every_loopback_name_is_this_machine(gateway: Any, host: str) -> None:
    reply = await gateway.client.get(f"{gateway.base_url.removesuffix('/v1')}/metrics", headers={"host": host})
    assert reply.status_code == 200


async def test_readiness_follows_the_targets_and_health_does_not(gateway: Any) -> None:
    root = gateway.base_url.removesuffix("/v1")
    [target_state] = gateway.gateway.router.target_states
    for change, state in (("down", "down"), ("failing", "failing"), ("", "ready")):
        target_state.upstream.down = change == "down"
        target_state.breaker.pause(100.0) if change == "failing" else target_state.breaker.record_success()
        ready = await gateway.client.get(f"{root}/ready")
        assert ready.status_code == (503 if change else 200)
        assert ready.json()["targets"] == {"u0/model-u0": state}
        assert ready.json()["without_target"] == (["chat"] if change else [])
        health = await gateway.client.get(f"{root}/health")
        assert (health.status_code, health.json()["status"]) == (200, "ok")


async def test_the_metrics_listener_is_open(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, unused_port: int
) -> None:
    bind = f"127.0.0.1:{unused_port}"
    gateway = await start(configured(upstream, metrics={"bind": bind, **METRICS}))
    for path in ("/metrics", "/ready", "/health"):
        assert (await gateway.client.get(f"http://{bind}{path}", headers={"authorization": ""})).status_code == 200
    assert (await gateway.client.get(f"http://{bind}/v1/models")).status_code == 404
    main = gateway.base_url.removesuffix("/v1")
    for headers in ({"authorization": ""}, SCRAPE):
        refused = await gateway.client.get(f"{main}/metrics", headers=headers)
        assert refused.status_code == 404, "nothing is left on the main port"
        assert "metrics.bind" in refused.json()["error"]["message"]
        assert (await gateway.client.get(f"{main}/ready", headers=headers)).json() == {"status": "ready"}


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.parametrize("path", ["/v1/nothing", "/nothing", "/v1/models/nothing", "/"])
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
    ("/v1/models/gemini-2.5-flash:generateContent", "Gemini's own API is not served", 404),
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


async def test_a_model_named_as_nobody_would_is_not_found_and_no_fault(gateway: Any) -> None:
    for name in ("%00", "%ff", "a%2fb", "..%2f..", "x" * 3000):
        reply = await gateway.client.get(f"/models/{name}")
        assert reply.status_code == 404, name


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
    assert 'gateway_refused_total{code="model_not_found",status="404"} 20.0' in text


async def test_metrics_are_compressed_for_who_asks_and_have_no_created_series(gateway: Any) -> None:
    assert (await gateway.chat()).status_code == 200
    url = gateway.base_url.removesuffix("/v1") + "/metrics"
    plain = await gateway.client.get(url, headers={"accept-encoding": "identity"})
    packed = await gateway.client.get(url, headers={"accept-encoding": "gzip"})
    assert ("content-encoding" in plain.headers, packed.headers["content-encoding"]) == (False, "gzip")
    assert 'gateway_requests_total{alias="chat",outcome="ok",upstream="u0"} 1.0' in packed.text
    assert "_created" not in plain.text
    happened = [line for line in plain.text.splitlines() if line.startswith("gateway_requests_total{")]
    assert len(happened) == 1, "outcomes that did not happen are no series"


async def test_clients_of_anthropics_api_get_its_list_of_models_and_its_errors(gateway: Any) -> None:
    headers = {"anthropic-version": "2023-06-01", "x-api-key": "test-key"}
    listed = (await gateway.client.get("/models", headers=headers)).json()
    [model] = listed["data"]
    assert (model["type"], model["id"], model["display_name"]) == ("model", "chat", "chat")
    assert datetime.fromisoformat(model["created_at"]).tzinfo is not None
    assert (listed["has_more"], listed["first_id"], listed["last_id"]) == (False, "chat", "chat")
    assert (await gateway.client.get("/models/chat", headers=headers)).json() == model
    missing = await gateway.client.get("/models/other", headers=headers)
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    other = await gateway.client.get("/files", headers=headers)
    assert (other.status_code, other.json()["type"]) == (404, "error")


async def test_the_anthropic_client_lists_models(gateway: Any) -> None:
    import anthropic

    url = gateway.base_url.removesuffix("/v1")
    async with anthropic.AsyncAnthropic(base_url=url, api_key="test-key", _strict_response_validation=True) as client:
        models = await client.models.list()
        assert [m.display_name for m in models.data] == ["chat"]
        assert (await client.models.retrieve("chat")).id == "chat"
