"""A mock of OpenAI's API for its own libraries' tests, and the pytest plugin that tells it what to answer.

OpenAI's OpenAPI document is in no package, so the answers come from the types of the Python library itself: the plugin
looks at the type that a test expects, makes the smallest value of it, and hands that to the mock next to the request,
which stays as the test made it. The mock remembers every request, so that two runs can be compared.

    python tests/real/openai_mock.py PORT        serves
    pytest -p openai_mock …                      with OPENAI_MOCK=http://127.0.0.1:PORT
"""

from __future__ import annotations

import json
import os
import sys
import typing
import urllib.request
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_DEEPEST = 12
_PLAIN = {str: "string", int: 0, float: 0.0, bool: True, object: {}, Any: {}, NoneType: None, bytes: "string"}


def example(wanted: Any, depth: int = 0) -> Any:
    """The smallest JSON value of a type: required members only, the first of alternatives, one item in a list."""
    if depth > _DEEPEST:
        return None
    if wanted in _PLAIN:
        return _PLAIN[wanted]
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        return example(inner[0], depth)
    if origin is Literal:
        return inner[0]
    if origin in (Union, UnionType):
        return example(next(each for each in inner if each is not NoneType), depth + 1)
    if origin in (list, typing.Iterable) or wanted is list:
        return [example(inner[0], depth + 1)] if inner else []
    if origin is dict or wanted is dict:
        return {"key": example(inner[1], depth + 1)} if inner else {}
    if hasattr(wanted, "__value__"):  # a name for a type
        return example(wanted.__value__, depth)
    fields = getattr(wanted, "model_fields", None)
    if fields is not None:
        needed = {name: f for name, f in fields.items() if f.is_required() or name == "data"}
        return {f.alias or name: example(f.annotation, depth + 1) for name, f in needed.items()}
    if typing.is_typeddict(wanted):
        hints = typing.get_type_hints(wanted)
        return {name: example(hints[name], depth + 1) for name in wanted.__required_keys__}
    return {}


def answer_to(cast_to: Any) -> tuple[str, str]:
    """Content type and body."""
    if cast_to is NoneType or "Binary" in getattr(cast_to, "__name__", ""):
        return "application/octet-stream", "bytes"
    if cast_to is str:
        return "text/plain", "text"
    return "application/json", json.dumps(example(cast_to))


def tell(cast_to: Any) -> None:
    """Hands the mock the answer to the next request."""
    kind, body = answer_to(cast_to)
    data = json.dumps({"type": kind, "body": body}).encode()
    request = urllib.request.Request(os.environ["OPENAI_MOCK"] + "/__next", data, method="POST")
    urllib.request.urlopen(request, timeout=10).close()


def pytest_configure(config: Any) -> None:
    """The plugin: each request of OpenAI's client first tells the mock what to answer."""
    from openai import _base_client

    plain, waiting = _base_client.SyncAPIClient.request, _base_client.AsyncAPIClient.request

    def request(self: Any, cast_to: Any, options: Any, **more: Any) -> Any:
        tell(cast_to)
        return plain(self, cast_to, options, **more)

    async def request_async(self: Any, cast_to: Any, options: Any, **more: Any) -> Any:
        tell(cast_to)
        return await waiting(self, cast_to, options, **more)

    _base_client.SyncAPIClient.request = request  # type: ignore[method-assign,assignment]
    _base_client.AsyncAPIClient.request = request_async  # type: ignore[method-assign,assignment]


class Mock(BaseHTTPRequestHandler):
    """Answers each request as it was told, and lists them at /__seen, which also begins a new list."""

    protocol_version = "HTTP/1.1"
    told: typing.ClassVar[deque[dict[str, str]]] = deque(maxlen=1)
    seen: typing.ClassVar[list[list[str]]] = []

    def _any(self) -> None:
        body = self._body()
        if self.path == "/__next":
            self.told.append(json.loads(body))
            self._send("text/plain", b"")
        elif self.path == "/__seen":
            listed, self.seen[:] = json.dumps(self.seen).encode(), []
            self._send("application/json", listed)
        else:
            kind = self.headers.get("content-type", "").partition(";")[0]
            self.seen.append([self.command, self.path.removeprefix("/v1"), kind, _canonical(kind, body)])
            told = self.told[-1] if self.told else {"type": "application/json", "body": "{}"}
            self._send(told["type"], told["body"].encode())

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _any

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            pieces = b""
            while size := int(self.rfile.readline(), 16):
                pieces += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return pieces
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def _canonical(kind: str, body: bytes) -> str:
    """The part of a body that two runs have in common: forms have another boundary each time."""
    if kind != "application/json":
        return ""
    return json.dumps(json.loads(body or b"null"), sort_keys=True)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Mock).serve_forever()
