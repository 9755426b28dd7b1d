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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import orjson

from gateway.core.exchange import Attempt, Target, Usage
from gateway.core.networks import Network
from gateway.core.prices import Prices
from gateway.core.sanitize import line as one_line
from gateway.core.sanitize import to_json
from gateway.observability.logging import timestamp
from gateway.proxy.limits.charge import Charge
from gateway.proxy.recording.call_metrics import CountedOutcome, counted_outcome
from gateway.proxy.relay.state import CallContext
from gateway.proxy.request.call import Call
from gateway.proxy.request.client_address import address_of
from gateway.proxy.request.endpoints import Endpoint
from gateway.proxy.request.header_rules import sane_id
from gateway.proxy.types import Headers, HttpRequest

MAX_WAITING = 20_000
AT_ONCE = 50  # lines that the thread formats without a pause: it holds the interpreter for 0.1 ms
_PAUSE_S = 0.001  # between them; so 40 000 lines a second can be written
_ATOMIC_BYTES = 4096  # a pipe takes them in one piece, so that the lines of several workers do not mix


class AccessLine(NamedTuple):
    """One call. docs/operations.md describes the members of its JSON line."""

    at: float
    """Unix seconds."""
    id: str
    client_id: str
    """The client's own id; "" if it sent none."""
    key: str
    """The caller's name; "" if unknown."""
    client: str
    """The client's address; "" if unknown."""
    api: str
    status: int
    outcome: CountedOutcome
    error: str
    """The code of the gateway's own error."""
    upstream: str
    """The upstream, with its model; both "" if no target was attempted."""
    total_s: float
    prices: Prices
    alias: str = ""
    """The alias; "" if the config has no such alias, so that names that clients invent are not logged."""
    model: str = ""
    stream: bool = False
    failure: str = ""
    """Reason why the last attempt failed."""
    attempts: Sequence[Attempt] = ()
    usage: Usage | None = None
    first_token_s: float | None = None
    """Seconds to the first token; None: not a stream, or no token came."""
    overhead_s: float = 0.0
    trace: str = ""
    """The trace id in hex; "" if the call is not traced."""
    charge: Charge | None = None
    """Charge of the call; None: nothing, or its usage at the target's price."""

    @property
    def cost_usd(self) -> float | None:
        if self.charge is not None:
            return self.charge.usd
        return self.prices.of_call(Target(self.upstream, self.model), self.usage, self.attempts)


class CallLog:
    def __init__(self, log: AccessLog, prices: Prices, trusted: Sequence[Network] = ()) -> None:
        """trusted: networks of proxies whose X-Forwarded-For is believed."""
        self._log = log
        self._prices = prices
        self._trusted = tuple(trusted)

    def note(
        self,
        endpoint: Endpoint,
        request: HttpRequest,
        call: Call | None,
        context: CallContext,
        started: float,
    ) -> None:
        """started: monotonic seconds. call: None: the request could not be read, or its key is unknown."""
        target_state, first, now = context.target_state, context.first_content, time.monotonic()
        attempts = context.attempts
        self._log.note(
            AccessLine(
                time.time() - (now - started) if call is None else call.received,
                context.notes.id if call is None else call.id,
                (sane_id(request.fields.get(b"x-request-id")) if call is None else call.client_id) or "",
                context.key,
                address_of(request.peer, request.headers, self._trusted) if self._trusted else request.peer,
                endpoint.api,
                context.status,
                "ok" if context.outcome == "ok" else logged_outcome(context),
                context.notes.error_code,
                "" if target_state is None else target_state.target.upstream,
                now - started,
                self._prices,
                call.alias if call is not None and context.notes.routed else "",
                "" if target_state is None else target_state.target.model,
                call is not None and call.stream,
                context.notes.failure or (attempts[-1].failure or "" if attempts else ""),
                attempts,
                context.usage,
                None if first is None or call is None or not call.stream else first - started,
                context.notes.overhead_s,
                "" if context.notes.span is None else f"{context.notes.span.trace:032x}",
                context.charge,
            )
        )

    def note_page(self, page: PageCall, headers: Headers, started: float) -> None:
        """A call outside the hot path."""
        now = time.monotonic()
        client_id = sane_id(next((v for n, v in headers if n == b"x-request-id"), None)) or ""
        at, client = time.time() - (now - started), address_of(page.peer, headers, self._trusted)
        called = (at, page.id, client_id, page.key, client, page.api)
        ended = (page.status, page.outcome, page.error, page.upstream, now - started)
        self._log.note(AccessLine(*called, *ended, self._prices))


