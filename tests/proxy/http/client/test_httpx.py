"""Properties of the reference transport alone: HTTP/2, an outbound proxy; and features of httpx2 that stay off."""

import contextlib

import h2.config
import h2.connection
import h2.events
import pytest

from gateway.proxy.http.client.httpx import HttpxTransport
from gateway.proxy.http.client.tls import UpstreamTls

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture
async def httpx(peer):
    """The transport on httpx."""
    async with contextlib.aclosing(HttpxTransport()) as transport:
        yield transport


async def test_nothing_is_added_followed_kept_or_decoded(peer, httpx, ask, read):
    tempting = b"Location: /b\r\nSet-Cookie: a=b\r\nContent-Encoding: gzip\r\n"
    peer.says(b"HTTP/1.1 302 Found\r\n" + tempting + b"Content-Length: 3\r\n\r\nraw")

    for _ in range(2):
        reply = await httpx.send(ask(method=b"GET"), 5)
        assert (reply.status, await read(reply)) == (302, b"raw")

    assert [set(asked.headers) for asked in peer.asked] == [{"host"}, {"host"}]


async def test_a_proxy_is_asked_for_the_whole_address(peer, ask, read):
    peer.says(HELLO)
    async with contextlib.aclosing(HttpxTransport(proxy=peer.origin)) as transport:
        reply = await transport.send(ask(b"/v1?x=%41", origin="http://far.example:8000"), 5)
        assert await read(reply) == b"hello"

    assert peer.asked[0].line == "POST http://far.example:8000/v1?x=%41 HTTP/1.1"


async def test_the_environment_names_no_proxy(peer, ask, read, monkeypatch, unused_tcp_port):
    peer.says(HELLO)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_tcp_port}")
    async with contextlib.aclosing(HttpxTransport()) as transport:
        assert await read(await transport.send(ask(), 5)) == b"hello"


async def test_close_does_not_wait_and_aclose_does(peer, ask):
    peer.says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", then="hold")
    transport = HttpxTransport()
    replies = [await transport.send(ask(), 5) for _ in range(3)]

    for reply in replies:
        reply.close()
    await transport.aclose()

    assert transport.closing == 0
    await peer.until(lambda: peer.ended == 3)


async def test_http2_is_spoken_where_asked(tls_peer, certificates, ask, read):
    tls_peer.plays(http2_hello)
    certificates.server.set_alpn_protocols(["h2", "http/1.1"])
    async with contextlib.aclosing(HttpxTransport(http2=True, tls=UpstreamTls(str(certificates.ca)))) as transport:
        for _ in range(2):
            reply = await transport.send(ask(b"/v1", b"body", origin=tls_peer.origin), 5)
            assert (reply.status, dict(reply.headers)[b"x"], await read(reply)) == (200, b"y", b"hello")
    assert tls_peer.links == 1


async def http2_hello(link):
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    await link.say(connection.data_to_send())
    while data := await link.reader.read(65_536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.StreamEnded):
                connection.send_headers(event.stream_id, [(":status", "200"), ("x", "y")])
                connection.send_data(event.stream_id, b"hello", end_stream=True)
        await link.say(connection.data_to_send())
