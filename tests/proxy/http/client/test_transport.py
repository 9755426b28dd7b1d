"""Requirements on every transport, over real sockets, byte for byte. test_http1.py has those on the lean one alone."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from gateway.core.errors import BadResponse, BodyCut, ConnectFailed, ConnectionLost, ConnectTimeout, TransportError
from gateway.proxy.http.client.http1 import Http1Transport
from gateway.proxy.http.client.httpx import HttpxTransport
from gateway.proxy.http.client.tls import UpstreamTls
from gateway.proxy.http.client.transport import Transport

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"


@pytest.fixture(params=[Http1Transport, HttpxTransport], ids=["http1", "httpx"])
async def transport(request: pytest.FixtureRequest, peer: Any) -> AsyncIterator[Transport]:
    """Each transport in turn: the gateway's own, and httpx."""
    async with contextlib.aclosing(request.param()) as transport:
        yield transport


@pytest.fixture
def deaf_origin() -> Iterator[str]:
    """An origin that never accepts a connection: its listener's queue is full, so that the kernel drops SYN packets."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            knocking = sockets.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


VALID = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nT: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404 Not Found\r\nX: y\r\n\r\nhello",
)


@pytest.fixture
def mutated() -> Callable[[int], bytes]:
    """mutated(seed): a valid reply with some bytes replaced, dropped or doubled."""

    def mutate(seed: int) -> bytes:
        dice = random.Random(seed)
        raw = bytearray(dice.choice(VALID))
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(raw))
            new = bytes([dice.choice(b"\r\n :0;\x00\xffA")])
            raw[at : at + dice.randint(0, 1)] = dice.choice([b"", new, raw[at : at + 9]])
        return bytes(raw)

    return mutate


async def test_a_request_is_written_as_given(peer, transport, ask, read):
    peer.says(HELLO)

    await read(await transport.send(ask(b"/v1/a%2fb?x=%41&y", b'{"a": 1}', headers=[(b"x-trace", b"7")]), 5))

    (asked,) = peer.asked
    host = peer.origin.removeprefix("http://")
    assert asked.line == "POST /v1/a%2fb?x=%41&y HTTP/1.1"
    assert asked.headers == {"host": host, "x-trace": "7", "content-length": "8"}
    assert asked.body == b'{"a": 1}'


async def test_an_empty_post_says_its_length_and_a_get_has_none(peer, transport, ask, read):
    peer.says(HELLO)

    await read(await transport.send(ask(method=b"POST"), 5))
    await read(await transport.send(ask(method=b"GET"), 5))

    assert [asked.headers.get("content-length") for asked in peer.asked] == ["0", None]


async def test_status_headers_and_body_come_back(peer, transport, ask, read):
    peer.says(b"HTTP/1.1 418 Teapot\r\nX-One: 1\r\nx-ONE: two words\r\nContent-Length: 3\r\n\r\n\x00\xff\n")

    reply = await transport.send(ask(), 5)

    assert reply.status == 418
    assert reply.headers == [(b"x-one", b"1"), (b"x-one", b"two words"), (b"content-length", b"3")]
    assert await read(reply) == b"\x00\xff\n"


@pytest.mark.parametrize("first", ["whole", "chunk"])
async def test_a_body_is_had_once_whole_or_in_chunks(peer, transport, ask, first):
    """A transport may not know that it is whole; then it says None, and chunk() gives it."""
    peer.says(HELLO)
    reply = await transport.send(ask(), 5)
    body = reply.complete_body() if first == "whole" else await reply.chunk()
    if body is None:
        body = await reply.chunk()
    assert body == b"hello"
    assert not reply.complete_body()
    assert await reply.chunk() == b""


async def test_a_body_that_has_not_all_come_is_not_whole(peer, transport, ask, read):
    peer.says(OK + b"Content-Length: 10\r\n\r\nhello", then="hold")
    reply = await transport.send(ask(), 5)
    assert reply.complete_body() is None
    reply.close()


@pytest.mark.parametrize("takes", [True, False])
async def test_bytes_go_to_the_sink_or_to_chunk_never_to_both(peer, transport, ask, read, takes):
    """A transport need not ask it; what it did not take, chunk() gives, in order."""
    parts = [b"5\r\npart%d\r\n" % n for n in range(5)]
    peer.says(OK + b"Transfer-Encoding: chunked\r\n\r\n", *parts, b"0\r\n\r\n")
    reply = await transport.send(ask(), 5)
    came = []

    def sink(data):
        if takes:
            came.append(data)
        return takes

    reply.sink = sink
    while data := await reply.chunk():
        came.append(data)
    assert b"".join(came) == b"part0part1part2part3part4"


async def test_after_the_end_chunk_gives_nothing_forever(peer, transport, ask, read):
    peer.says(HELLO)
    reply = await transport.send(ask(), 5)
    await read(reply)

    assert [await reply.chunk() for _ in range(3)] == [b"", b"", b""]
    reply.close()
    reply.close()


@pytest.mark.parametrize(
    ("parts", "then"),
    [
        ([OK + b"Content-Length: 5\r\n\r\n", b"he", b"llo"], "keep"),
        ([OK[:9], OK[9:], b"Content-", b"Length: 5\r", b"\n\r", b"\nh", b"ello"], "keep"),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"], "keep"),
        (
            [
                OK + b"Transfer-Encoding: Chunked\r\n\r\n",
                b"2;a=b\r",
                b"\nhe\r\n3",
                b"\r\nllo\r\n0\r\n",
                b"T: 1\r\n\r\n",
            ],
            "keep",
        ),
        ([OK + b"\r\nhe", b"llo"], "hang up"),
        ([b"HTTP/1.0 200 OK\r\n\r\nhello"], "hang up"),
        ([b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"], "keep"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + HELLO], "keep"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO], "keep"),
    ],
    ids=["length", "split head", "chunked", "chunked with trailer", "close", "1.0", "no reason", "1xx", "1xx at once"],
)
async def test_every_way_to_say_hello(peer, transport, ask, read, parts, then):
    peer.says(*parts, then=then)

    reply = await transport.send(ask(), 5)

    assert (reply.status, await read(reply)) == (200, b"hello")
    assert b"link" not in dict(reply.headers)
    assert b"t" not in dict(reply.headers)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", OK + b"Content-Length: 5\r\n\r\n"),
        (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
        (b"POST", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        (b"POST", OK + b"Content-Length: 0\r\n\r\n"),
        (b"POST", OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
)
async def test_a_reply_without_a_body_ends_at_once(peer, transport, ask, read, method, answer):
    peer.says(answer)

    async with asyncio.timeout(60):
        for _ in range(2):
            assert await read(await transport.send(ask(method=method), 5)) == b""


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_ten_megabytes_arrive_intact(peer, transport, ask, read, framing):
    body = bytes(range(256)) * 40_960
    pieces = [body[i : i + 700_001] for i in range(0, len(body), 700_001)]
    if framing == "length":
        peer.says(OK + b"Content-Length: %d\r\n\r\n" % len(body), *pieces)
    elif framing == "close":
        peer.says(OK + b"\r\n", *pieces, then="hang up")
    else:
        chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
        peer.says(OK + b"Transfer-Encoding: chunked\r\n\r\n", *chunks, b"0\r\n\r\n")

    assert await read(await transport.send(ask(), 5)) == body


async def test_a_large_request_body_arrives_intact(peer, transport, ask, read):
    body = bytes(range(256)) * 20_480
    peer.says(HELLO)

    await read(await transport.send(ask(b"/", body), 5))

    assert peer.asked[0].body == body


async def test_a_streamed_request_body_goes_out_in_chunks(peer, transport, ask, read):
    async def parts():
        for part in (b"one ", b"", b"two ", b"three"):
            yield part

    peer.says(HELLO)

    await read(await transport.send(ask(b"/", parts()), 5))

    (asked,) = peer.asked
    assert asked.body == b"one two three"
    assert "content-length" not in asked.headers


async def test_a_streamed_request_body_of_known_length_says_it(peer, transport, ask, read):
    async def parts():
        for part in (b"one ", b"", b"two ", b"three"):
            yield part

    peer.says(HELLO)

    for _ in range(2):
        await read(await transport.send(ask(b"/", parts(), length=13), 5))

    for asked in peer.asked:
        assert asked.body == b"one two three"
        assert asked.headers["content-length"] == "13"
        assert "transfer-encoding" not in asked.headers
    assert peer.links == 1


@pytest.mark.parametrize("length", [3, 5])
async def test_a_stream_of_a_wrong_length_is_the_callers_error(peer, transport, ask, length):
    """The end of the stream would be read as the next request, or never come."""

    async def parts():
        yield b"ab"
        yield b"cd"

    async def script(link):
        await link.gone()

    peer.plays(script)

    with pytest.raises(ValueError):  # noqa: PT011 - the words are the transport's
        await transport.send(ask(b"/", parts(), length=length), 5)
    await peer.until(lambda: peer.ended == 1)


async def test_a_broken_request_stream_is_the_callers_own_error(peer, transport, ask):
    class ClientLeft(Exception):
        pass

    async def parts():
        yield b"half"
        raise ClientLeft

    peer.says(HELLO)

    with pytest.raises(ClientLeft):
        await transport.send(ask(b"/", parts()), 5)
    await peer.until(lambda: peer.ended == 1)


async def test_connections_are_reused(peer, transport, ask, read):
    peer.says(HELLO)

    for _ in range(3):
        assert await read(await transport.send(ask(), 5)) == b"hello"

    assert peer.links == 1


async def test_a_connection_that_the_peer_closes_is_not_reused(peer, transport, ask, read):
    peer.says(OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello")

    for _ in range(2):
        assert await read(await transport.send(ask(), 5)) == b"hello"

    assert peer.links == 2


async def test_a_reused_connection_found_dead_is_replaced_once(peer, transport, ask, read):
    """The peer reads the second request and closes without a byte: what a race with its idle timer looks like."""

    async def script(link):
        await peer.note(await link.request())
        await link.say(HELLO)
        if link.number == 1:
            await peer.note(await link.request())
            return
        await link.gone()

    peer.plays(script)
    await read(await transport.send(ask(), 5))

    assert await read(await transport.send(ask(b"/second"), 5)) == b"hello"
    assert peer.links == 2
    assert [asked.line.split()[1] for asked in peer.asked] == ["/", "/second", "/second"]


async def test_a_stream_that_can_be_had_again_is_sent_again(peer, transport, ask, read):
    class Again:
        async def __aiter__(self):
            yield b"one "
            yield b"two"

    async def script(link):
        await peer.note(await link.request())
        await link.say(HELLO)
        if link.number == 1:
            await peer.note(await link.request())
            return
        await link.gone()

    peer.plays(script)
    await read(await transport.send(ask(), 5))

    assert await read(await transport.send(ask(b"/second", Again()), 5)) == b"hello"
    assert peer.links == 2
    assert [asked.body for asked in peer.asked] == [b"", b"one two", b"one two"]


async def test_a_new_connection_that_dies_is_not_tried_again(peer, transport, ask):
    peer.says(then="hang up")

    with pytest.raises(ConnectionLost):
        await transport.send(ask(), 5)
    assert peer.links == 1


@pytest.mark.parametrize("then", ["hang up", "reset"])
async def test_an_end_within_the_head_is_connection_lost(peer, transport, ask, then):
    peer.says(OK + b"Content-Le", then=then)

    with pytest.raises(ConnectionLost):
        await transport.send(ask(), 5)


@pytest.mark.parametrize("then", ["hang up", "reset"])
@pytest.mark.parametrize("framing", [b"Content-Length: 9\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n9\r\n"])
async def test_an_end_within_the_body_is_a_body_cut(peer, transport, ask, read, framing, then):
    headed = asyncio.Event()

    async def script(link):
        await link.request()
        await link.say(OK + framing)
        await headed.wait()
        await link.say(b"hello")
        link.hang_up() if then == "hang up" else link.reset()

    peer.plays(script)
    reply = await transport.send(ask(), 5)
    headed.set()

    for _ in range(2):
        with pytest.raises(BodyCut):
            await read(reply)


async def test_bytes_before_a_cut_are_given_first(peer, transport, ask):
    peer.says(OK + b"Content-Length: 9\r\n\r\n", b"hello", then="hang up")
    reply = await transport.send(ask(), 5)

    got = [await reply.chunk()]
    while b"".join(got) != b"hello":
        got.append(await reply.chunk())
    with pytest.raises(BodyCut):
        await reply.chunk()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"<html>hello</html>\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + HELLO,
        OK + b"".join(b"x-%d: y\r\n" % i for i in range(201)) + b"\r\n",
        OK + b"x: " + b"y" * 200_000,
    ],
)
async def test_a_reply_that_is_not_http_is_a_bad_response(peer, transport, ask, answer):
    peer.says(answer, then="hold")

    with pytest.raises(BadResponse):
        await transport.send(ask(), 5)
    await peer.until(lambda: peer.ended == 1)


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"-1\r\nx\r\n", b"2\r\nabc\r\n"])
async def test_a_broken_chunk_is_a_bad_response(peer, transport, ask, read, chunk):
    peer.says(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\nok\r\n" + chunk, then="hold")
    reply = await transport.send(ask(), 5)

    with pytest.raises(BadResponse):
        await read(reply)
    await peer.until(lambda: peer.ended == 1)


async def test_nobody_listening_is_connect_failed(transport, ask, unused_tcp_port):
    with pytest.raises(ConnectFailed, match="connect"):
        await transport.send(ask(origin=f"http://127.0.0.1:{unused_tcp_port}"), 5)


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 64 + ".invalid", "a..invalid"])
async def test_a_name_that_does_not_exist_is_connect_failed(transport, ask, name):
    with pytest.raises(ConnectFailed):
        await transport.send(ask(origin="http://" + name), 5)


@pytest.mark.parametrize("origin", ["ftp://localhost", "localhost:80"])
async def test_an_origin_that_is_none_is_connect_failed(transport, ask, origin):
    with pytest.raises(ConnectFailed):
        await transport.send(ask(origin=origin), 5)


async def test_a_line_break_in_a_header_is_never_sent(peer, transport, ask):
    with pytest.raises(ValueError, match="request"):
        await transport.send(ask(headers=[(b"x", b"1\r\nevil: 2")]), 5)
    assert peer.asked == []


async def test_a_connect_that_takes_too_long_is_connect_timeout(transport, ask, deaf_origin):
    with pytest.raises(ConnectTimeout):
        await transport.send(ask(origin=deaf_origin), 0.05)


# leaving: the peer must see the end of the connection, whatever it was doing


async def test_leaving_while_waiting_for_the_head_closes_the_socket(peer, transport, ask):
    peer.says(then="hold")
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(transport.send(ask(), 5))
        await peer.until(lambda: len(peer.asked) == 1)
        sending.cancel()

    await peer.until(lambda: peer.ended == 1)


async def test_leaving_while_reading_closes_the_socket(peer, transport, ask):
    peer.says(OK + b"Content-Length: 9\r\n\r\n", b"hello", then="hold")
    reply = await transport.send(ask(), 5)
    got = b""
    while got != b"hello":
        got += await reply.chunk()
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(reply.chunk())
        await asyncio.sleep(0)
        reading.cancel()

    await peer.until(lambda: peer.ended == 1)
    with pytest.raises(BodyCut):
        await reply.chunk()


async def test_closing_a_reply_before_its_end_closes_the_socket(peer, transport, ask):
    peer.says(OK + b"Content-Length: 9\r\n\r\n", b"hello", then="hold")
    reply = await transport.send(ask(), 5)

    reply.close()
    reply.close()

    await peer.until(lambda: peer.ended == 1)
    with pytest.raises(BodyCut):
        await reply.chunk()


async def test_leaving_a_streamed_upload_closes_the_socket(peer, transport, ask):
    async def parts():
        yield b"first"
        await asyncio.Event().wait()

    async def script(link):
        await peer.note(await link.head())
        await link.gone()

    peer.plays(script)
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(transport.send(ask(b"/", parts()), 5))
        await peer.until(lambda: len(peer.asked) == 1)
        sending.cancel()

    await peer.until(lambda: peer.ended == 1)


# TLS


@pytest.fixture(params=[Http1Transport, HttpxTransport], ids=["http1", "httpx"])
def make(request):
    """The class of each transport."""
    return request.param


async def test_tls_verifies_the_peer_and_names_it(tls_peer, make, certificates, ask, read):
    tls_peer.says(HELLO)
    transport = make(tls=UpstreamTls(str(certificates.ca)))

    for _ in range(2):
        assert await read(await transport.send(ask(origin=tls_peer.origin), 5)) == b"hello"

    assert tls_peer.sni == ["localhost"]
    assert tls_peer.links == 1
    await transport.aclose()


async def test_an_unknown_ca_is_connect_failed(tls_peer, make, ask):
    tls_peer.says(HELLO)
    transport = make()

    with pytest.raises(ConnectFailed, match=r"(?i)certificate"):
        await transport.send(ask(origin=tls_peer.origin), 5)
    await transport.aclose()


async def test_a_certificate_for_another_name_is_connect_failed(tls_peer, make, certificates, ask):
    tls_peer.says(HELLO)
    transport = make(tls=UpstreamTls(str(certificates.ca)))

    with pytest.raises(ConnectFailed, match=r"(?i)certificate"):
        await transport.send(ask(origin=tls_peer.origin.replace("localhost", "127.0.0.1")), 5)
    await transport.aclose()


async def test_a_plain_peer_under_https_is_connect_failed(peer, transport, ask):
    peer.plays(lambda link: link.say(b"HTTP/1.1 400 Bad Request\r\n\r\n"))

    with pytest.raises(ConnectFailed):
        await transport.send(ask(origin=peer.origin.replace("http:", "https:")), 5)


# anything at all


async def test_random_replies_end_in_a_reply_or_a_transport_error(peer, transport, ask, read, mutated):
    """Tries a few over real sockets; test_connection.py tries thousands without them."""
    for seed in range(40):
        peer.says(mutated(seed), then="hang up")
        async with asyncio.timeout(60):
            try:
                await read(await transport.send(ask(), 5))
            except TransportError:
                continue
