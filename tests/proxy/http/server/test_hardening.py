"""Attacks on a real socket: refused with a reason or bounded, and never two requests out of one."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from fixtures.examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.proxy.http.server.request import ServerRequest


class App:
    """Answers every request with what it heard, and notes it."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.headers: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        self.heard.append((scope["path"], body))
        self.headers.append(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


POST = b"POST /first HTTP/1.1\r\nHost: x\r\n"
SECOND = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

SMUGGLING = {
    "both lengths": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND,
    "both, the other way round": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SECOND,
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 34\r\n\r\n" + SECOND,
    "the same length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello" + SECOND,
    "a list of lengths": POST + b"Content-Length: 0, 34\r\n\r\n" + SECOND,
    "a signed length": POST + b"Content-Length: +0\r\n\r\n" + SECOND,
    "a negative length": POST + b"Content-Length: -1\r\n\r\n" + SECOND,
    "a length beyond 64 bits": POST + b"Content-Length: 99999999999999999999999\r\n\r\n" + SECOND,
    "a length in hex": POST + b"Content-Length: 0x5\r\n\r\nhello" + SECOND,
    "a space before the colon": POST + b"Content-Length : 34\r\n\r\n" + SECOND,
    "a folded header": POST + b"X: y\r\n Content-Length: 34\r\n\r\n" + SECOND,
    "a tab-folded header": POST + b"X: y\r\n\tfolded\r\n\r\n" + SECOND,
    "a bare line feed in a head": POST + b"X: y\nContent-Length: 34\r\n\r\n" + SECOND,
    "a bare carriage return": POST + b"X: y\rContent-Length: 34\r\n\r\n" + SECOND,
    "two hosts": POST + b"hOST: y\r\n\r\n" + SECOND,
    "the same host twice": POST + b"Host: x\r\n\r\n" + SECOND,
    "NUL in a header": POST + b"X: y\0z\r\n\r\n" + SECOND,
    "no name": POST + b": y\r\n\r\n" + SECOND,
    "an unknown coding": POST + b"Transfer-Encoding: gzip\r\n\r\n" + SECOND,
    "a coding after chunked": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SECOND,
    "chunked behind a control character": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SECOND,
    "a chunk size beyond 64 bits": CHUNKED + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n" + SECOND,
    "a chunk size with 0x": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n" + SECOND,
    "a chunk longer than it says": CHUNKED + b"2\r\nhello\r\n0\r\n\r\n" + SECOND,
    "a chunk's line feed alone": CHUNKED + b"5\nhello\n0\n\n" + SECOND,
    "an upgrade with chunks": POST
    + b"Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
    + SECOND,
    "a coding before chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SECOND,
    "chunks in HTTP/1.0": b"POST /first HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND,
    "HTTP/0.9": b"GET /first\r\n\r\n" + SECOND,
    "HTTP/2 in a line": b"GET /first HTTP/2.0\r\nHost: x\r\n\r\n" + SECOND,
    "a fragment in the target": b"GET /first#x HTTP/1.1\r\nHost: x\r\n\r\n" + SECOND,
    "a user in the target": b"GET http://x@y/first HTTP/1.1\r\nHost: y\r\n\r\n" + SECOND,
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SECOND,
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + SECOND,
}


@pytest.mark.parametrize("raw", SMUGGLING.values(), ids=SMUGGLING.keys())
async def test_ambiguous_requests_are_refused_whole(talk: Any, raw: bytes) -> None:
    """The error has OpenAI's shape, unless the request before it was being answered; and the connection ends."""
    app = App()
    line = await talk(app)
    await line.say(raw)
    came = await line.rest()
    assert "/smuggled" not in [path for path, _ in app.heard]
    head, _, body = came.partition(b"\r\n\r\n")
    if head:
        assert head.startswith(b"HTTP/1.1 400 Bad Request")
        assert b"content-type: application/json" in head
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
    else:
        assert raw.startswith(CHUNKED), "only what was begun ends without a word"


async def test_a_request_without_a_host_is_answered(talk: Any) -> None:
    """RFC 9112 wants 400; simple clients leave it out, and nothing here depends on it."""
    app = App()
    line = await talk(app)
    for _ in range(2):
        await line.say(b"GET /fine HTTP/1.1\r\n\r\n")
        await line.until(b"ok")
    assert len(app.heard) == 2


@pytest.mark.parametrize(
    ("target", "host"), [(b"http://Evil.example:8/a?b", b"evil.example:8"), (b"http://[::1]/a", b"[::1]")]
)
async def test_the_host_of_an_absolute_target_goes_before_the_headers(talk: Any, target: bytes, host: bytes) -> None:
    """RFC 9112, section 3.2.2: else /metrics would be shown for a name that only the header calls loopback."""
    app = App()
    line = await talk(app)
    await line.say(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await line.until(b"ok")
    assert app.heard == [("/a", b"")]
    assert [value.lower() for name, value in app.headers[0] if name == b"host"] == [host]


async def test_trailers_are_not_headers(talk: Any) -> None:
    app = App()
    line = await talk(app)
    await line.say(CHUNKED + b"5\r\nhello\r\n0\r\nAuthorization: Bearer stolen\r\nX-A: b\r\n\r\n")
    await line.until(b"ok")
    assert app.heard == [("/first", b"hello")]
    assert [name for name, _ in app.headers[0]] == [b"host", b"transfer-encoding"]


OVERSIZED = {
    "one long header": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 80_000,
    "one long header, whole": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 80_000 + b"\r\n\r\n",
    "headers of 1 KB": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: %b\r\n" % (b"y" * 1000) * 80,
    "a long path": b"GET /" + b"y" * 80_000,
}


@pytest.mark.parametrize("raw", OVERSIZED.values(), ids=OVERSIZED.keys())
@pytest.mark.parametrize("piece", [4000, 40_000])
async def test_a_head_above_the_limit_is_refused_in_any_split(talk: Any, raw: bytes, piece: int) -> None:
    app = App()
    line = await talk(app)
    for at in range(0, len(raw), piece):
        await line.say(raw[at : at + piece])
    came = await line.rest()
    assert came.startswith(b"HTTP/1.1 431 ")
    assert json.loads(came.partition(b"\r\n\r\n")[2])["error"]["message"] == "the request's headers are above 64 KB"
    assert not app.heard


ENDLESS = {
    "a chunk's extension": CHUNKED + b"5;" + b"x" * 200_000,
    "trailers": CHUNKED + b"0\r\n" + b"T: x\r\n" * 40_000,
    "one trailer": CHUNKED + b"0\r\nT: " + b"x" * 200_000,
}


@pytest.mark.parametrize("raw", ENDLESS.values(), ids=ENDLESS.keys())
async def test_bytes_before_a_body_are_bounded(talk: Any, raw: bytes) -> None:
    app = App()
    line = await talk(app)
    for at in range(0, len(raw), 4000):
        await line.say(raw[at : at + 4000])
    assert await line.rest() == b""
    assert not app.heard


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX: y"])
async def test_an_incomplete_head_times_out(talk: Any, begun: bytes) -> None:
    line = await talk(App(), head_s=0.2)
    await line.say(begun)
    came = await line.rest()
    assert came.startswith(b"HTTP/1.1 408 Request Timeout")
    assert b"did not arrive in time" in came


async def test_a_head_that_drips_has_no_more_time_than_one_that_rests(talk: Any) -> None:
    """A byte now and then does not begin the time again."""
    line = await talk(App(), head_s=0.3)
    ended = asyncio.get_running_loop().create_task(line.rest())
    async with asyncio.timeout(60):
        while not ended.done():
            await line.say(b"X")
            await asyncio.sleep(0.02)
    assert ended.result().startswith(b"HTTP/1.1 4")


async def test_a_body_that_stalls_is_a_disconnect(talk: Any) -> None:
    left = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    line = await talk(app, body_s=0.2, head_s=0.1)
    await line.say(POST + b"Content-Length: 100\r\n\r\nhalf")
    assert await line.rest() == b""
    assert left.is_set()


@pytest.mark.parametrize("framing", ["short", "long", "chunked"])
async def test_a_body_that_keeps_flowing_is_not_cut(talk: Any, framing: str) -> None:
    """body_s is the time between two pieces, also of a body so long that it bypasses the parser."""
    size = 200_000 if framing == "long" else 1000
    pieces = 20
    app, piece = App(), b"x" * (size // pieces)
    line = await talk(app, body_s=1.5, head_s=1.5)
    length = b"Transfer-Encoding: chunked" if framing == "chunked" else b"Content-Length: %d" % size
    await line.say(POST + length + b"\r\n\r\n")
    for _ in range(pieces):
        await asyncio.sleep(0.12)  # 2.4 s in all
        await line.say(b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece)
    if framing == "chunked":
        await line.say(b"0\r\n\r\n")
    await line.until(b"ok")
    assert app.heard == [("/first", piece * pieces)]


async def test_no_time_runs_while_the_application_does_not_read(talk: Any) -> None:
    """The client cannot send while reading is paused."""
    read = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read.wait()
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % size})

    line = await talk(app, body_s=1.5, head_s=1.5)
    sending = asyncio.get_running_loop().create_task(
        line.say(POST + b"Content-Length: 8000000\r\n\r\n" + b"x" * 8_000_000)
    )
    await asyncio.sleep(3.5)  # longer than both limits
    read.set()
    assert b"8000000" in await line.until(b"0\r\n\r\n")
    await sending


@pytest.mark.parametrize("size", [1000, 1_000_000])
async def test_the_rest_of_a_refused_request_does_not_drip_forever(talk: Any, size: int) -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    line = await talk(refuse, head_s=0.4)
    await line.say(POST + b"Content-Length: %d\r\n\r\n" % size)
    assert b"401" in await line.until(b"\r\n\r\n")
    ended = asyncio.get_running_loop().create_task(line.rest())
    async with asyncio.timeout(50):
        while not ended.done():
            await line.say(b"x")
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("piece", [400, 400_000])
async def test_a_request_has_at_most_200_headers(talk: Any, piece: int) -> None:
    app = App()
    line = await talk(app)
    await line.say(b"GET /fine HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n")
    await line.until(b"ok")
    raw = b"GET /many HTTP/1.1\r\n" + b"X: y\r\n" * 201 + b"\r\n"
    for at in range(0, len(raw), piece):
        await line.say(raw[at : at + piece])
    came = await line.rest()
    assert came.startswith(b"HTTP/1.1 431 ")
    assert b"more than 200 headers" in came
    assert [path for path, _ in app.heard] == ["/fine"]


async def test_pipelined_requests_wait_unparsed(talk: Any) -> None:
    """13 000 requests in a read take 1.3 KB each once they are parsed; at most those of one slice are."""
    begun, release = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    line = await talk(app)
    before = sum(isinstance(each, ServerRequest) for each in gc.get_objects())
    n = 13_000
    sending = asyncio.get_running_loop().create_task(line.say(b"GET / HTTP/1.1\r\n\r\n" * n))
    await begun.wait()
    parsed = sum(isinstance(each, ServerRequest) for each in gc.get_objects()) - before
    assert 1 <= parsed <= 250
    release.set()
    for _ in range(n):
        await line.until(b"ok")
    await sending


async def test_a_client_that_reads_nothing_is_left(talk: Any) -> None:
    """The connection is closed, too, once the response is complete, and when it was not a stream."""
    failed = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 20_000_000})
        failed.set()

    line = await talk(app, write_s=0.2)
    await line.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await failed.wait()
    async with asyncio.timeout(30):
        while line.server.server_state.connections:
            await line.pause()


