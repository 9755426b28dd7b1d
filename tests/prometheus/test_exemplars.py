"""A real Prometheus takes the page as OpenMetrics, and keeps the exemplars of slow calls and of failures."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import pytest
import yaml
from prometheus_client import CollectorRegistry

from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.observability.worker_metrics import CONTENT_TYPE, OPENMETRICS_TYPE, exposition, wants_openmetrics
from tests.prometheus.conftest import Program, until

TRACE, CALL = 0x0AF7651916CD43DD8448EB211C80319C, "0190a5b2-0000-7000-8000-000000000001"


def registry_with_a_slow_and_a_failed_call() -> CollectorRegistry:
    registry, now = CollectorRegistry(), time.time()
    metrics = ProxyMetrics(registry)
    slow = metrics.counts.spread(metrics.duration, "chat", "openai", "u", "support", "")
    slow.observe_all([0.05, 9.0])
    slow.exemplars_by_bucket[10] = (9.0, now, TRACE, CALL)
    failed = metrics.counts.of(metrics.requests, "support", "u", "m", "timeout")
    failed.n, failed.exemplar = 1, (1.0, now, TRACE, CALL)
    metrics.counts.flush()
    return registry


@pytest.fixture
def page() -> Any:
    """An address that answers in the format that the scraper asks for."""
    registry = registry_with_a_slow_and_a_failed_call()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            openmetrics = wants_openmetrics(self.headers.get("accept", ""))
            text = exposition(registry, openmetrics=openmetrics)
            self.send_response(200)
            self.send_header("content-type", (OPENMETRICS_TYPE if openmetrics else CONTENT_TYPE).decode())
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
async def prometheus(page: str, servers: Any, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A Prometheus with storage for exemplars that scrapes the page."""
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")
    (port,) = servers.free_ports(1)
    jobs = [{"job_name": "gateway", "static_configs": [{"targets": [page]}]}]
    settings = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings))
    program = Program(tmp_path, "prometheus")
    await program.start(
        "prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage", "--log.level=warn",
    )  # fmt: skip
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=20) as client:
        yield client
    await program.stop()


async def labels_of_exemplars(client: httpx2.AsyncClient, query: str) -> list[dict[str, str]]:
    span = {"query": query, "start": time.time() - 3600, "end": time.time() + 3600}
    try:
        found = (await client.get("/query_exemplars", params=span)).json()
    except (httpx2.TransportError, ValueError):  # it is starting
        return []
    return [exemplar["labels"] for series in found["data"] for exemplar in series["exemplars"]]


async def test_prometheus_keeps_the_exemplars(prometheus: httpx2.AsyncClient) -> None:
    slow = 'gen_ai_server_request_duration_seconds_bucket{alias="support"}'
    failed = 'gateway_requests_total{outcome="timeout"}'

    async def there() -> bool:
        return bool(await labels_of_exemplars(prometheus, slow) and await labels_of_exemplars(prometheus, failed))

    await until(there, "no exemplar is stored")
    expected = {"trace_id": f"{TRACE:032x}", "call_id": CALL}
    assert await labels_of_exemplars(prometheus, slow) == [expected]
    assert await labels_of_exemplars(prometheus, failed) == [expected]