@dataclass(slots=True)
class PageCall:
    """A call outside the hot path, filled in while it is answered."""

    api: str
    peer: str
    id: str = ""
    key: str = ""
    upstream: str = ""
    status: int = 0
    error: str = ""

    @property
    def outcome(self) -> CountedOutcome:
        if self.status == 0:
            return "client_gone"
        return "ok" if self.status < 400 else "client_error" if self.status < 500 else "upstream_error"


def logged_outcome(context: CallContext) -> CountedOutcome:
    """The outcome as the metrics count it; a refusal before any attempt, such as of an unknown key, is the client's
    error too."""
    own = bool(context.notes.error_code) and not context.attempts and 400 <= context.status < 500
    return "client_error" if own and not context.notes.queue_full else counted_outcome(context)


class AccessLog:
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
    usage, cost = line.usage, line.cost_usd
    return (
        b'{"time":"%b","level":"INFO","logger":"gateway.access","id":%b,"client_id":%b,%b"client":%b,%b"stream":%b,'
        b'"status":%d,"outcome":"%b","error":%b,"failure":%b,"attempts":%d,%b"cost_usd":%b,'
        b'"first_token_s":%b,"total_s":%.6f,"overhead_s":%.6f%b}\n'
    ) % (
        _time(int(line.at * 1000)),
        orjson.dumps(line.id),
        orjson.dumps(line.client_id) if line.client_id else b"null",
        _key(line.key),
        _text(line.client),
        _named(line.api, line.alias, line.upstream, line.model),
        b"true" if line.stream else b"false",
        line.status,
        line.outcome.encode(),
        _text(line.error),
        _text(line.failure),
        len(line.attempts),
        _NO_TOKENS if usage is None else _tokens(usage),
        b"null" if cost is None else orjson.dumps(round(cost, 9)),
        b"null" if line.first_token_s is None else b"%.6f" % line.first_token_s,
        line.total_s,
        line.overhead_s,
        b',"trace_id":"%b"' % line.trace.encode() if line.trace else b"",
    )


_NO_TOKENS = b'"input_tokens":null,"output_tokens":null,"cached_input_tokens":null,"reasoning_tokens":null,'


def _tokens(usage: Usage) -> bytes:
    cached, reasoning = usage.cached_input_tokens, usage.reasoning_tokens
    return b'"input_tokens":%d,"output_tokens":%d,"cached_input_tokens":%b,"reasoning_tokens":%b,' % (
        usage.input_tokens,
        usage.output_tokens,
        b"null" if cached is None else b"%d" % cached,
        b"null" if reasoning is None else b"%d" % reasoning,
    )


@lru_cache(maxsize=4096)
def _key(key: str) -> bytes:
    return b'"key":%b,' % orjson.dumps(key or None)


@lru_cache(maxsize=64)
def _second(at: int) -> bytes:
    return timestamp(at)[:19].encode()


def _time(at_ms: int) -> bytes:
    return b"%b.%03dZ" % (_second(at_ms // 1000), at_ms % 1000)


@lru_cache(maxsize=4096)
def _named(api: str, alias: str, upstream: str, model: str) -> bytes:
    named = {"api": api, "alias": alias or None, "upstream": upstream or None, "model": model or None}
    return orjson.dumps(named)[1:-1] + b","


@lru_cache(maxsize=1024)
def _text(text: str) -> bytes:
    return to_json(text or None, indent=False).encode()


def as_words(line: AccessLine) -> bytes:
    """200 chat → local/smollm2 0.51 s, first 0.08 s, 12 + 34 tokens."""
    parts = [timestamp(line.at)[11:23], str(line.status), line.alias or line.api]
    parts += [f"→ {line.upstream}/{line.model}"] if line.upstream else []
    timed = [f"{line.total_s:.2f} s"]
    timed += [f"first {line.first_token_s:.2f} s"] if line.first_token_s is not None else []
    timed += [f"{line.usage.input_tokens} + {line.usage.output_tokens} tokens"] if line.usage else []
    timed += [f"${cost:.4g}"] if (cost := line.cost_usd) else []
    timed += [f"{len(line.attempts)} attempts"] if len(line.attempts) > 1 else []
    timed += [line.outcome] if line.outcome != "ok" else []
    timed += [one_line(text) for text in (line.error, line.failure) if text]
    timed += [f"key {line.key}"] if line.key else []
    return f"{' '.join(parts)} {', '.join(timed)} [{line.id}]\n".encode("utf-8", "replace")


def _to_stderr(piece: bytes) -> None:
    while piece:
        piece = piece[os.write(2, piece) :]
