"""The fake upstream: takes scripts and faults, chooses the answer to each request, and remembers the requests.

apis.py builds a correct answer, faults.py changes it, and connection.py writes it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Self

from gateway.core.json_values import parse_object
from gateway.fake.answers import (
    CUT,
    EVENT_STREAM,
    HOLD,
    Delay,
    Delta,
    Event,
    FakeAnswer,
    FakeRequest,
    FakeToolCall,
    Part,
    PromptScores,
    Script,
)
from gateway.fake.apis import api_path, correct_answer, dialect_of
from gateway.fake.connection import WRITE_BYTES, FakeConnection
from gateway.fake.faults import Fault
from gateway.fake.speech import split
from gateway.fake.wire import Received, Step, correct_steps

Headers = Mapping[str, str] | Sequence[tuple[str, str]]

ENCODED_ANSWERS = 64
_ID_COMES_FIRST = {"/chat/completions", "/completions"}


class FakeUpstream:
    """An upstream whose answers and faults a test scripts, and which records the requests it receives.

    model: listed at /v1/models, and the `model` of an answer to a request that names none.
    text: the text of chat answers until `says` is called.
    vllm: continues a last assistant message on request, and reports its load, as vLLM does.
    remember: False keeps `received` empty, for long runs.
    `load`, under vLLM's metric names, is reported by /metrics and the load header, with the running requests added.
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
        self.scores = PromptScores()
        """Scores of the tokens of prompts, for requests with `prompt_logprobs`; vllm only."""
        self.adapters: dict[str, str] = {}
        """LoRA adapters by name, each with its base model: /v1/models lists them as vLLM does."""
        self.received: list[Received] = []
        self.cancelled = 0
        self.port = 0
        self._host = "127.0.0.1"
        self._default = Script(split(text), custom=False)
        self._script = self._default
        self._fixed: FakeAnswer | None = None
        self._choose: Callable[[Received], FakeAnswer | FakeToolCall | str] | None = None
        # Plain answers by request, with the serial in their id: a benchmark sends the same request a million times.
        self._encoded: dict[tuple[str, bytes, str, bool], tuple[FakeAnswer, int]] = {}
        self._faults: deque[Fault] = deque()
        self._always: Fault | None = None
        self._share = 1.0
        self._remember = remember
        self._returned = 0
        self._requests = 0
        self._running = 0
        self._connections: set[FakeConnection] = set()
        self.connections_opened = 0
        self._held: list[FakeConnection] = []
        self._watchers: list[asyncio.Future[None]] = []
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listens. port: 0 takes a free one. May be started again after `stop`, also on the same port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: FakeConnection(self), host, port, backlog=4096)
        self._host = host
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes the port and every connection. Open requests count as done, not as cancelled."""
        server, self._server = self._server, None
        if server is None:
            return
        # In Python 3.11 a socket that was accepted before `close` and gets its transport after it is never closed.
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        await asyncio.sleep(0)
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
        """The received requests without probes of health and load."""
        return [r for r in self.received if not r.probe]

    async def next_received(self, timeout_s: float = 30) -> Received:
        """The oldest request that this method has not returned yet; waits for it."""
        await self.until(lambda _: len(self.received) > self._returned, timeout_s)
        self._returned += 1
        return self.received[self._returned - 1]

    async def until(self, predicate: Callable[[FakeUpstream], bool], timeout_s: float = 30) -> None:
        """Waits until the predicate holds. It is evaluated when a request or a connection begins or ends."""
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
            raise TimeoutError(f"the awaited state was not reached within {timeout_s:g} s: {seen}") from None

    def says(self, *parts: Part) -> None:
        """Scripts all following chat answers: each text is one delta of a stream. No parts: the default text again.

        A plain answer waits for the script's pauses first and is then sent in one piece.
        """
        self._say(Script(parts) if parts else self._default)

    def tool_call(self, name: str, arguments: str, id: str = "call_1") -> None:
        """Answers all following chat requests with this tool call. arguments: JSON text, sent unchanged."""
        self._say(Script((), tool=FakeToolCall(name, arguments, id)))

    def answers(self, status: int, body: bytes, headers: Headers = (), content_type: str = "application/json") -> None:
        """Answers all following requests except probes with exactly these bytes."""
        self._choose = None
        self._fixed = FakeAnswer(body, status=status, headers=_pairs(headers), content_type=content_type)

    def streams(
        self,
        chunks: Sequence[bytes | Delay | type[HOLD] | type[CUT]],
        content_type: str = EVENT_STREAM,
        *,
        status: int = 200,
        headers: Headers = (),
    ) -> None:
        """Streams exactly these bytes in answer to all following requests except probes, one write for each chunk."""
        events: list[Event] = []
        for chunk in chunks:
            events += [Delta(chunk), Delay(0)] if isinstance(chunk, bytes) else [chunk]
        self._choose = None
        self._fixed = FakeAnswer(
            events=events, stream=True, status=status, headers=_pairs(headers), content_type=content_type
        )

    def replies(self, choose: Callable[[Received], FakeAnswer | FakeToolCall | str]) -> None:
        """Answers each following request except probes with what `choose` returns: a text (see `says`), the call of a
        tool, or an answer."""
        self._fixed, self._choose = None, choose

    def then(self, *faults: Fault) -> None:
        """The next requests except probes get these faults, one each, in order."""
        self._faults.extend(faults)

    def always(self, fault: Fault | None, share: float = 1.0) -> None:
        """Gives all requests, probes included, this fault until the next call. share: of the requests, evenly
        spread."""
        self._always = fault
        self._share = share

    def release(self) -> None:
        """Resumes every answer that is on hold."""
        held, self._held = self._held, []
        for connection in held:
            connection.resume()

    def hang_up(self) -> None:
        """Closes the idle connections, as vLLM does with those idle for 5 s."""
        for connection in list(self._connections):
            if connection.idle:
                connection.close()

    def _say(self, script: Script) -> None:
        self._fixed = self._choose = None
        self._script = script
        self._encoded.clear()

    def connection_opened(self, connection: FakeConnection) -> int:
        self._connections.add(connection)
        self.connections_opened += 1
        if self._server is None:  # accepted before the port was closed
            connection.abort()
        self._changed()
        return self.connections_opened

    def hold(self, connection: FakeConnection) -> None:
        """Remembers a connection whose answer stops until `release`."""
        self._held.append(connection)

    def connection_closed(self, connection: FakeConnection, unanswered: Received | None) -> None:
        self._connections.discard(connection)
        if connection in self._held:
            self._held.remove(connection)
        if unanswered is not None:
            unanswered.cancelled = self._server is not None  # after stop() the fake itself closes it
            self.cancelled += unanswered.cancelled
            self.request_answered(unanswered)
        self._changed()

    def next_serial(self) -> int:
        self._requests += 1
        return self._requests

    def steps_for(self, received: Received) -> Iterable[Step]:
        """The steps of this request's answer. Counts and remembers the request."""
        self._running += 1
        if self._remember:
            self.received.append(received)
        self._changed()
        answer = self._correct_answer(received)
        fault = self._fault(received)
        return fault.bend(received, answer) if fault else correct_steps(received, answer)

    def request_answered(self, received: Received) -> None:
        self._running -= 1
        received.done.set()
        self._changed()

    def _fault(self, received: Received) -> Fault | None:
        if self._faults and not received.probe:
            return self._faults.popleft()
        before, after = int((received.serial - 1) * self._share), int(received.serial * self._share)
        return self._always if after > before else None

    def _correct_answer(self, received: Received) -> FakeAnswer:
        path = api_path(received.path)
        if self._fixed is not None and not received.probe:
            return replace(self._fixed, dialect=dialect_of(path))
        orca = received.header("endpoint-load-metrics-format")
        if self._choose is not None and not received.probe:
            chosen = self._choose(received)
            if isinstance(chosen, FakeAnswer):
                return replace(chosen, dialect=dialect_of(path))
            script = Script((), tool=chosen) if isinstance(chosen, FakeToolCall) else Script((chosen,))
            return correct_answer(replace(self._ask(received, path, orca), script=script))
        key = (path, received.body, self.model, self.vllm)
        known = self._encoded.get(key) if orca is None else None
        if known is not None:
            answer, serial = known
            return replace(answer, body=answer.body.replace(b"-fake-%d" % serial, b"-fake-%d" % received.serial, 1))
        answer = correct_answer(self._ask(received, path, orca))
        short = len(received.body) < WRITE_BYTES and b"prompt_logprobs" not in received.body
        if path in _ID_COMES_FIRST and short and not answer.stream and orca is None:
            if len(self._encoded) == ENCODED_ANSWERS:
                self._encoded.clear()
            self._encoded[key] = answer, received.serial
        return answer

    def _ask(self, received: Received, path: str, orca: str | None) -> FakeRequest:
        return FakeRequest(
            serial=received.serial,
            method=received.method,
            path=path,
            content_type=received.header("content-type") or "",
            body=received.body,
            fields=parse_object(received.body) or {},
            script=self._script,
            default_model=self.model,
            vllm=self.vllm,
            orca=orca,
            load={"num_requests_running": float(self._running)} | self.load,
            scores=self.scores,
            adapters=self.adapters,
        )

    def _changed(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)


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
