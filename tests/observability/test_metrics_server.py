"""The metrics page of the consumer, on real sockets: what connections without a request may take, and for how long."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import httpx2
import pytest
from prometheus_client import CollectorRegistry, Counter

from gateway.core.errors import CannotRun
from gateway.observability.metrics_server import MetricsServer, inherited_metrics_server, metrics_server


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry with one counter at 3."""
    found = CollectorRegistry()
    Counter("seen", "", registry=found).inc(3)
    return found


def scraped(port: int) -> str:
    return httpx2.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text


@contextmanager
def serving(registry: CollectorRegistry, deadline_s: float) -> Iterator[int]:
    server = MetricsServer(socket.create_server(("127.0.0.1", 0)), registry, deadline_s)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_it_answers_a_scrape(registry: CollectorRegistry) -> None:
    with metrics_server(registry, "127.0.0.1", 0) as port:
        assert "seen_total 3.0" in scraped(port)
        with pytest.raises(CannotRun, match="cannot be bound"), metrics_server(registry, "127.0.0.1", port):
            pass


def test_it_answers_on_a_socket_of_its_parent(registry: CollectorRegistry) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with inherited_metrics_server(registry, listener.detach()) as port:
        assert "seen_total 3.0" in scraped(port)


def test_idle_connections_take_few_threads_and_no_scrape(registry: CollectorRegistry) -> None:
    """900 silent connections were 900 threads."""
    with metrics_server(registry, "127.0.0.1", 0) as port, ExitStack() as stack:
        before = threading.active_count()
        for _ in range(200):
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", port))))
        assert "seen_total 3.0" in scraped(port)
        assert threading.active_count() - before <= 40


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nx: y\r\n"])
def test_a_connection_ends_at_its_deadline(registry: CollectorRegistry, sent: bytes) -> None:
    with serving(registry, 0.1) as port, closing(socket.create_connection(("127.0.0.1", port), 60)) as client:
        client.sendall(sent)
        while client.recv(65_536):
            pass


def send_headers(client: socket.socket, n: int) -> None:
    client.sendall(b"GET /metrics HTTP/1.1\r\n")
    for _ in range(n):
        client.sendall(b"x: " + b"y" * 50_000 + b"\r\n")


def test_a_head_without_end_is_cut(registry: CollectorRegistry) -> None:
    with metrics_server(registry, "127.0.0.1", 0) as port:
        client = socket.create_connection(("127.0.0.1", port), 60)
        with closing(client), pytest.raises(ConnectionError):
            send_headers(client, 10_000)
