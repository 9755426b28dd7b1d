"""The metrics page of a program without a server of its own: answered by threads, within bounds.

A thread answers, because the program's event loop may be busy with a batch for seconds.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BufferedIOBase
from socketserver import ThreadingMixIn
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import orjson
from prometheus_client import CollectorRegistry, make_wsgi_app

from gateway.core.errors import CannotRun

_MOST = 32  # connections, each with a thread
_DEADLINE_S = 10.0  # from a connection to its end
_HEAD_BYTES = 65_536
_LOOK_S = 0.5  # between two looks for connections past it
Health = Callable[[], Mapping[str, Any]]
"""Answer of /health; called on a thread."""


class MetricsServer(ThreadingMixIn, WSGIServer):
    """A threaded server with bounds: a connection carries one request and ends at a deadline. Above the maximum, a new
    one replaces the oldest: a scrape takes milliseconds, so the oldest is one that waits."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        listener: socket.socket,
        registry: CollectorRegistry,
        deadline_s: float = _DEADLINE_S,
        health: Health | None = None,
    ) -> None:
        """listener: bound, and from now on this server's. health: None: every path has the metrics."""
        address = listener.getsockname()
        super().__init__(address, _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = str(address[0]), address[1]
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._open: dict[Any, float] = {}
        """Connections, oldest first, with their deadlines on the monotonic clock."""
        self.setup_environ()
        self.set_app(_with_health(make_wsgi_app(registry), health))
        self.server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._open) >= _MOST:
                self._end(next(iter(self._open)))
            self._open[request] = time.monotonic() + self._deadline_s
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        now = time.monotonic()
        with self._lock:
            for request in [each for each, until in self._open.items() if until < now]:
                self._end(request)

    def _end(self, request: Any) -> None:
        """Ends a connection whose thread still reads or writes; that thread closes it then."""
        del self._open[request]
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left, or was ended, is nothing to report."""


def _with_health(metrics: Any, health: Health | None) -> Any:
    """An application that answers /health with HTTP 200, whatever its content: a paused program must not be
    restarted."""
    if health is None:
        return metrics

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/health":
            return cast(Iterable[bytes], metrics(environ, start_response))
        start_response("200 OK", [("content-type", "application/json")])
        return [orjson.dumps(health())]

    return answer


class _RequestHead:
    """The beginning of what a client sends, as far as a scrape needs it."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self._left = _HEAD_BYTES

    def readline(self, limit: int = -1) -> bytes:
        line = self._file.readline(self._left if limit < 0 else min(limit, self._left))
        self._left -= len(line)
        return line

    def close(self) -> None:
        self._file.close()


class _Handler(WSGIRequestHandler):
    def setup(self) -> None:
        super().setup()
        self.rfile = cast(Any, _RequestHead(self.rfile))

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def metrics_server(registry: CollectorRegistry, host: str, port: int, health: Health | None = None) -> Iterator[int]:
    """Serves the registry's metrics, and gives the port. Raises CannotRun where the port cannot be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise CannotRun(
            f"metrics: {host}:{port} cannot be bound: {error.strerror}; give another --metrics-port"
        ) from error
    with _served(MetricsServer(listener, registry, health=health)):
        yield listener.getsockname()[1]


@contextlib.contextmanager
def inherited_metrics_server(registry: CollectorRegistry, fd: int, health: Health | None = None) -> Iterator[int]:
    """Serves on a socket that the parent process has bound."""
    listener = socket.socket(fileno=fd)
    port = listener.getsockname()[1]
    with _served(MetricsServer(listener, registry, health=health)):
        yield port


@contextlib.contextmanager
def _served(server: MetricsServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(_LOOK_S,), name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
