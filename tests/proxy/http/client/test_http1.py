"""Properties of the lean transport alone: its pool, its counters, uploads answered early, back-pressure."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.core.errors import BodyCut, ConnectFailed, ConnectionLost, ConnectTimeout
from gateway.proxy.http.client.http1 import Http1Transport, encode_head
from gateway.proxy.http.client.tls import UpstreamTls
from gateway.proxy.http.client.transport import UpstreamRequest

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"


@pytest.fixture
async def http1(peer: Any) -> AsyncIterator[Http1Transport]:
    """The gateway's own HTTP/1.1 transport, which sweeps no idle connection during a test."""
    # idle_s beyond any test's patience, so that the sweeper cannot do what the code under test should have done.
    async with contextlib.aclosing(Http1Transport(idle_s=60)) as transport:
        yield transport


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Waits for a state that nothing announces: looks again after each turn of the event loop."""

    async def until(state: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not state():
                await asyncio.sleep(0.001)

    return until


@pytest.fixture
def still() -> Callable[[Callable[[], int]], Awaitable[int]]:
    """still(count): the count after it has not changed for a tenth of a second."""

    async def still(count: Callable[[], int]) -> int:
        seen, times = count(), 0
        while times < 20 or not seen:
            await asyncio.sleep(0.005)
            seen, times = count(), times + 1 if count() == seen else 0
        return seen

    return still


class Parts:
    """A body in parts."""

    async def __aiter__(self):
        yield b"1234567"


@pytest.mark.parametrize(
    ("request_", "head"),
    [
        (UpstreamRequest(b"GET", "", b"/a?b", [(b"x", b"1"), (b"x", b"2")]), b"GET /a?b HTTP/1.1|host: h|x: 1|x: 2||"),
        (UpstreamRequest(b"POST", "", b"/", [], b"hello"), b"POST / HTTP/1.1|host: h|content-length: 5||"),
        (UpstreamRequest(b"GET", "", b"/", [], b"hello"), b"GET / HTTP/1.1|host: h|content-length: 5||"),
        (UpstreamRequest(b"POST", "", b"/"), b"POST / HTTP/1.1|host: h|content-length: 0||"),
        (UpstreamRequest(b"POST", "", b"/", [], Parts()), b"POST / HTTP/1.1|host: h|transfer-encoding: chunked||"),
        (UpstreamRequest(b"POST", "", b"/", [], Parts(), 7), b"POST / HTTP/1.1|host: h|content-length: 7||"),
    ],
)
def test_a_head_holds_what_was_given_and_nothing_else(request_, head):
    assert encode_head(request_, b"h") == head.replace(b"|", b"\r\n")


@pytest.mark.parametrize("evil", [b"a\r\nb", b"a\nb", b"a\rb"])
def test_a_line_break_is_refused_wherever_it_hides(evil):
    for request in (
        UpstreamRequest(evil, "", b"/"),
        UpstreamRequest(b"GET", "", evil),
        UpstreamRequest(b"GET", "", b"/", [(evil, b"x")]),
        UpstreamRequest(b"GET", "", b"/", [(b"x", evil)]),
    ):
        with pytest.raises(ValueError, match="line break"):
            encode_head(request, b"h")


# the pool, as a caller sees it


async def test_counters_tell_what_became_of_the_connections(peer, http1, ask, read):
    peer.says(HELLO)
    assert http1.idle(peer.origin) == 0

    await read(await http1.send(ask(), 5))
    await read(await http1.send(ask(), 5))

    assert (http1.opened, http1.reused, http1.retried, http1.idle(peer.origin)) == (1, 1, 0, 1)


async def test_a_connection_is_free_as_soon_as_the_body_has_come(peer, http1, ask):
    """The connection is free even if the body has not been read yet."""
    peer.says(HELLO)

    reply = await http1.send(ask(), 5)

    assert http1.idle(peer.origin) == 1
    reply.close()
    assert await reply.chunk() == b"hello"


async def test_the_last_used_connection_is_taken_first(peer, http1, ask, read):
    async def script(link):
        while asked := await link.request():
            await peer.note(asked)
            if asked.line.startswith("GET /slow"):
                await peer.until(lambda: len(peer.asked) == 2)
            await link.say(OK + b"Content-Length: 1\r\n\r\n%d" % link.number)

    peer.plays(script)
    slow = asyncio.get_running_loop().create_task(http1.send(ask(b"/slow", method=b"GET"), 5))
    await peer.until(lambda: len(peer.asked) == 1)
    quick = await read(await http1.send(ask(), 5))
    first = await read(await slow)
    assert (first, quick) == (b"1", b"2")

    order = [await read(await http1.send(ask(), 5)) for _ in range(3)]
    assert len(set(order)) == 1
    assert http1.idle(peer.origin) == 2


async def test_origins_do_not_share_connections(peer, tls_peer, certificates, ask, read):
    peer.says(HELLO)
    tls_peer.says(HELLO)
    async with contextlib.aclosing(Http1Transport(tls=UpstreamTls(str(certificates.ca)))) as http1:
        for origin in (peer.origin, tls_peer.origin, peer.origin.replace("127.0.0.1", "localhost")):
            await read(await http1.send(ask(origin=origin), 5))
        assert (http1.opened, http1.reused) == (3, 0)


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.mark.parametrize(
    ("header", "rest_s"),
    [
        (b"", 3.5),
        (b"Keep-Alive: timeout=2\r\n", 1.0),
        (b"Keep-Alive: timeout=20\r\n", 19.0),
        (b"Keep-Alive: timeout=999\r\n", 60.0),
    ],
)
async def test_a_connection_idle_too_long_is_closed_not_reused(peer, ask, read, header, rest_s):
    clock = Clock()
    peer.says(OK + header + b"Content-Length: 5\r\n\r\nhello")
    async with contextlib.aclosing(Http1Transport(clock=clock)) as http1:
        await read(await http1.send(ask(), 5))
        clock.now_s += rest_s - 0.01
        await read(await http1.send(ask(), 5))
        assert (http1.opened, http1.reused) == (1, 1)

        clock.now_s += rest_s + 0.01
        await read(await http1.send(ask(), 5))
        assert (http1.opened, http1.reused) == (2, 1)
        await peer.until(lambda: peer.ended == 1)


async def test_a_peer_that_keeps_nothing_is_not_reused(peer, http1, ask, read):
    peer.says(OK + b"Keep-Alive: timeout=1\r\nContent-Length: 5\r\n\r\nhello")

    await read(await http1.send(ask(), 5))

    assert http1.idle(peer.origin) == 0


async def test_resting_connections_are_closed_without_being_asked_for(peer, ask, read):
    peer.says(HELLO)
    async with contextlib.aclosing(Http1Transport(idle_s=0.02)) as http1:
        await read(await http1.send(ask(), 5))
        await peer.until(lambda: peer.ended == 1)
        assert http1.idle(peer.origin) == 0


@pytest.mark.parametrize("how", ["hang_up", "reset"])
async def test_an_idle_connection_closed_by_its_peer_leaves_the_pool(peer, http1, ask, read, until, how):
    closing = asyncio.Event()

    async def script(link):
        await link.request()
        await link.say(HELLO)
        await closing.wait()
        getattr(link, how)()

    peer.plays(script)
    await read(await http1.send(ask(), 5))
    assert http1.idle(peer.origin) == 1
    closing.set()

    await until(lambda: http1.idle(peer.origin) == 0)


async def test_an_idle_connection_that_receives_bytes_leaves_the_pool(peer, http1, ask, read, until):
    speaking = asyncio.Event()

    async def script(link):
        await link.request()
        await link.say(HELLO)
        await speaking.wait()
        await link.say(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        await link.gone()

    peer.plays(script)
    await read(await http1.send(ask(), 5))
    speaking.set()

    await until(lambda: http1.idle(peer.origin) == 0)
    await peer.until(lambda: peer.ended == 1)


# the one retry


@pytest.fixture
def dies_on_reuse(peer):
    """The peer answers once on each connection, and closes it when asked again."""

    async def script(link):
        await peer.note(await link.request())
        await link.say(HELLO)
        if asked := await link.request():
            await peer.note(asked)

    peer.plays(script)


@pytest.mark.usefixtures("dies_on_reuse")
async def test_a_retry_is_counted_and_happens_once(peer, http1, ask, read):
    await read(await http1.send(ask(), 5))
    await read(await http1.send(ask(), 5))

    assert (http1.opened, http1.reused, http1.retried) == (2, 1, 1)
    assert len(peer.asked) == 3


async def test_a_retry_takes_a_new_connection_not_another_old_one(peer, http1, ask, read):
    """A server that restarted has killed all of them."""

    async def script(link):
        while asked := await link.request():
            await peer.note(asked)
            if asked.line.startswith("GET /late"):
                return
            if asked.line.startswith("GET /both"):
                await peer.until(lambda: len(peer.asked) == 2)
            await link.say(OK + b"Content-Length: 1\r\n\r\n%d" % link.number)

    peer.plays(script)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(http1.send(ask(b"/both", method=b"GET"), 5))
    assert http1.idle(peer.origin) == 2

    with pytest.raises(ConnectionLost):
        await http1.send(ask(b"/late", method=b"GET"), 5)
    assert (peer.links, http1.idle(peer.origin), http1.retried) == (3, 1, 1)


@pytest.mark.usefixtures("dies_on_reuse")
async def test_a_stream_can_be_sent_only_once_and_is_not_retried(peer, http1, ask, read):
    async def parts():
        yield b"once"

    await read(await http1.send(ask(), 5))
    with pytest.raises(ConnectionLost):
        await http1.send(ask(b"/", parts()), 5)

    assert (peer.links, http1.retried) == (1, 0)


async def test_a_reused_connection_that_said_something_is_not_retried(peer, http1, ask, read):
    """The request may have been acted upon."""

    async def script(link):
        await link.request()
        await link.say(HELLO)
        await link.request()
        await link.say(b"HTTP/1.1 200")

    peer.plays(script)
    await read(await http1.send(ask(), 5))
    with pytest.raises(ConnectionLost):
        await http1.send(ask(), 5)

    assert (peer.links, http1.retried) == (1, 0)


async def test_the_peer_being_gone_at_the_retry_is_connect_failed(peer, ask, read):
    async with contextlib.aclosing(Http1Transport()) as http1:
        server = await asyncio.start_server(lambda r, w: answer_once(r, w, server), "127.0.0.1", 0)
        origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await read(await http1.send(ask(origin=origin), 5))
        with pytest.raises(ConnectFailed):
            await http1.send(ask(origin=origin), 5)
        await server.wait_closed()


async def answer_once(reader, writer, server):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HELLO)
    await reader.readuntil(b"\r\n\r\n")
    server.close()
    writer.close()
    await writer.wait_closed()


# uploads


async def test_an_early_answer_comes_while_the_upload_still_runs(peer, http1, ask, read):
    """The upload continues, because the answer may depend on the rest."""
    more = asyncio.Event()

    async def parts():
        yield b"first"
        await more.wait()
        yield b"second"

    async def script(link):
        await link.head()
        first = await link.chunk()
        await link.say(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\n" + first + b"\r\n")
        second = await link.chunk()
        assert await link.chunk() == b""
        await link.say(b"6\r\n" + second + b"\r\n0\r\n\r\n")
        await link.gone()

    peer.plays(script)
    async with asyncio.timeout(60):
        reply = await http1.send(ask(b"/", parts()), 5)
        assert await reply.chunk() == b"first"
        more.set()
        assert await read(reply) == b"second"
    assert http1.idle(peer.origin) == 1


async def test_a_reply_before_the_end_of_the_upload_closes_its_socket(peer, http1, ask, read):
    left = asyncio.Event()

    async def parts():
        yield b"first"
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    async def script(link):
        await link.head()
        await link.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await link.gone()

    peer.plays(script)
    async with asyncio.timeout(60):
        reply = await http1.send(ask(b"/", parts()), 5)
        assert (reply.status, await read(reply)) == (413, b"big")
        assert http1.idle(peer.origin) == 0
        await left.wait()
    await peer.until(lambda: peer.ended == 1)


async def test_a_reply_before_a_large_body_is_sent_closes_it(peer, http1, ask, read):
    async def script(link):
        await link.head()
        await link.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await link.gone()

    peer.plays(script)
    reply = await http1.send(ask(b"/", b"x" * 16_000_000), 5)

    assert (reply.status, await read(reply)) == (413, b"big")
    assert http1.idle(peer.origin) == 0
    await peer.until(lambda: peer.ended == 1)


async def test_a_request_stream_that_fails_fails_the_reply(peer, http1, ask, read):
    class ClientLeft(Exception):
        pass

    leaving = asyncio.Event()

    async def parts():
        yield b"first"
        await leaving.wait()
        raise ClientLeft

    async def script(link):
        await link.head()
        await link.say(OK + b"Content-Length: 5\r\n\r\n")
        await link.gone()

    peer.plays(script)
    reply = await http1.send(ask(b"/", parts()), 5)
    leaving.set()
    with pytest.raises(ClientLeft):
        await reply.chunk()
    await peer.until(lambda: peer.ended == 1)


async def test_an_upload_waits_for_a_peer_that_does_not_read(peer, http1, ask, read, still):
    given = 0

    async def parts():
        nonlocal given
        for _ in range(1000):
            given += 1
            yield b"x" * 65_536

    reading = asyncio.Event()

    async def script(link):
        asked = await link.head()
        await reading.wait()
        while part := await link.chunk():
            asked.body += part[:1]
        await peer.note(asked)
        await link.say(HELLO)

    peer.plays(script)
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(http1.send(ask(b"/", parts()), 5))
        assert 0 < await still(lambda: given) < 500
        reading.set()
        assert await read(await sending) == b"hello"
    assert (given, len(peer.asked[0].body)) == (1000, 1000)


# back-pressure and leaving


async def test_a_peer_is_not_read_faster_than_the_caller_reads(peer, http1, ask, still):
    size, sent = 64_000_000, 0

    async def script(link):
        nonlocal sent
        await link.request()
        await link.say(OK + b"Content-Length: %d\r\n\r\n" % size)
        while sent < size:
            await link.say(b"x" * 64_000)
            sent += 64_000
        await link.gone()

    peer.plays(script)
    reply = await http1.send(ask(), 5)
    assert 0 < await still(lambda: sent) < size / 2

    got = 0
    while part := await reply.chunk():
        got += len(part)
    assert (got, sent) == (size, size)
    assert http1.idle(peer.origin) == 1


async def test_leaving_during_a_tls_handshake_closes_the_socket(peer, http1, ask):
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(http1.send(ask(origin=peer.origin.replace("http:", "https:")), 5))
        await peer.until(lambda: peer.links == 1)
        sending.cancel()

    await peer.until(lambda: peer.ended == 1)


async def test_a_connect_limit_holds_for_the_tls_handshake_too(peer, http1, ask):
    with pytest.raises(ConnectTimeout, match=r"within 0\.05 s"):
        await http1.send(ask(origin=peer.origin.replace("http:", "https:")), 0.05)
    await peer.until(lambda: peer.ended == 1)


async def test_aclose_ends_what_is_open(peer, ask):
    peer.says(OK + b"Content-Length: 9\r\n\r\n", b"hello", then="hold")
    http1 = Http1Transport()
    reply = await http1.send(ask(), 5)
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(until_error(reply))
        await asyncio.sleep(0)
        await http1.aclose()
        assert isinstance(await reading, BodyCut)
    await peer.until(lambda: peer.ended == 1)


async def until_error(reply):
    try:
        while await reply.chunk():
            pass
    except BodyCut as error:
        return error


async def test_three_hundred_at_once_each_get_their_own_answer(peer, http1, ask, read):
    async def script(link):
        while asked := await link.request():
            await link.say(OK + b"Content-Length: %d\r\n\r\n" % len(asked.body), asked.body)

    async def one(n):
        reply = await http1.send(ask(b"/", b"%d" % n), 10)
        assert await read(reply) == b"%d" % n

    peer.plays(script)
    for _ in range(2):
        async with asyncio.TaskGroup() as tasks:
            for n in range(300):
                tasks.create_task(one(n))
    assert http1.opened + http1.reused == 600
    assert http1.opened <= 300
