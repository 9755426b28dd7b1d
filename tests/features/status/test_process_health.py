"""Processes name their own reasons at /health, whatever else listens at the usual ports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from gateway.features.status.process_health import health_problems

Serve = Callable[[bytes], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a page at every path; returns its URL."""
    servers = []

    def start(body: bytes) -> str:
        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Page)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


async def test_a_reason_of_several_processes_is_one_line(serve: Serve) -> None:
    urls = [serve(b'{"reasons": ["a", "b"]}'), serve(b'{"reasons": ["a"]}'), serve(b'{"reasons": []}')]
    one, two, _ = (url.removeprefix("http://") for url in urls)
    assert await health_problems(urls) == [f"a (at {one}, {two})", f"b (at {one})"]


@pytest.mark.parametrize("body", [b"not JSON", b"[]", b"{}", b'{"reasons": 1}'])
async def test_another_program_at_the_port_gives_no_reason(serve: Serve, body: bytes) -> None:
    url = serve(body)
    assert await health_problems([url]) == [f"/health does not answer (at {url.removeprefix('http://')})"]
