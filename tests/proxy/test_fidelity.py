"""The response equals the upstream's bytes, however they arrive: over real sockets."""

from __future__ import annotations

import re
import runpy
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.fake import Delay, FakeUpstream

CORPUS = runpy.run_path(str(Path(__file__).parent / "corpus" / "answers.py"))
PLAIN: list[tuple[str, str, bytes]] = CORPUS["PLAIN"]
STREAMS: list[tuple[str, str, bytes]] = CORPUS["STREAMS"]
LONG = 20_000  # a body above this is not sent byte by byte: it says nothing more, and takes a second

BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")
USAGE_CHUNK = re.compile(rb'"choices": ?\[\].*"usage": ?\{')

REQUESTS: dict[str, dict[str, Any]] = {
    "/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
    "/completions": {"prompt": "x"},
    "/embeddings": {"input": "x"},
    "/responses": {"input": "x"},
    "/messages": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 9},
    "/moderations": {"input": "x"},
    "/rerank": {"query": "x", "documents": ["y"]},
    "/images/generations": {"prompt": "x"},
}


def of_size(size: int) -> Callable[[bytes], list[bytes]]:
    def cut(body: bytes) -> list[bytes]:
        step = size if len(body) < LONG else 997
        return [body[at : at + step] for at in range(0, len(body), step)]

    return cut


def at_line_ends(body: bytes) -> list[bytes]:
    return body.splitlines(keepends=True)


def before_line_ends(body: bytes) -> list[bytes]:
    """Every line break starts the next piece, so events end in unexpected places."""
    first, *rest = body.split(b"\n")
    return [piece for piece in [first, *(b"\n" + r for r in rest)] if piece]


CUTS = {
    "whole": lambda body: [body],
    "at each line end": at_line_ends,
    "before each line end": before_line_ends,
    "7 bytes": of_size(7),
    "1 byte": of_size(1),
}
EACH_CUT = pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)


@pytest.fixture
async def gateway(start: Any, configured: Any, upstream: FakeUpstream) -> Any:
    """One upstream behind two names: as one that speaks OpenAI, and as one that speaks Anthropic."""
    config = configured(upstream, sampling={"rate": 0})
    config["upstreams"]["claude"] = {"kind": "anthropic", "base_url": upstream.base_url}
    config["models"]["claude"] = {"targets": [{"upstream": "claude", "model": "claude-x"}]}
    gateway = await start(config)
    for listening in gateway.server.servers[0].sockets:
        # As under uvloop: without it Nagle's algorithm keeps the end of each short stream back for 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return gateway


def request_of(path: str, **fields: Any) -> dict[str, Any]:
    return {"model": "claude" if path == "/messages" else "chat", **REQUESTS[path], **fields}


async def ask(gateway: Any, path: str, **fields: Any) -> Any:
    return await gateway.client.post(path, json=request_of(path, **fields))


def paced(pieces: list[bytes]) -> list[Any]:
    """Adds a pause now and then, so that the kernel does not put all of them together again."""
    out: list[Any] = []
    for n, piece in enumerate(pieces):
        out += [piece, Delay(0.001)] if n % 64 == 63 else [piece]
    return out


def events_of(body: bytes) -> list[bytes]:
    return [event for event in BLANK_LINE.split(body) if event.strip()]


def test_the_corpus_is_large_enough() -> None:
    assert len(PLAIN) + len(STREAMS) >= 60
    for names in ([n for n, _, _ in PLAIN], [n for n, _, _ in STREAMS]):
        assert len(names) == len(set(names))


def unsealed(body: bytes) -> bytes:
    """The body with the upstream's ids: the gateway adds its seal to those of responses, and changes nothing else."""
    return re.sub(rb'(?<=")(resp[^"]*)\.[\w-]{22}(?=")', rb"\1", body)


@EACH_CUT
async def test_a_plain_answer_passes_byte_for_byte(gateway: Any, upstream: FakeUpstream, cut: Any) -> None:
    for name, path, body in PLAIN:
        upstream.streams(paced(cut(body)), content_type="application/json; charset=utf-8")
        reply = await ask(gateway, path)
        assert reply.status_code == 200, (name, reply.text)
        assert unsealed(reply.content) == body, name
        assert (reply.content == body) == (path != "/responses"), name
        assert reply.headers["content-type"] == "application/json; charset=utf-8"
        assert reply.headers["content-length"] == str(len(reply.content))


