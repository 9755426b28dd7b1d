"""The access log: one line for each call, written off the hot path. It never holds a key, a header or any content.

A call only leaves a few numbers and names here. A thread formats and writes them, a few at a time, so that the event
loop never waits long for the interpreter. A reader of stderr that does not keep up delays nothing: above `max_waiting`
lines further ones are dropped, and their number is logged.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import orjson

from gateway.core.exchange import Outcome, Usage
from gateway.observability.logging import timestamp
from gateway.observability.tracing import SpanIds
from gateway.proxy.relay.state import CallContext
from gateway.proxy.request.call import Call
from gateway.proxy.request.endpoints import Endpoint

MAX_WAITING = 20_000
AT_ONCE = 50  # lines that the thread formats without a pause: it holds the interpreter for 0.1 ms
_PAUSE_S = 0.001  # between them; so 40 000 lines a second can be written
_ATOMIC_BYTES = 4096  # a pipe takes them in one piece, so that the lines of several workers do not mix


class AccessLine(NamedTuple):
    """One call."""

    at: float
    """Unix seconds."""
    id: str
    key: str
    """The caller's name; "": it is unknown."""
    api: str
    alias: str
    """With upstream and model: "" if no target was attempted, so that no name is logged that a client has invented."""
    upstream: str
    model: str
    stream: bool
    status: int
    outcome: Outcome
    error: str
    """The code of the gateway's own error, else the last attempt's failure."""
    attempts: int
    usage: Usage | None
    first_token_s: float | None
    """None: not a stream, or no token came."""
    total_s: float
    overhead_s: float
    trace: str
    """The trace id in hex; "": the call is not traced."""


def access_line(
    endpoint: Endpoint, call: Call | None, context: CallContext, started: float, ids: SpanIds | None = None
) -> AccessLine:
    """started: monotonic seconds. call: None: the request could not be read, or its key is unknown."""
    target_state, first, now = context.target_state, context.first_content, time.monotonic()
    attempts = context.attempts
    return AccessLine(
        time.time() - (now - started) if call is None else call.received,
        "" if call is None else call.id,
        "" if call is None else call.caller.name,
        endpoint.api,
        "" if call is None or target_state is None else call.alias,
        "" if target_state is None else target_state.target.upstream,
        "" if target_state is None else target_state.target.model,
        call is not None and call.stream,
        context.status,
        context.outcome,
        context.error_code or (attempts[-1].failure or "" if attempts else ""),
        len(attempts),
        context.usage,
        None if first is None or call is None or not call.stream else first - started,
        now - started,
        context.overhead_s,
        "" if ids is None else f"{ids.trace:032x}",
    )


class AccessLog:
    """The access log of one process."""

    def __init__(
        self,
        json: bool,
        write: Callable[[bytes], object] | None = None,
        pause: Callable[[float], object] = time.sleep,
        every_s: float = 0.5,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """json: JSON lines; otherwise text. write, pause: called on a thread. every_s: between two writes."""
        self._format = as_json if json else as_words
        self._every_s = every_s
        self._max_waiting = max_waiting
        self._write = write or _to_stderr
        self._pause = pause
        self._writing = threading.Lock()  # keeps the lines in order, whichever thread flushes
        self._waiting: deque[AccessLine] = deque()
        self._dropped = 0
        self._dropped_logged = 0

    def note(self, line: AccessLine) -> None:
        if len(self._waiting) < self._max_waiting:
            self._waiting.append(line)
        else:
            self._dropped += 1

    async def run(self) -> None:
        """Runs until cancelled; flush() then writes the rest."""
        while True:
            await asyncio.sleep(self._every_s)
            if self._waiting:
                await asyncio.to_thread(self._flush, self._pause)

    def flush(self) -> None:
        """Writes all waiting lines without a pause, including those that run() was about to write."""
        self._flush(lambda seconds: None)

    def _flush(self, pause: Callable[[float], object]) -> None:
        """Writes the lines that wait now, but not those that arrive meanwhile."""
        for left in range(len(self._waiting), 0, -AT_ONCE):
            with self._writing:
                self._write_some(min(left, AT_ONCE))
            pause(_PAUSE_S)
        dropped = self._dropped - self._dropped_logged
        if dropped:
            self._dropped_logged += dropped
            self._write(b'{"access_lines_left_out":%d}\n' % dropped)

    def _write_some(self, most: int) -> None:
        lines = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        for piece in pieces([self._format(line) for line in lines]):
            self._write(piece)


def pieces(lines: list[bytes]) -> list[bytes]:
    """The lines joined into pieces that a pipe takes at once; no line is split."""
    found: list[bytes] = []
    held: list[bytes] = []
    size = 0
    for line in lines:
        if size + len(line) > _ATOMIC_BYTES and held:
            found.append(b"".join(held))
            held, size = [], 0
        held.append(line)
        size += len(line)
    return [*found, b"".join(held)] if held else found


def as_json(line: AccessLine) -> bytes:
    """Assembled from encoded pieces, so that values which most lines share are encoded once."""
    usage = line.usage
    return (
        b'{"time":"%b","level":"INFO","logger":"gateway.access","id":%b,%b"stream":%b,"status":%d,"outcome":"%b","error":%b,'
        b'"attempts":%d,"input_tokens":%b,"output_tokens":%b,"first_token_s":%b,"total_s":%.6f,"overhead_s":%.6f%b}\n'
    ) % (
        _time(int(line.at * 1000)), orjson.dumps(line.id),
        _named(line.key, line.api, line.alias, line.upstream, line.model),
        b"true" if line.stream else b"false", line.status, line.outcome.encode(), _text(line.error), line.attempts,
        b"%d" % usage.input_tokens if usage else b"null", b"%d" % usage.output_tokens if usage else b"null",
        b"null" if line.first_token_s is None else b"%.6f" % line.first_token_s, line.total_s, line.overhead_s,
        b',"trace_id":"%b"' % line.trace.encode() if line.trace else b"",
    )  # fmt: skip


@lru_cache(maxsize=64)
def _second(at: int) -> bytes:
    return timestamp(at)[:19].encode()


def _time(at_ms: int) -> bytes:
    return b"%b.%03dZ" % (_second(at_ms // 1000), at_ms % 1000)


@lru_cache(maxsize=4096)
def _named(key: str, api: str, alias: str, upstream: str, model: str) -> bytes:
    named = {
        "key": key or None,
        "api": api,
        "alias": alias or None,
        "upstream": upstream or None,
        "model": model or None,
    }
    return orjson.dumps(named)[1:-1] + b","


@lru_cache(maxsize=256)
def _text(text: str) -> bytes:
    return orjson.dumps(text or None)


def as_words(line: AccessLine) -> bytes:
    """200 chat → local/smollm2 0.51 s, first 0.08 s, 12 + 34 tokens."""
    parts = [timestamp(line.at)[11:23], str(line.status), line.alias or line.api]
    parts += [f"→ {line.upstream}/{line.model}"] if line.upstream else []
    timed = [f"{line.total_s:.2f} s"]
    timed += [f"first {line.first_token_s:.2f} s"] if line.first_token_s is not None else []
    timed += [f"{line.usage.input_tokens} + {line.usage.output_tokens} tokens"] if line.usage else []
    timed += [f"{line.attempts} attempts"] if line.attempts > 1 else []
    timed += [line.outcome] if line.outcome != "ok" else []
    timed += [line.error] if line.error else []
    return f"{' '.join(parts)} {', '.join(timed)} [{line.id}]\n".encode("utf-8", "replace")


def _to_stderr(piece: bytes) -> None:
    while piece:
        piece = piece[os.write(2, piece) :]
