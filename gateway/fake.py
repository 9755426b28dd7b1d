"""The double that ships: an upstream with scripted answers, delays and faults over a real socket.

For our tests, our benchmarks and users' own tests. It speaks HTTP/1.1 directly, because an ASGI server cannot misbehave
on the wire. What a right answer says is fake_api's room; this one carries it, or spoils it.

    async with FakeUpstream() as upstream:
        upstream.says("one ", HOLD, "two ")
        upstream.then(Fault.rate_limited(retry_after=1), Fault.reset())
        ...                                     # ask upstream.base_url
        assert upstream.received[0].json["model"] == "fake-model"
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import unquote

import httptools
import orjson

from gateway import fake_api
from gateway.fake_api import CUT, EVENT_STREAM, HOLD, Answer, Ask, Delay, Delta, Done, Event, Part, Script, ToolCall

__all__ = ["CUT", "HOLD", "Delay", "FakeUpstream", "Fault", "Received", "parse_fault", "serve"]

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


class NEVER:
    """On the wire: silent from here until one side closes."""


class RESET:
    """On the wire: the connection is reset here."""


Step = bytes | Delay | type[HOLD] | type[CUT] | type[NEVER] | type[RESET]

LAST_CHUNK = b"0\r\n\r\n"
HALF_EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "hal\n\n'
_REASONS = {status.value: status.phrase for status in HTTPStatus}
ENCODED_ANSWERS = 64
WRITE_BYTES = 65_536  # neighbouring steps go out in writes of about this size


@dataclass(slots=True, eq=False)
class Received:
    """One request as it came.

    headers: names in lower case, in order. serial: 1 for the first request of this upstream. cancelled: the client
    closed the connection before the answer was complete. done: set once the answer is complete, cut or cancelled.
    connection: the serial number of its TCP connection.
    """

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    serial: int
    connection: int
    body: bytes = field(default=b"", repr=False)
    cancelled: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def probe(self) -> bool:
        """A question about health or load: no one-shot fault and no scripted answer is spent on it."""
        return self.method == "GET" and self.path in {"/health", "/metrics"}

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case; None: it did not come."""
        return next((value for key, value in self.headers if key == name.lower()), None)


def _head(received: Received, answer: Answer, more: str = "") -> bytes:
    """The status line and the headers. more: further header lines, each with its end."""
    reason = _REASONS.get(answer.status, "Odd")
    framing = "transfer-encoding: chunked" if answer.stream else f"content-length: {len(answer.body)}"
    cache = "cache-control: no-cache\r\n" if answer.stream else ""
    headers = answer.headers
    if not any(name.lower() == "x-request-id" for name, _ in headers):
        headers = (("x-request-id", f"req-fake-{received.serial}"), *headers)
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    return (
        f"HTTP/1.1 {answer.status} {reason}\r\ncontent-type: {answer.content_type}\r\n{framing}\r\n"
        f"{cache}{lines}{more}\r\n"
    ).encode("latin-1")


def _chunk(data: bytes) -> bytes:
    if not data:
        return b""  # a chunk of no bytes would end the body
    return b"%x\r\n%b\r\n" % (len(data), data)


def _framed(events: Iterable[Event]) -> Iterator[Step]:
    for event in events:
        yield _chunk(event) if isinstance(event, bytes) else event


def _right(received: Received, answer: Answer) -> Iterator[Step]:
    """The answer as it should be on the wire."""
    if answer.stream:
        yield _head(received, answer)
        yield from _framed(answer.events)
        yield LAST_CHUNK
    elif CUT in answer.pauses:
        yield from answer.pauses[: answer.pauses.index(CUT)]
        yield from _half(received, answer, CUT)
    else:
        yield from answer.pauses
        yield _head(received, answer) + answer.body


def _half(received: Received, answer: Answer, between: Step) -> Iterator[Step]:
    """A plain answer with something between the halves of its body."""
    middle = len(answer.body) // 2
    yield _head(received, answer) + answer.body[:middle]
    yield between
    yield answer.body[middle:]


