"""The access log: a line for each call, written off the calls' time. Never a key, a header or a word of what was said.

A call only leaves a few numbers and names here; a thread makes lines of them and writes them, some at a time, so that
the loop never waits long for the interpreter. Who does not read our stderr holds nobody up: beyond MOST_WAITING lines
they are left out, and their number is said.
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

EVERY_S = 0.5
MOST_WAITING = 20_000
AT_ONCE = 50  # lines for which the thread may hold the interpreter: 0.1 ms
_PAUSE_S = 0.001  # between them; so 40 000 lines a second can be written
_ATOMIC = 4096  # bytes that a pipe takes in one piece, so that lines of several workers do not mix


class AccessLine(NamedTuple):
    """One call. alias, upstream, model: "" where none was chosen: what a client invents is not kept. error: the code of
    our own error, else the last attempt's failure. first_token_s: None: no stream, or nothing came. trace: its id in
    hex; "": it is not traced."""

    at: float
    id: str
    key: str
    api: str
    alias: str
    upstream: str
    model: str
    stream: bool
    status: int
    outcome: Outcome
    error: str
    attempts: int
    usage: Usage | None
    first_token_s: float | None
    total_s: float
    overhead_s: float
    trace: str


def access_line(
    endpoint: Endpoint, call: Call | None, context: CallContext, started: float, ids: SpanIds | None = None
) -> AccessLine:
    """started: monotonic. call: None: the request could not be read, or its key is none."""
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
    """write: takes bytes, on a thread. json: else words. pause: sleeps, on that thread."""

    def __init__(
        self,
        json: bool,
        write: Callable[[bytes], object] | None = None,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._form = as_json if json else as_words
        self._write = write or _to_stderr
        self._pause = pause
        self._writing = threading.Lock()  # lines are taken and written in order, whichever thread flushes
        self._waiting: deque[AccessLine] = deque()
        self._left_out = 0
        self._left_out_said = 0

    def note(self, line: AccessLine) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(line)
        else:
            self._left_out += 1

    async def run(self) -> None:
        """Until it is cancelled; flush() then writes the rest."""
        while True:
            await asyncio.sleep(EVERY_S)
            if self._waiting:
                await asyncio.to_thread(self._flush, self._pause)

    def flush(self) -> None:
        """Writes all that waits, without a pause, also what run() was about to write."""
        self._flush(lambda seconds: None)

    def _flush(self, pause: Callable[[float], object]) -> None:
        """What waits now; what comes meanwhile is for the next time."""
        for left in range(len(self._waiting), 0, -AT_ONCE):
            with self._writing:
                self._write_some(min(left, AT_ONCE))
            pause(_PAUSE_S)
        left_out = self._left_out - self._left_out_said
        if left_out:
            self._left_out_said += left_out
            self._write(b'{"access_lines_left_out":%d}\n' % left_out)

    def _write_some(self, most: int) -> None:
        lines = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        for piece in pieces([self._form(line) for line in lines]):
            self._write(piece)


def pieces(lines: list[bytes]) -> list[bytes]:
    """Whole lines, as many together as a pipe takes at once."""
    found: list[bytes] = []
    held: list[bytes] = []
    size = 0
    for line in lines:
        if size + len(line) > _ATOMIC and held:
            found.append(b"".join(held))
            held, size = [], 0
        held.append(line)
        size += len(line)
    return [*found, b"".join(held)] if held else found


def as_json(line: AccessLine) -> bytes:
    """Put together from encoded pieces: what is the same in most lines is encoded once."""
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
