"""Load: requests from wrk, streams over raw sockets. cost.py says what they cost."""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

HOST = "127.0.0.1"
_PATIENCE_S = 120.0
_DONE = b"data: [DONE]"
_TOKEN = b'"content":"t'  # in every event of `gateway fake` that carries text
_LAST_CHUNK = b"0\r\n\r\n"


class Wrong(Exception):
    """An answer that was not the one expected; the message says what came."""


def free_port() -> int:
    with socket.socket() as s:
        s.bind((HOST, 0))
        return int(s.getsockname()[1])


# ── requests ──


@dataclass(frozen=True, slots=True)
class Requests:
    """What wrk saw."""

    n: int
    seconds: float
    p50_ms: float
    p99_ms: float


_LUA = """
local file = assert(io.open("$BODY", "rb"))
wrk.method, wrk.body = "POST", file:read("*a")
file:close()
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer $KEY"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nresult {"n": %d, "us": %d, "p50_us": %d, "p99_us": %d, "errors": [%d, %d, %d, %d, %d]}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect, e.read, e.write, e.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Wrk:
    """One kind of request. directory: for its files. pause_ms: from … to, before each request of a connection; it is in
    no latency."""

    directory: Path
    key: str
    body: bytes
    pause_ms: tuple[int, int] | None = None

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
        said = json.loads(line)
        if any(said["errors"]) or not said["n"]:
            kinds = zip(("not 2xx", "connect", "read", "write", "timeout"), said["errors"], strict=True)
            raise Wrong(f"{said['n']} answers, " + ", ".join(f"{kind} {n}" for kind, n in kinds if n))
        return Requests(said["n"], said["us"] / 1e6, said["p50_us"] / 1e3, said["p99_us"] / 1e3)

    def _script(self) -> Path:
        stem = self.directory / f"{len(self.body)}"
        stem.with_suffix(".body").write_bytes(self.body)
        text = _LUA.replace("$BODY", str(stem.with_suffix(".body"))).replace("$KEY", self.key)
        if self.pause_ms:
            text += "function delay() return math.random({}, {}) end\n".format(*self.pause_ms)
        stem.with_suffix(".lua").write_text(text)
        return stem.with_suffix(".lua")


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


# ── streams ──


@dataclass(slots=True)
class _Open:
    """A connection on which a stream is being read. tail: its last bytes."""

    sock: socket.socket
    head: bytes = b""
    tail: bytes = b""

    def ask(self, request: bytes) -> None:
        self.head = self.tail = b""
        self.sock.sendall(request)

    def took(self, data: bytes) -> bool:
        """True: the stream has ended well. Raises Wrong when it has ended, or begun, otherwise."""
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
        """Asks anew on each connection until the time is over, and lets all end: no stream is counted by halves."""
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
        """Those whose stream has ended."""
        if time.monotonic() > deadline:
            raise Wrong(f"not all {self._at_work} streams were answered in time")
        ready = [key.data for key, _ in self._selector.select(0.5)]
        return [each for each in ready if each.took(each.sock.recv(65536))]


@dataclass(frozen=True, slots=True)
class Paced:
    """Of streams read one at a time: seconds to each first token, and between tokens."""

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
    """When each token of one stream came; tokens that came in one read came at once."""
    times: list[float] = []
    seen = b""
    while True:
        data = each.sock.recv(65536)
        now = time.perf_counter()
        seen += data
        times += [now] * (seen.count(_TOKEN) - len(times))
        if each.took(data):
            return times
