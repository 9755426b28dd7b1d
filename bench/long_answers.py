"""Long streams and large answers, without sockets: CPU time and memory of the gateway's own work, by kind of answer.

Streams have a number of events that each arrive alone; plain answers arrive in pieces as a socket gives them. What a
stream of ten times as many events costs for each, over what it cost before, shows work that grows with what has
already been sent.
"""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import hot
import systems

EVENTS = (1_000, 10_000)
ANSWERS = {"20 KB": 20_000, "200 KB": 200_000, "2 MB": 2_000_000}
_PIECE = 65_536  # of a plain answer, as a socket gives it
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%b\r\n\r\n"
_PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}


@dataclass(frozen=True, slots=True)
class AnswerKind:
    """client: the API of the client. upstream: the kind of the upstream, which decides what it speaks. tokens: what its
    events carry; "reasoning", "text" or "logprobs"."""

    client: str
    upstream: str
    tokens: str

    @property
    def speaks(self) -> str:
        """The API of the upstream."""
        return "messages" if self.upstream == "anthropic" else "responses" if self._native_responses else "chat"

    @property
    def _native_responses(self) -> bool:
        return self.client == "responses" and self.upstream == "openai"


STREAMS: Mapping[str, AnswerKind] = {
    "chat, text": AnswerKind("chat", "openai", "text"),
    "chat, reasoning": AnswerKind("chat", "openai", "reasoning"),
    "chat, logprobs": AnswerKind("chat", "openai", "logprobs"),
    "messages, thinking": AnswerKind("messages", "anthropic", "reasoning"),
    "chat from Anthropic's events": AnswerKind("chat", "anthropic", "reasoning"),
    "messages from chat events": AnswerKind("messages", "openai", "reasoning"),
    "responses": AnswerKind("responses", "openai", "text"),
    "responses from chat events": AnswerKind("responses", "mistral", "text"),
    "responses from Anthropic's events": AnswerKind("responses", "anthropic", "text"),
}
PLAIN: Mapping[str, AnswerKind] = {
    "chat": AnswerKind("chat", "openai", "text"),
    "chat, logprobs": AnswerKind("chat", "openai", "logprobs"),
    "chat from Anthropic's answer": AnswerKind("chat", "anthropic", "text"),
    "messages from a chat answer": AnswerKind("messages", "openai", "text"),
}


@dataclass(frozen=True, slots=True)
class AnswerCost:
    """cpu_us: of an event, or of a plain answer. peak_kb: allocated at most while the answer was in progress, above
    what was allocated before it."""

    cpu_us: float
    peak_kb: float


def stream_cost(kind: AnswerKind, n: int, rate: float = 0.0) -> AnswerCost:
    """The least of three streams. rate: of the calls that are recorded."""
    return _cost(kind, stream_of(kind, n), True, n, rate)


def plain_cost(kind: AnswerKind, size: int, rate: float = 0.0) -> AnswerCost:
    return _cost(kind, _plain(kind, size), False, 1, rate)


def _cost(kind: AnswerKind, pieces: list[bytes], stream: bool, n: int, rate: float) -> AnswerCost:
    async def drive(driven: hot.Hot) -> AnswerCost:
        request = request_of(kind, stream=stream)
        await driven.answer(request, pieces)
        spent = []
        for _ in range(3):
            began = time.process_time()
            await driven.answer(request, pieces)
            spent.append(time.process_time() - began)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            await driven.answer(request, pieces)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        return AnswerCost(min(spent) / n * 1e6, (peak - before) / 1e3)

    found: AnswerCost = asyncio.run(hot.driven(rate, drive, kind=kind.upstream))
    return found


def held_bytes(kind: AnswerKind, *events: int) -> list[int]:
    """Bytes that are allocated after the given number of events of a stream that continues, above those before it. No
    call is recorded.
    """
    request = request_of(kind, stream=True)

    async def drive(driven: hot.Hot) -> list[int]:
        await driven.answer(request, stream_of(kind, events[0]))
        return [await _held(driven, request, stream_of(kind, n)) for n in events]

    found: list[int] = asyncio.run(hot.driven(0.0, drive, kind=kind.upstream))
    return found


async def _held(driven: hot.Hot, request: bytes, pieces: list[bytes]) -> int:
    tracemalloc.start()
    try:
        await driven.begin(request)
        await driven.feed(pieces[:-4])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    await driven.feed(pieces[-4:])
    await driven.ended()
    return held