@EACH_CUT
async def test_a_stream_passes_byte_for_byte(gateway: Any, upstream: FakeUpstream, cut: Any) -> None:
    """The client asked for usage itself, so nothing is ours to take out."""
    for name, path, body in STREAMS:
        asked = {"stream_options": {"include_usage": True}} if "completions" in path else {}
        more = {"n": 2} if "choices" in name else {}
        upstream.streams(paced(cut(body)), content_type="text/event-stream; charset=utf-8")
        reply = await ask(gateway, path, stream=True, **asked, **more)
        assert reply.status_code == 200, (name, reply.text)
        assert unsealed(reply.content) == body, name
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reply.headers["x-accel-buffering"] == "no"
        assert "content-length" not in reply.headers


@pytest.mark.parametrize(
    "cut", [CUTS["whole"], CUTS["7 bytes"], CUTS["before each line end"]], ids=["whole", "7", "lines"]
)
async def test_without_usage_asked_only_the_usage_chunk_is_missing(
    gateway: Any, upstream: FakeUpstream, cut: Any
) -> None:
    """The chunk that the gateway asked for itself is taken out; every other byte stays."""
    for name, path, body in STREAMS:
        if "completions" not in path:
            continue
        upstream.streams(paced(cut(body)))
        reply = await ask(gateway, path, stream=True, **({"n": 2} if "choices" in name else {}))
        kept = [e for e in events_of(body) if not USAGE_CHUNK.search(e)]
        assert events_of(reply.content) == kept, name


@pytest.mark.parametrize("status", [400, 404, 409, 422])
async def test_a_refusal_passes_byte_for_byte(gateway: Any, upstream: FakeUpstream, status: int) -> None:
    """vLLM's code is a number, others send a list or plain text: it passes unchanged."""
    bodies = [
        b'{"object":"error","message":"bad","type":"BadRequestError","param":null,"code":400}',
        b'{\n  "error": {"message": "no", "type": "invalid_request_error", "param": null, "code": null}\n}',
        b'[{"error":{"code":400,"message":"from Gemini","status":"INVALID_ARGUMENT"}}]',
        b'{"detail":[{"loc":["body","x"],"msg":"field required"}]}',
        b"upstream says no\n",
        b"",
    ]
    for body in bodies:
        for path in ("/chat/completions", "/embeddings"):
            for stream in (False, True):
                upstream.answers(
                    status, body, headers=[("openai-version", "2020-10-01"), ("x-ratelimit-reset-requests", "6m0s")]
                )
                reply = await ask(gateway, path, **({"stream": True} if stream else {}))
                assert (reply.status_code, reply.content) == (status, body)
                assert reply.headers["openai-version"] == "2020-10-01"
                assert reply.headers["x-ratelimit-reset-requests"] == "6m0s"
                assert reply.headers["content-type"] == "application/json"
                assert "x-should-retry" not in reply.headers


async def test_a_request_passes_byte_for_byte_but_for_the_model(gateway: Any, upstream: FakeUpstream) -> None:
    """Spacing, escapes, order and numbers are the client's own."""
    bodies = [
        b'{ "messages" : [ {"role":"user","content":"\\u00e9 \xc3\xa9 \\ud83d\\ude42 \\/"} ] ,\r\n\t"model" : "chat" }',
        b'{"temperature":0.70,"seed":12345678901234567890,"x":1e-05,"model":"chat","messages":[{"role":"user","content":"a"}]}',
        b'{"model":"chat","messages":[{"role":"user","content":"\\"model\\":\\"chat\\""}],"metadata":{"model":"chat"}}',
        b'\n{"model":"chat","messages":[{"role":"user","content":"x"}],"x":1,"X":2,"chat_template_kwargs":{"a":null}}\n',
    ]
    for body in bodies:
        reply = await gateway.client.post("/chat/completions", content=body)
        assert reply.status_code == 200, reply.text
        at = body.replace(b'"model" : "chat"', b'"model" : "model-u0"')
        expected = at if at != body else _outer(body)
        assert upstream.calls[-1].body == expected


def _outer(body: bytes) -> bytes:
    """The body with the one `"model":"chat"` at its top level replaced."""
    for head in (b'{"model":"chat"', b'1e-05,"model":"chat"'):
        if head in body:
            return body.replace(head, head.replace(b"chat", b"model-u0"), 1)
    raise AssertionError(body)
