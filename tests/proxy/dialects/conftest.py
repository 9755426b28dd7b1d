"""Calls and upstreams as dialects get them, the recorded streams, and a feeder that splits bytes at any size."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest

from gateway.config.upstreams import Upstream
from gateway.core.sse import events
from gateway.proxy.dialects.types import Reader
from gateway.proxy.request.call import Call, Caller

PATHS = {
    "chat": b"/chat/completions",
    "completions": b"/completions",
    "responses": b"/responses",
    "messages": b"/messages",
    "count_tokens": b"/messages/count_tokens",
    "embeddings": b"/embeddings",
    "speech": b"/audio/speech",
    "rerank": b"/rerank",
    "generate_content": b"beta/models/alias:streamGenerateContent?alt=sse",
    "gemini_count_tokens": b"beta/models/alias:countTokens",
    "converse": b"/model/alias/converse",
    "invoke_model": b"/model/alias/invoke",
    "bedrock_count_tokens": b"/model/alias/count-tokens",
}


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


TABLES = {
    "recorded": _load("recorded").RECORDED,
    "sse": _load("recorded_anthropic").ANTHROPIC_STREAMS,
    "chat_sse": _load("recorded_chat").CHAT_STREAMS,
    "converse": _load("recorded_cloud").CONVERSE,
    "gemini": _load("recorded_cloud").GEMINI,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`recorded`, `sse` (of Anthropic), `chat_sse`, `converse` and `gemini`: each stream of that table in turn."""
    for name, table in TABLES.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, table, ids=lambda row: row.name)


@pytest.fixture(scope="session")
def make_call() -> Callable[..., Call]:
    """Makes a call with these members in its body; `body=` gives the bytes, `path=` the endpoint."""

    def make(api: Any = "chat", body: bytes | None = None, path: bytes | None = None, **members: Any) -> Call:
        fields = {"model": "alias", **members}
        return Call(
            id="0199-id",
            received=1764000000.5,
            started=0.0,
            caller=Caller("web"),
            api=api,
            method=b"POST",
            path=path or PATHS[api],
            alias=fields["model"],
            stream=fields.get("stream") is True,
            body=orjson.dumps(fields) if body is None else body,
            fields=fields,
            headers=[(b"content-type", b"application/json"), (b"user-agent", b"test")],
        )

    return make


@pytest.fixture(scope="session")
def data_of() -> Callable[[bytes], list[dict[str, Any]]]:
    """Parses the JSON objects of a stream's events."""

    def read(stream: bytes) -> list[dict[str, Any]]:
        return [orjson.loads(event.data) for event in events(stream) if event.data.startswith(b"{")]

    return read


@pytest.fixture(scope="session")
def make_upstream() -> Callable[..., Upstream]:
    """Makes the config of an upstream of a kind, with an API key."""

    def make(kind: str = "openai", **members: Any) -> Upstream:
        return Upstream(kind=kind, **{"api_key": "sk-up", **members})

    return make


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.fixture(scope="session")
def read() -> Callable[[Reader, bytes, int], bytes]:
    """Feeds a reader the stream in pieces of a given size, as the relay does, and returns what the client gets."""

    def reading(reader: Reader, stream: bytes, size: int) -> bytes:
        out = []
        for piece in pieces(stream, size):
            out.append(reader.feed(piece))
            if reader.complete:
                break
        return b"".join((*out, reader.end()))

    return reading
