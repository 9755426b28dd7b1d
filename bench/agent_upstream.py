"""An upstream that reads a whole request, however large, parses none of it, and gives a fixed answer.

    python bench/agent_upstream.py PORT plain        a chat completion of 1 KB
    python bench/agent_upstream.py PORT stream GAP   events with GAP seconds between them, as many as a stream has

`gateway fake` parses what it is sent, and stops all its streams while it does so.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable
from typing import cast

import systems
import uvloop
from load import HOST

_MODELS = json.dumps({"object": "list", "data": [{"id": systems.MODEL, "object": "model"}]}).encode()
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_BUFFER = 1 << 18


class Answering(asyncio.BufferedProtocol):
    """One connection, kept open."""

    def __init__(self, answer: Callable[[asyncio.Transport], None]) -> None:
        self._answer = answer
        self._buffer = memoryview(bytearray(_BUFFER))
        self._head = b""
        self._left = 0  # bytes of the body that have not arrived

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._left:
            self._left -= nbytes
        else:
            self._head += self._buffer[:nbytes]
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            length = _LENGTH.search(head)
            self._head, self._left = head, (int(length[1]) if length else 0) - len(rest)
        if not self._left:
            self._give()

    def _give(self) -> None:
        asked_for_models, self._head = self._head.startswith(b"GET"), b""
        if asked_for_models:
            self._transport.write(whole(_MODELS))
        else:
            self._answer(self._transport)


def whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def plain(transport: asyncio.Transport) -> None:
    transport.write(whole(systems.answer().encode()))


def streaming(gap_s: float) -> Callable[[asyncio.Transport], None]:
    loop, events = asyncio.get_running_loop(), list(_events())

    def write(transport: asyncio.Transport, n: int) -> None:
        if not transport.is_closing():
            transport.write(events[n])
            if n + 1 < len(events):
                loop.call_later(gap_s, write, transport, n + 1)

    return lambda transport: write(transport, 0)


def _events() -> list[bytes]:
    """First event, tokens, the end, usage, [DONE]: each a chunk; the head is in the first."""
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": systems.MODEL}

    def event(delta: dict[str, str], finish: str | None = None) -> bytes:
        data = base | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None}
        return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"

    tokens = [event({"content": f"t{n} "}) for n in range(systems.TOKENS)]
    counts = {"prompt_tokens": 100, "completion_tokens": systems.TOKENS, "total_tokens": 100 + systems.TOKENS}
    usage = b"data: " + json.dumps(base | {"choices": [], "usage": counts}, separators=(",", ":")).encode() + b"\n\n"
    events = [event({"role": "assistant", "content": ""}), *tokens, event({}, "stop"), usage, b"data: [DONE]\n\n"]
    chunks = [b"%x\r\n%b\r\n" % (len(data), data) for data in events]
    return [_STREAM_HEAD + chunks[0], *chunks[1:-1], chunks[-1] + b"0\r\n\r\n"]


async def _serve(port: int, kind: str, gap_s: float) -> None:
    answer = plain if kind == "plain" else streaming(gap_s)
    server = await asyncio.get_running_loop().create_server(lambda: Answering(answer), HOST, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 0.0))
