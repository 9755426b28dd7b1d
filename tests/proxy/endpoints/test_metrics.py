"""GET /metrics: who may read the metrics and the details of readiness, on each listener."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from typing import Any

import httpx2
import pytest
import yaml
from fixtures.metric_samples import sample_sum_of_page

from gateway.config.environment import WorkerEnvironment
from gateway.fake import FakeUpstream
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
            transport = httpx2.ASGITransport(app=app.pages)
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
    """A port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


async def test_metrics_are_compressed_on_request(gateway: Any) -> None:
    assert (await gateway.chat()).status_code == 200
    url = gateway.base_url.removesuffix("/v1") + "/metrics"
    plain = await gateway.client.get(url, headers={"accept-encoding": "identity"})
    packed = await gateway.client.get(url, headers={"accept-encoding": "gzip"})
    assert ("content-encoding" in plain.headers, packed.headers["content-encoding"]) == (False, "gzip")
    of_call = {"alias": "chat", "outcome": "ok", "upstream": "u0"}
    assert sample_sum_of_page(packed.text, "gateway_requests_total", **of_call) == 1
    assert "_created" not in plain.text
    happened = [line for line in plain.text.splitlines() if line.startswith("gateway_requests_total{")]
    assert len(happened) == 1, "outcomes that did not happen have no series"