def request_of(kind: AnswerKind, *, stream: bool) -> bytes:
    said: dict[str, Any] = {"input": "hi"} if kind.client == "responses" else {
        "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4096
    }  # fmt: skip
    body = json.dumps({"model": systems.MODEL, **said, "stream": stream}).encode()
    head = f"POST {_PATHS[kind.client]} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {systems.KEY}\r\n"
    return head.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def stream_of(kind: AnswerKind, n: int) -> list[bytes]:
    events = {"chat": _chat_events, "messages": _message_events, "responses": _response_events}[kind.speaks](kind, n)
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    head = _HEAD % (b"text/event-stream", b"Transfer-Encoding: chunked")
    return [head + chunks[0], *chunks[1:-1], chunks[-1] + b"0\r\n\r\n"]


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _chat_events(kind: AnswerKind, n: int) -> list[bytes]:
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    name = "reasoning_content" if kind.tokens == "reasoning" else "content"

    def event(delta: Any, finish: str | None = None, at: int = 0) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        if kind.tokens == "logprobs" and delta:
            choice["logprobs"] = {"content": [_logprob(at)]}
        return b"data: " + _json({**base, "choices": [choice]}) + b"\n\n"

    usage = {"prompt_tokens": 2, "completion_tokens": n, "total_tokens": n + 2}
    return [
        *[event({name: f"t{at} "}, at=at) for at in range(n)], event({}, "stop"),
        b"data: " + _json({**base, "choices": [], "usage": usage}) + b"\n\n", b"data: [DONE]\n\n",
    ]  # fmt: skip


def _logprob(at: int) -> dict[str, Any]:
    def one(token: str) -> dict[str, Any]:
        return {"token": token, "logprob": -0.25, "bytes": list(token.encode())}

    return one(f"t{at} ") | {"top_logprobs": [one(f"t{at}{other}") for other in "abcde"]}


def _message_events(kind: AnswerKind, n: int) -> list[bytes]:
    name = "thinking" if kind.tokens == "reasoning" else "text"

    def event(what: str, **members: Any) -> bytes:
        return f"event: {what}\ndata: ".encode() + _json({"type": what, **members}) + b"\n\n"

    usage = {"input_tokens": 2, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    delta = {"type": f"{name}_delta"}
    return [
        event("message_start", message=message | {"stop_reason": None, "stop_sequence": None}),
        event("content_block_start", index=0, content_block={"type": name, name: ""}),
        *[event("content_block_delta", index=0, delta={**delta, name: f"t{at} "}) for at in range(n)],
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": n}), event("message_stop"),
    ]  # fmt: skip


def _response_events(kind: AnswerKind, n: int) -> list[bytes]:
    def event(what: str, at: int, **members: Any) -> bytes:
        return f"event: {what}\ndata: ".encode() + _json({"type": what, "sequence_number": at, **members}) + b"\n\n"

    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    response: dict[str, Any] = {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}
    usage = {"input_tokens": 2, "output_tokens": n, "total_tokens": n + 2}
    said = {"type": "output_text", "text": "".join(f"t{at} " for at in range(n)), "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [said]}
    return [
        event("response.created", 0, response=response),
        *[event("response.output_text.delta", at + 1, **place, delta=f"t{at} ") for at in range(n)],
        event("response.completed", n + 1,
              response=response | {"status": "completed", "output": [item], "usage": usage}),
    ]  # fmt: skip


def _plain(kind: AnswerKind, size: int) -> list[bytes]:
    text, probs = 'He said: "it depends".\n' * 40, kind.tokens == "logprobs"
    one = len(_json([_logprob(1000)] * 10 if probs else text))
    repeated = max(1, size // one)
    if kind.speaks == "messages":
        usage = {"input_tokens": 2, "output_tokens": 9}
        body = _json({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
                      "content": [{"type": "text", "text": text * repeated}], "usage": usage})  # fmt: skip
    else:
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        choice["message"] = {"role": "assistant", "content": "yes" if probs else text * repeated}
        if probs:
            choice["logprobs"] = {"content": [_logprob(at) for at in range(10 * repeated)]}
        usage = {"prompt_tokens": 2, "completion_tokens": 9, "total_tokens": 11}
        body = _json({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
                      "choices": [choice], "usage": usage})  # fmt: skip
    whole = _HEAD % (b"application/json", b"Content-Length: %d" % len(body)) + body
    return [whole[at : at + _PIECE] for at in range(0, len(whole), _PIECE)]
