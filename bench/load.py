"""Load: requests from wrk, streams over raw sockets. cost.py says what they cost."""

from __future__ import annotations

import gc
import json
import random
import re
import selectors
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path
from typing import Self

HOST = "127.0.0.1"
_PATIENCE_S = 120.0
_DONE = b"data: [DONE]"
_TOKEN = b'"content":"t'  # in every event of `gateway fake` that carries text
_LAST_CHUNK = b"0\r\n\r\n"


class Wrong(Exception):
    """An answer that was not the one expected; the message says what came."""


class NoneEnded(Wrong):
    """No answer came in the time of the run, which may be too short for this machine."""


def free_port() -> int:
    with socket.socket() as s:
        s.bind((HOST, 0))
        return int(s.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests that wrk counted."""

    n: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.n / self.seconds


_LUA = """
local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end
wrk.method, wrk.body = "POST", read("$BODY")
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer $KEY"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nresult {"n": %d, "us": %d, "p50_us": %d, "p99_us": %d, "errors": [%d, %d, %d, %d, %d]}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect, e.read, e.write, e.timeout))
end
"""
_LUA_MIX = """
local paths, order, n = {$PATHS}, {$ORDER}, 0
local requests = {}
function init()
  for i, path in ipairs(paths) do requests[i] = wrk.format("POST", nil, nil, read(path)) end
end
function request()
  n = n % #order + 1
  return requests[order[n]]
end
function delay() return math.random(0, $DELAY) end
"""


@dataclass(frozen=True, slots=True)
class Wrk:
    """One kind of request. directory: for its files."""

    directory: Path
    key: str
    body: bytes

    def run(self, port: int, connections: int, seconds: int, headers: Mapping[str, str] | None = None) -> Requests:
        """Raises Wrong when an answer was not 2xx, or did not come."""
        script = self._script()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", str(script)]
        command += [word for name, value in (headers or {}).items() for word in ("-H", f"{name}: {value}")]
        url = f"http://{HOST}:{port}/v1/chat/completions"
        out = subprocess.run([*command, url], capture_output=True, text=True, timeout=seconds + 90, check=False)
        line = out.stdout.rpartition("\nresult ")[2]
        if out.returncode or not line.startswith("{"):
            raise Wrong(f"wrk: {(out.stderr or out.stdout).strip()[-300:]}")
        report = json.loads(line)
        if not any(report["errors"]) and not report["n"]:
            raise NoneEnded(f"no answer within {seconds} s")
        if any(report["errors"]):
            kinds = zip(("not 2xx", "connect", "read", "write", "timeout"), report["errors"], strict=True)
            raise Wrong(f"{report['n']} answers, " + ", ".join(f"{kind} {n}" for kind, n in kinds if n))
        return Requests(report["n"], report["us"] / 1e6, report["p50_us"] / 1e3, report["p99_us"] / 1e3)

    def _script(self) -> Path:
        stem = self.directory / f"{len(self.body)}"
        stem.with_suffix(".body").write_bytes(self.body)
        text = _LUA.replace("$BODY", str(stem.with_suffix(".body"))).replace("$KEY", self.key)
        stem.with_suffix(".lua").write_text(text)
        return stem.with_suffix(".lua")


@dataclass(frozen=True, slots=True)
class WrkMix(Wrk):
    """Several requests in turn. body: the first of them. order: numbers of `bodies`, from 0, over and over again.

    delay_ms: a client waits for up to twice this long before it asks again.
    """

    bodies: tuple[bytes, ...]
    order: tuple[int, ...]
    delay_ms: int = 0

    def _script(self) -> Path:
        paths = [self.directory / f"mix-{len(each)}.body" for each in self.bodies]
        for path, each in zip(paths, self.bodies, strict=True):
            path.write_bytes(each)
        mix = _LUA_MIX.replace("$PATHS", ", ".join(f'"{path}"' for path in paths))
        mix = mix.replace("$ORDER", ", ".join(str(n + 1) for n in self.order))
        mix = mix.replace("$DELAY", str(2 * self.delay_ms)) if self.delay_ms else mix.partition("function delay")[0]
        script = self.directory / f"mix-{self.delay_ms}-{len(self.bodies)}.lua"
        script.write_text(_LUA.replace("$BODY", str(paths[0])).replace("$KEY", self.key) + mix)
        return script


def with_headers(request: bytes, headers: Mapping[str, str]) -> bytes:
    line, _, rest = request.partition(b"\r\n")
    more = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
    return line + b"\r\n" + more + rest


def answers(port: int, request: bytes) -> bool:
    """Whether this request is answered with 200."""
    try:
        with socket.create_connection((HOST, port), timeout=10) as s:
            s.sendall(request)
            return s.recv(4096)[8:12] == b" 200"
    except OSError:
        return False


@dataclass(slots=True)
class Clients:
    """Clients that ask, read the answer, rest for a random time, and ask again; their connections stay open.

    rest_s: from … to. It is in no latency, and exact to some 0.05 ms: select(), unlike epoll, knows shorter times than
    milliseconds.
    """

    port: int
    connections: int
    rest_s: tuple[float, float]
    rng: random.Random
    _resting: list[socket.socket] = field(default_factory=list)
    _selector: selectors.SelectSelector = field(default_factory=selectors.SelectSelector)

    def __enter__(self) -> Self:
        for _ in range(self.connections):
            sock = socket.create_connection((HOST, self.port), timeout=10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(sock, selectors.EVENT_READ)
            self._resting.append(sock)
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def ask(self, request: bytes, seconds: float) -> list[float]:
        """Seconds that each answer took, of those asked for in that time; all are waited for. Raises Wrong."""
        gc.disable()  # a pause of ours would be in the latency
        try:
            return self._ask(request, time.perf_counter() + seconds)
        finally:
            gc.enable()

    def _ask(self, request: bytes, until: float) -> list[float]:
        took: list[float] = []
        asked: dict[socket.socket, float] = {}
        now = time.perf_counter()
        due = [(now + self.rng.random() * self.rest_s[1], n, sock) for n, sock in enumerate(self._resting)]
        heapify(due)
        while asked or (due and due[0][0] < until):
            wait_s = _PATIENCE_S if not due or due[0][0] >= until else due[0][0] - time.perf_counter()
            for key, _ in self._selector.select(max(0.0, wait_s)):
                sock: socket.socket = key.fileobj  # type: ignore[assignment]
                _whole(sock)
                now = time.perf_counter()
                took.append(now - asked.pop(sock))
                heappush(due, (now + self.rng.uniform(*self.rest_s), len(took) + self.connections, sock))
            now = time.perf_counter()
            while due and due[0][0] <= now and due[0][0] < until:
                sock = heappop(due)[2]
                asked[sock] = time.perf_counter()
                sock.sendall(request)
        return took


def _whole(sock: socket.socket) -> None:
    """Reads an answer to its end. Raises Wrong where it is not 200, or has no length."""
    data = sock.recv(65536)
    while b"\r\n\r\n" not in data and (more := sock.recv(65536)):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if not head.startswith(b"HTTP/1.1 200") or length is None:
        raise Wrong(f"instead of an answer: {data[:200]!r}")
    left = int(length[1]) - len(body)
    while left:
        more = sock.recv(65536)
        if not more:
            raise Wrong("an answer broke off")
        left -= len(more)


_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(slots=True, eq=False)
class _Open:
    """A connection on which a stream is being read. tail: its last bytes."""

    sock: socket.socket
    head: bytes = b""
    tail: bytes = b""

    def ask(self, request: bytes) -> None:
        self.head = self.tail = b""
        self.sock.sendall(request)

    def took(self, data: bytes) -> bool:
        """Whether the stream has ended well. Raises Wrong when it has ended, or begun, otherwise."""
        self.tail = (self.tail + data)[-64:]
        if len(self.head) < 12:
            self.head = (self.head + data)[:12]
            if not b"HTTP/1.1 200".startswith(self.head):
                raise Wrong(f"instead of a stream: {data[:200]!r}")
        if not data or self.tail.endswith(_LAST_CHUNK):
            if _DONE in self.tail:
                return True
            raise Wrong(f"a stream ended with {self.tail!r}")
        return False


@dataclass(slots=True)
class Streams:
    """Many streams at once, read by one thread."""

    port: int
    request: bytes
    ended: int = 0
    _at_work: int = 0
    _selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)

    def run(self, connections: int, seconds: float) -> int:
        """Asks again on each connection until the time is over, and lets all end: no stream is counted by halves."""
        deadline = time.monotonic() + seconds
        with ExitStack() as stack:
            self._open(connections, stack)
            while self._at_work:
                for each in self._read(deadline + _PATIENCE_S):
                    self.ended += 1
                    if time.monotonic() < deadline:
                        each.ask(self.request)
                    else:
                        self._at_work -= 1
        return self.ended

    def hold(self, connections: int, seconds: float, look: Callable[[], float]) -> float:
        """Reads that many streams until each has begun, and for this long after; looks while all are open."""
        with ExitStack() as stack:
            opened = self._open(connections, stack)
            deadline = time.monotonic() + _PATIENCE_S
            while not all(each.head for each in opened):
                self._read(deadline)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if self._read(deadline):
                    raise Wrong("streams that were to stay open have ended")
            return look()

    def gaps(self, connections: int, seconds: float, look: Callable[[], float]) -> tuple[list[float], float]:
        """Keeps that many streams open for this long after all have begun: seconds between the events of each, and what
        `look` then says."""
        last: dict[_Open, float] = {}
        gaps: list[float] = []
        with ExitStack() as stack:
            opened = self._open(connections, stack)
            deadline = time.monotonic() + _PATIENCE_S
            while not all(each.head for each in opened):
                self._read(deadline)
            end = time.monotonic() + seconds
            while (now := time.monotonic()) < end:
                for key, _ in self._selector.select(0.5):
                    each: _Open = key.data
                    if each.took(each.sock.recv(65536)):
                        raise Wrong("streams that were to stay open have ended")
                    now = time.monotonic()
                    if each in last:
                        gaps.append(now - last[each])
                    last[each] = now
            return gaps, look()

    def _open(self, connections: int, stack: ExitStack) -> list[_Open]:
        stack.callback(self._selector.close)
        opened = []
        for _ in range(connections):
            sock = stack.enter_context(socket.create_connection((HOST, self.port), timeout=10))
            each = _Open(sock)
            self._selector.register(sock, selectors.EVENT_READ, each)
            each.ask(self.request)
            opened.append(each)
        self._at_work = connections
        return opened

    def _read(self, deadline: float) -> list[_Open]:
        """Reads the streams, and returns those that have ended."""
        if time.monotonic() > deadline:
            raise Wrong(f"not all {self._at_work} streams were answered in time")
        ready = [key.data for key, _ in self._selector.select(0.5)]
        return [each for each in ready if each.took(each.sock.recv(65536))]


@dataclass(frozen=True, slots=True)
class Paced:
    """Times of streams read one at a time: seconds to each first token, and between tokens."""

    first_s: list[float]
    gaps_s: list[float]


def paced(port: int, request: bytes, seconds: float) -> Paced:
    found = Paced([], [])
    deadline = time.monotonic() + seconds
    with socket.create_connection((HOST, port), timeout=30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        each = _Open(sock)
        while time.monotonic() < deadline:
            asked = time.perf_counter()
            each.ask(request)
            at = _token_times(each)
            found.first_s.append(at[0] - asked)
            found.gaps_s.extend(b - a for a, b in pairwise(at))
    return found


def _token_times(each: _Open) -> list[float]:
    """Times of each token of one stream; tokens that came in one read came at once."""
    times: list[float] = []
    seen = b""
    while True:
        data = each.sock.recv(65536)
        now = time.perf_counter()
        seen += data
        times += [now] * (seen.count(_TOKEN) - len(times))
        if each.took(data):
            return times