def _place_after(events: Sequence[Event], deltas: int) -> int:
    """Where content delta number `deltas` + 1 stands; past the last delta when there are no more."""
    places = [i for i, event in enumerate(events) if isinstance(event, Delta)]
    if deltas < len(places):
        return places[deltas]
    return places[-1] + 1 if places else len(events)


def _interrupted(received: Received, answer: Answer, deltas: int, *steps: Step, rest: bool = False) -> Iterator[Step]:
    """A stream with these wire steps after some deltas. rest: it then goes on."""
    place = _place_after(answer.events, deltas)
    yield _head(received, answer)
    yield from _framed(answer.events[:place])
    yield from steps
    if rest:
        yield from _framed(answer.events[place:])
        yield LAST_CHUNK


Bend = Callable[[Received, Answer], Iterable[Step]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to misbehave: bends the right answer into what happens on the wire.

    name: as parse_fault reads it. bend: the request and its right answer → the steps on the wire.
    """

    name: str
    bend: Bend = field(repr=False, compare=False)

    @classmethod
    def status(
        cls,
        code: int,
        *,
        error_code: str | None = None,
        message: str | None = None,
        retry_after: float | None = None,
        body: bytes | None = None,
    ) -> Fault:
        """An error as a status. error_code: OpenAI's `error.code`. body: sent as it is in place of the error object."""
        headers = () if retry_after is None else (("retry-after", f"{retry_after:g}"),)
        message = message or f"The fake upstream was told to answer {code}."

        def bend(received: Received, answer: Answer) -> Iterable[Step]:
            said = fake_api.error(answer.dialect, code, message, code=error_code, headers=headers)
            if body is not None:
                said = Answer(body, status=code, headers=headers)
            return _right(received, said)

        return cls(f"status:{code}", bend)

    @classmethod
    def rate_limited(cls, retry_after: float | None = None) -> Fault:
        told = cls.status(
            429, error_code="rate_limit_exceeded", message="Rate limit reached for requests.", retry_after=retry_after
        )
        return cls("rate_limited" if retry_after is None else f"rate_limited:{retry_after:g}", told.bend)

    @classmethod
    def context_length(cls) -> Fault:
        message = "This model's maximum context length is 4096 tokens. Please reduce the length of the messages."
        return cls("context_length", cls.status(400, error_code="context_length_exceeded", message=message).bend)

    @classmethod
    def content_policy(cls) -> Fault:
        message = "Your request was rejected by our safety system: it asks for help with violence."
        return cls("content_policy", cls.status(400, error_code="content_policy_violation", message=message).bend)

    @classmethod
    def refuse_prefill(cls) -> Fault:
        """400 to a request that wants its last assistant message continued; the right answer to others."""
        refusal = cls.status(400, message="continue_final_message is not supported by this model.")

        def bend(received: Received, answer: Answer) -> Iterable[Step]:
            wanted = b"continue_final_message" in received.body and received.json.get("continue_final_message")
            return (refusal.bend if wanted else _right)(received, answer)

        return cls("refuse_prefill", bend)

    @classmethod
    def reset(cls) -> Fault:
        """Accepted and read, then reset before any header."""
        return cls("reset", lambda received, answer: [RESET])

    @classmethod
    def silence(cls) -> Fault:
        """Accepted and read, never answered."""
        return cls("silence", lambda received, answer: [NEVER])

    @classmethod
    def slow_head(cls, seconds: float) -> Fault:
        """The right answer, late."""
        return cls(f"slow_head:{seconds:g}", lambda received, answer: [Delay(seconds), *_right(received, answer)])

    @classmethod
    def slow_first_token(cls, seconds: float) -> Fault:
        """The headers at once; then a pause; then the rest."""

        def bend(received: Received, answer: Answer) -> Iterator[Step]:
            yield _head(received, answer)
            yield Delay(seconds)
            yield from [*_framed(answer.events), LAST_CHUNK] if answer.stream else [*answer.pauses, answer.body]

        return cls(f"slow_first_token:{seconds:g}", bend)

    @classmethod
    def cut_after(cls, n_deltas: int) -> Fault:
        """The connection closes after some content deltas; of a plain answer, after half of the body."""

        def bend(received: Received, answer: Answer) -> Iterable[Step]:
            if not answer.stream:
                return _half(received, answer, CUT)
            return _interrupted(received, answer, n_deltas, CUT)

        return cls(f"cut_after:{n_deltas}", bend)

    @classmethod
    def stall_after(cls, n_deltas: int) -> Fault:
        """As cut_after, but silent in place of closed; `release()` lets the rest come."""

        def bend(received: Received, answer: Answer) -> Iterable[Step]:
            if not answer.stream:
                return _half(received, answer, HOLD)
            return _interrupted(received, answer, n_deltas, HOLD, rest=True)

        return cls(f"stall_after:{n_deltas}", bend)

    @classmethod
    def malformed_after(cls, n: int) -> Fault:
        """One event that is no JSON after some deltas; then the rest. A plain answer: half of its JSON, well framed."""

        def bend(received: Received, answer: Answer) -> Iterable[Step]:
            if not answer.stream:
                half = answer.body[: len(answer.body) // 2]
                return _right(received, Answer(half, status=answer.status, headers=answer.headers))
            return _interrupted(received, answer, n, _chunk(HALF_EVENT), rest=True)

        return cls(f"malformed_after:{n}", bend)

    @classmethod
    def broken_chunk_after(cls, n: int) -> Fault:
        """A chunk whose size is no number after some deltas. A plain answer: half of the body, then closed."""

        def bend(received: Received, answer: Answer) -> Iterable[Step]:
            if not answer.stream:
                return _half(received, answer, CUT)
            return _interrupted(received, answer, n, b"zz\r\nno chunk\r\n", NEVER)

        return cls(f"broken_chunk_after:{n}", bend)

    @classmethod
    def no_done(cls, *, close: bool = False) -> Fault:
        """A complete stream without its last event, `[DONE]`. close: then a clean end; else the stream stays open."""

        def bend(received: Received, answer: Answer) -> Iterator[Step]:
            if not answer.stream:
                yield from _right(received, answer)
                return
            yield _head(received, answer, "connection: close\r\n" if close else "")
            yield from _framed(event for event in answer.events if not isinstance(event, Done))
            if close:
                yield LAST_CHUNK
            yield CUT if close else NEVER

        return cls("no_done_close" if close else "no_done", bend)

    @classmethod
    def short(cls) -> Fault:
        """A clean HTTP end after half of the deltas: no finish_reason, no `[DONE]`. A plain answer: an empty body."""

        def bend(received: Received, answer: Answer) -> Iterable[Step]:
            if not answer.stream:
                return _right(received, Answer())
            deltas = sum(isinstance(event, Delta) for event in answer.events)
            return _interrupted(received, answer, max(1, deltas // 2), LAST_CHUNK)

        return cls("short", bend)

    @classmethod
    def error_body(cls) -> Fault:
        """200 with an error object: as the body, or as the first event."""

        def bend(received: Received, answer: Answer) -> Iterable[Step]:
            message = "The fake upstream failed behind a 200."
            if not answer.stream:
                said = fake_api.error(answer.dialect, 500, message, code="server_error")
                return _right(received, Answer(said.body))
            return [_head(received, answer), _chunk(fake_api.error_event(answer.dialect, message)), LAST_CHUNK]

        return cls("error_body", bend)

    @classmethod
    def error_event_after(cls, n: int) -> Fault:
        """An error event after some deltas, then a clean HTTP end. A plain answer: as error_body."""

        def bend(received: Received, answer: Answer) -> Iterable[Step]:
            if not answer.stream:
                return cls.error_body().bend(received, answer)
            event = fake_api.error_event(answer.dialect, "The fake upstream failed in the middle.")
            return _interrupted(received, answer, n, _chunk(event), LAST_CHUNK)

        return cls(f"error_event_after:{n}", bend)

    @classmethod
    def header_drip(cls, seconds_between: float) -> Fault:
        """A response head that never ends: one more header after each pause."""

        def bend(received: Received, answer: Answer) -> Iterator[Step]:
            yield b"HTTP/1.1 200 OK\r\n"
            number = 0
            while True:
                yield b"x-drip-%d: drip\r\n" % number
                yield Delay(seconds_between)
                number += 1

        return cls(f"header_drip:{seconds_between:g}", bend)

    @classmethod
    def comments_forever(cls, seconds_between: float) -> Fault:
        """A stream of nothing but `: keep-alive`; in place of a plain answer, a body of nothing but spaces."""

        def bend(received: Received, answer: Answer) -> Iterator[Step]:
            kind = EVENT_STREAM if answer.stream else answer.content_type
            yield _head(received, Answer(stream=True, content_type=kind))
            while True:
                yield _chunk(b": keep-alive\n\n" if answer.stream else b" ")
                yield Delay(seconds_between)

        return cls(f"comments_forever:{seconds_between:g}", bend)

    @classmethod
    def garbage(cls) -> Fault:
        """Bytes that are no HTTP, then closed."""
        return cls("garbage", lambda received, answer: [b"\x16\x03\x01 220 mail.example ESMTP\r\n\r\n", CUT])


_NUMBERS: Mapping[str, Callable[[float], Fault]] = {
    "status": lambda n: Fault.status(int(n)),
    "rate_limited": Fault.rate_limited,
    "slow_head": Fault.slow_head,
    "slow_first_token": Fault.slow_first_token,
    "cut_after": lambda n: Fault.cut_after(int(n)),
    "stall_after": lambda n: Fault.stall_after(int(n)),
    "malformed_after": lambda n: Fault.malformed_after(int(n)),
    "broken_chunk_after": lambda n: Fault.broken_chunk_after(int(n)),
    "error_event_after": lambda n: Fault.error_event_after(int(n)),
    "header_drip": Fault.header_drip,
    "comments_forever": Fault.comments_forever,
}
_BARE: Mapping[str, Callable[[], Fault]] = {
    "rate_limited": Fault.rate_limited,
    "context_length": Fault.context_length,
    "content_policy": Fault.content_policy,
    "refuse_prefill": Fault.refuse_prefill,
    "reset": Fault.reset,
    "silence": Fault.silence,
    "no_done": Fault.no_done,
    "no_done_close": lambda: Fault.no_done(close=True),
    "short": Fault.short,
    "error_body": Fault.error_body,
    "garbage": Fault.garbage,
}


def parse_fault(text: str) -> Fault:
    """A fault by its name, as in `cut_after:3` or `silence`. Raises ValueError that says what was meant or needed."""
    name, colon, number = text.strip().partition(":")
    if name not in _NUMBERS and name not in _BARE:
        known = sorted({*_NUMBERS, *_BARE})
        close = get_close_matches(name, known, 1, 0.6)
        hint = f"did you mean {close[0]!r}?" if close else "the faults are " + ", ".join(known)
        raise ValueError(f"no fault {name!r}; {hint}")
    if not colon and name in _BARE:
        return _BARE[name]()
    if name not in _NUMBERS:
        raise ValueError(f"{name} takes no number, and {number!r} was given: write {name!r}")
    try:
        return _NUMBERS[name](float(number))
    except ValueError:
        raise ValueError(f"{name} needs a number, as in '{name}:3'; {number!r} is none") from None


class _Connection(asyncio.Protocol):
    """One TCP connection: reads requests, plays the steps of one answer after another."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._serial = 0
        self._waiting: deque[tuple[Received, bool]] = deque()
        self._playing: Received | None = None
        self._keep_alive = True
        self._steps: Iterator[Step] = iter(())
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._full = False
        self._stopped_by_full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a stream protocol gets no other
        self._serial = self._upstream._connected(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.abort()
            return
        if self._playing is None:
            self._answer_next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        received, self._playing = self._playing, None
        self._upstream._disconnected(self, received)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._stopped_by_full:
            self._stopped_by_full = False
            self.go_on()

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if ("expect", "100-continue") in self._headers:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        url = httptools.parse_url(self._url)
        received = Received(
            method=self._parser.get_method().decode(),
            path=unquote(url.path.decode("latin-1")),
            query=(url.query or b"").decode("latin-1"),
            headers=self._headers,
            serial=self._upstream._next_serial(),
            connection=self._serial,
            body=b"".join(self._body),
        )
        self._waiting.append((received, self._parser.should_keep_alive()))

    def _answer_next(self) -> None:
        if not self._waiting or self._transport.is_closing():
            return
        self._playing, self._keep_alive = self._waiting.popleft()
        self._steps = self._joined(self._upstream._came(self._playing))
        self.go_on()

    @property
    def idle(self) -> bool:
        return self._playing is None

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def go_on(self) -> None:
        """Plays on after a stop, with the pauses counted from now."""
        self._due = self._loop.time()
        self._play()

    def _play(self) -> None:
        for step in self._steps:
            if isinstance(step, bytes):
                self._transport.write(step)
                if self._full:
                    self._stopped_by_full = True
                    return
            elif isinstance(step, Delay):
                # From when the last pause was due, not from now: a late loop does not slow a stream down.
                self._due += step.seconds
                self._timer = self._loop.call_at(self._due, self._play)
                return
            else:
                self._stop(step)
                return
        self._answered()

    def _joined(self, steps: Iterable[Step]) -> Iterator[Step]:
        """The same steps, with bytes that nothing stands between put together: one write costs as much as a hundred."""
        pending: list[bytes] = []
        size = 0
        for step in steps:
            if isinstance(step, bytes):
                pending.append(step)
                size += len(step)
                if size < WRITE_BYTES:
                    continue
            elif isinstance(step, Delay) and self._is_over(step):
                self._due += step.seconds
                continue
            if pending:
                yield b"".join(pending)
                pending, size = [], 0
            if not isinstance(step, bytes):
                yield step
        if pending:
            yield b"".join(pending)

    def _is_over(self, pause: Delay) -> bool:
        """The loop is late by more than this pause, so nothing waits for it. A pause of 0 s is always made."""
        return pause.seconds > 0 and self._due + pause.seconds < self._loop.time()

    def _stop(self, step: type[HOLD] | type[CUT] | type[NEVER] | type[RESET]) -> None:
        if step is HOLD:
            self._upstream._held.append(self)
        elif step is CUT:
            self._answered(close=True)
        elif step is RESET:
            linger_no_time = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_no_time)
            self._transport.abort()
            self._answered(close=True)

    def _answered(self, close: bool = False) -> None:
        received, self._playing = self._playing, None
        if close or not self._keep_alive:
            self._transport.close()
        if received is not None:
            self._upstream._answered(received)
        self._answer_next()


class FakeUpstream:
    """An upstream that says and does what it is told, and remembers who asked what.

    model: what /v1/models lists, and the `model` of an answer to a request that names none. text: what chat answers
    say until `says`. vllm: continues a last assistant message when asked, and reports its load. remember: False keeps
    `received` empty, for long runs. load, under vLLM's names, is what /metrics and the load header report besides the
    number of running requests.
    """

    def __init__(
        self,
        *,
        model: str = "fake-model",
        text: str = "Hello from the fake upstream.",
        vllm: bool = False,
        remember: bool = True,
    ) -> None:
        self.model = model
        self.vllm = vllm
        self.load: dict[str, float] = {"kv_cache_usage_perc": 0.0, "num_requests_waiting": 0.0}
        self.received: list[Received] = []
        self.cancelled = 0
        self.port = 0
        self._host = "127.0.0.1"
        self._default = Script(fake_api.split(text), chosen=False)
        self._script = self._default
        self._whole: Answer | None = None
        # Plain answers by what was asked, with the serial in their id: a benchmark asks the same a million times.
        self._encoded: dict[tuple[str, bytes, str, bool], tuple[Answer, int]] = {}
        self._faults: deque[Fault] = deque()
        self._always: Fault | None = None
        self._share = 1.0
        self._remember = remember
        self._taken = 0
        self._requests = 0
        self._running = 0
        self._connections: set[_Connection] = set()
        self._connected_ever = 0
        self._held: list[_Connection] = []
        self._watchers: list[asyncio.Future[None]] = []
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listens. port: 0 takes a free one. May be started again after `stop`, on the same port if told so."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port, backlog=4096)
        self._host = host
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes the port and every connection; requests still open are done, and not cancelled."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in list(self._connections):
            connection.abort()
        await self.until(lambda _: not self._connections)
        await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def origin(self) -> str:
        return f"http://{self._host}:{self.port}"

    @property
    def base_url(self) -> str:
        return self.origin + "/v1"

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    @property
    def calls(self) -> list[Received]:
        """What was received, without probes of health and load."""
        return [r for r in self.received if not r.probe]

    async def next_received(self, timeout_s: float = 5) -> Received:
        """The next request that this method has not given yet; waits for it."""
        await self.until(lambda _: len(self.received) > self._taken, timeout_s)
        self._taken += 1
        return self.received[self._taken - 1]

    async def until(self, predicate: Callable[[FakeUpstream], bool], timeout_s: float = 5) -> None:
        """Waits until this holds; looked at whenever a request comes, ends, or a connection opens or closes."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                while not predicate(self):
                    watcher: asyncio.Future[None] = loop.create_future()
                    self._watchers.append(watcher)
                    await watcher
        except TimeoutError:
            seen = (
                f"{len(self.received)} received, {self.cancelled} cancelled, {self.open_connections} connections open"
            )
            raise TimeoutError(f"what was waited for did not come within {timeout_s:g} s: {seen}") from None

    def says(self, *parts: Part) -> None:
        """What all following chat answers say: each text is one delta of a stream. No parts: the default text again.

        A plain answer makes the script's pauses first, and then comes whole.
        """
        self._say(Script(parts) if parts else self._default)

    def tool_call(self, name: str, arguments: str, id: str = "call_1") -> None:
        """All following chat answers are this call. arguments: JSON text, sent as it is."""
        self._say(Script((), tool=ToolCall(name, arguments, id)))

    def answers(self, status: int, body: bytes, headers: Headers = (), content_type: str = "application/json") -> None:
        """Exactly these bytes as the whole answer to all following requests but probes."""
        self._whole = Answer(body, status=status, headers=_pairs(headers), content_type=content_type)

    def streams(
        self,
        chunks: Sequence[bytes | Delay | type[HOLD] | type[CUT]],
        content_type: str = EVENT_STREAM,
        *,
        status: int = 200,
        headers: Headers = (),
    ) -> None:
        """Exactly these bytes as the answer to all following requests but probes, each piece in a write of its own."""
        events: list[Event] = []
        for chunk in chunks:
            events += [Delta(chunk), Delay(0)] if isinstance(chunk, bytes) else [chunk]
        self._whole = Answer(
            events=events, stream=True, status=status, headers=_pairs(headers), content_type=content_type
        )

    def then(self, *faults: Fault) -> None:
        """The next requests, but probes, meet these faults, one each, in order."""
        self._faults.extend(faults)

    def always(self, fault: Fault | None, share: float = 1.0) -> None:
        """All requests, probes too, meet this fault until told otherwise. share: of the requests, evenly spread."""
        self._always = fault
        self._share = share

    def release(self) -> None:
        """Every answer that holds now goes on."""
        held, self._held = self._held, []
        for connection in held:
            connection.go_on()

    def hang_up(self) -> None:
        """Closes the connections on which nothing is being answered, as vLLM does with those idle for 5 s."""
        for connection in list(self._connections):
            if connection.idle:
                connection.close()

    def _say(self, script: Script) -> None:
        self._whole = None
        self._script = script
        self._encoded.clear()

    def _connected(self, connection: _Connection) -> int:
        self._connections.add(connection)
        self._connected_ever += 1
        self._changed()
        return self._connected_ever

    def _disconnected(self, connection: _Connection, received: Received | None) -> None:
        """received: what was being answered; None: nothing."""
        self._connections.discard(connection)
        if connection in self._held:
            self._held.remove(connection)
        if received is not None:
            # Once stopped, it is we who hang up.
            received.cancelled = self._server is not None
            self.cancelled += received.cancelled
            self._answered(received)
        self._changed()

    def _next_serial(self) -> int:
        self._requests += 1
        return self._requests

    def _came(self, received: Received) -> Iterable[Step]:
        """The steps with which this request is answered."""
        self._running += 1
        if self._remember:
            self.received.append(received)
        self._changed()
        right = self._right_answer(received)
        fault = self._fault(received)
        return fault.bend(received, right) if fault else _right(received, right)

    def _answered(self, received: Received) -> None:
        self._running -= 1
        received.done.set()
        self._changed()

    def _fault(self, received: Received) -> Fault | None:
        if self._faults and not received.probe:
            return self._faults.popleft()
        spent, due = int((received.serial - 1) * self._share), int(received.serial * self._share)
        return self._always if due > spent else None

    def _right_answer(self, received: Received) -> Answer:
        path = _api_path(received.path)
        if self._whole is not None and not received.probe:
            return replace(self._whole, dialect=fake_api.dialect_of(path))
        orca = received.header("endpoint-load-metrics-format")
        asked = (path, received.body, self.model, self.vllm)
        known = self._encoded.get(asked) if orca is None else None
        if known is not None:
            answer, serial = known
            return replace(answer, body=answer.body.replace(b"-fake-%d" % serial, b"-fake-%d" % received.serial, 1))
        answer = fake_api.answer(self._ask(received, path, orca))
        short = len(received.body) < WRITE_BYTES
        if path in _ID_STANDS_FIRST and short and not answer.stream and orca is None:
            if len(self._encoded) == ENCODED_ANSWERS:
                self._encoded.clear()
            self._encoded[asked] = answer, received.serial
        return answer

    def _ask(self, received: Received, path: str, orca: str | None) -> Ask:
        return Ask(
            serial=received.serial,
            method=received.method,
            path=path,
            content_type=received.header("content-type") or "",
            body=received.body,
            fields=_fields(received.body),
            script=self._script,
            default_model=self.model,
            vllm=self.vllm,
            orca=orca,
            load={"num_requests_running": float(self._running)} | self.load,
        )

    def _changed(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)


_VERSIONED = re.compile(r"/(?:openai/)?(?:v1|v2|deployments/[^/]+)(?=/)")
_ID_STANDS_FIRST = {"/chat/completions", "/completions"}
_AT_THE_ROOT = {"/health", "/metrics", "/tokenize", "/detokenize", "/rerank", "/score"}


def _api_path(path: str) -> str:
    """The path without its version or Azure's deployment; a path that should stand under one and does not is none."""
    versioned = _VERSIONED.match(path)
    if versioned:
        return path[versioned.end() :]
    return path if path in _AT_THE_ROOT else f"(no /v1){path}"


def _fields(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; empty: there is none."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _pairs(headers: Headers) -> tuple[tuple[str, str], ...]:
    return tuple(headers.items() if isinstance(headers, Mapping) else headers)


async def serve(
    host: str,
    port: int,
    *,
    tokens: int = 16,
    delay_s: float = 0.0,
    fault: Fault | None = None,
    fault_rate: float = 1.0,
    model: str = "fake-model",
) -> None:
    """Runs until cancelled, for `gateway fake`. delay_s: before each token. fault_rate: the share of faulty answers."""
    upstream = FakeUpstream(model=model, remember=False)
    pause: tuple[Part, ...] = (Delay(delay_s),) if delay_s else ()
    upstream.says(*[part for _ in range(tokens) for part in (*pause, "token ")])
    upstream.always(fault, fault_rate)
    await upstream.start(host, port)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await upstream.stop()