async def test_a_client_that_reads_slowly_is_kept(talk: Any) -> None:
    """Each pause is below write_s, and all together are above it."""
    size = 8_000_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        await send({"type": "http.response.body", "body": b"x" * size})

    line = await talk(app, write_s=1.5)
    await line.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await line.until(b"\r\n\r\n")
    came = 0
    while came < size:
        piece = await line.reader.read(1 << 20)
        assert piece, f"cut after {came} bytes"
        came += len(piece)
        await asyncio.sleep(0.02)


async def test_tiny_chunks_take_no_more_than_their_bytes(talk: Any) -> None:
    tracemalloc.start()
    try:
        held = ServerRequest(Source(), b"POST", b"/", b"", [], keep_alive=True, http10=False)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100_000):
            held.add(b"ab")
        assert tracemalloc.get_traced_memory()[0] - before < 1_000_000
        held.complete = True
        assert await held.body(1 << 20) == b"ab" * 100_000
    finally:
        tracemalloc.stop()


class Source:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.peer = ""
        self.memory = None

    def read_more(self) -> None: ...


async def test_an_idle_connection_is_closed_silently(talk: Any) -> None:
    line = await talk(App(), head_s=0.1, keep_alive_s=0)
    await line.say(b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n")
    await line.until(b"ok")
    assert await line.rest() == b""


async def test_pipelined_requests_are_answered_one_at_a_time_in_order(talk: Any) -> None:
    under_way, most = 0, 0
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        heard.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        under_way -= 1

    line = await talk(app)
    await line.say(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(500)))
    await line.say(b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await line.rest()).count(b"HTTP/1.1 200 OK") == 501
    assert heard == [*(f"/{n}" for n in range(500)), "/last"]
    assert most == 1


PIECES = st.sampled_from(
    [POST, CHUNKED, SECOND, b"5\r\nhello\r\n", b"0\r\n\r\n", b"Content-Length: 5\r\n", b"\r\n", b"hello", b"\n", b"\0",
     b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n",
     b" ", b"Connection: upgrade\r\n", b"HEAD / HTTP/1.0\r\n\r\n"]
)  # fmt: skip


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES | st.binary(max_size=20), max_size=8), st.lists(st.integers(0, 400), max_size=4))
async def test_any_bytes_end_in_answers_that_are_whole(talk: Any, parts: list[bytes], cuts: list[int]) -> None:
    line = await talk(App())
    raw = b"".join(parts)
    marks = sorted({0, *(c for c in cuts if c < len(raw)), len(raw)})
    for start, end in pairwise(marks):
        await line.say(raw[start:end])
    line.writer.write_eof()
    came = await line.rest()
    for answer in re.split(rb"HTTP/1\.1 (?=\d)", came)[1:]:
        assert answer[:3] in (b"200", b"400", b"100"), came
        assert b"\r\n\r\n" in answer
