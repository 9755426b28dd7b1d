"""Tunnels through an outbound HTTP proxy, for requests and WebSockets, on both loops."""

from __future__ import annotations

import contextlib
from base64 import b64encode

import pytest

from gateway.core.errors import ConnectFailed, ConnectTimeout
from gateway.proxy.http.client.dialer import OutboundProxy
from gateway.proxy.http.client.http1 import Http1Transport
from gateway.proxy.http.client.tls import UpstreamTls

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture
async def tunnelled(tls_peer, proxy_double, certificates):
    """The gateway's own transport behind the proxy, with a login."""
    url = proxy_double.url.replace("://", "://ada:p%40ss@")
    async with contextlib.aclosing(
        Http1Transport(tls=UpstreamTls(str(certificates.ca)), proxy=url, idle_s=60)
    ) as transport:
        yield transport


async def test_requests_pass_a_tunnel_and_share_it(tunnelled, tls_peer, proxy_double, ask, read):
    tls_peer.says(HELLO)
    for _ in range(3):
        reply = await tunnelled.send(ask(b"/v1/x", origin=tls_peer.origin), 30)
        assert await read(reply) == b"hello"
    assert proxy_double.tunnels == [tls_peer.origin.removeprefix("https://")]
    assert proxy_double.credentials == ["Basic " + b64encode(b"ada:p@ss").decode()]
    assert (tunnelled.opened, tunnelled.reused) == (1, 2)
    assert tls_peer.sni == ["localhost"], "TLS is with the server, whose certificate is checked"
    assert all("proxy-authorization" not in asked.headers for asked in tls_peer.asked)


async def test_a_large_body_passes_whole(tunnelled, tls_peer, ask, read):
    tls_peer.says(HELLO)
    body = bytes(range(256)) * 8000
    assert await read(await tunnelled.send(ask(b"/", body, origin=tls_peer.origin), 30)) == b"hello"
    assert tls_peer.asked[0].body == body


REFUSALS = {
    b"HTTP/1.1 407 Authentication Required\r\nContent-Length: 0\r\n\r\n": "HTTP 407 Authentication Required",
    b"HTTP/1.1 403 Forbidden\r\n\r\n": "HTTP 403 Forbidden",
    b"HTTP/1.1 502\r\n\r\n": "HTTP 502",
    b"SSH-2.0-x\r\n\r\n": "did not answer by HTTP",
    b"": "ended the connection",
    b"HTTP/1.1 2": "ended the connection",
    b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 5000: "ended the connection",
}


@pytest.mark.parametrize("answer", REFUSALS)
async def test_a_refused_tunnel_is_a_failed_connection(tunnelled, tls_peer, proxy_double, ask, answer):
    """Nothing was sent, so the call may go to another target; the error names proxy and reason, and no login."""
    proxy_double.answer = answer
    with pytest.raises(ConnectFailed, match=r"the proxy 127\.0\.0\.1") as failed:
        await tunnelled.send(ask(origin=tls_peer.origin), 30)
    assert REFUSALS[answer] in str(failed.value)
    assert "p%40ss" not in str(failed.value)
    assert "p@ss" not in str(failed.value)
    assert tls_peer.asked == []


async def test_bytes_behind_the_proxys_answer_are_refused(tunnelled, tls_peer, proxy_double, ask):
    proxy_double.answer = b"HTTP/1.1 200 OK\r\n\r\nearly"
    with pytest.raises(ConnectFailed, match="sent bytes before"):
        await tunnelled.send(ask(origin=tls_peer.origin), 30)


async def test_a_proxy_that_is_not_there_is_named(certificates, ask, unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with contextlib.aclosing(Http1Transport(tls=UpstreamTls(str(certificates.ca)), proxy=url)) as transport:
        with pytest.raises(ConnectFailed, match=rf"the proxy 127\.0\.0\.1:{unused_tcp_port} cannot be reached"):
            await transport.send(ask(origin="https://far.example"), 30)


async def test_a_proxy_that_says_nothing_runs_into_the_deadline(peer, certificates, ask):
    async with contextlib.aclosing(
        Http1Transport(tls=UpstreamTls(str(certificates.ca)), proxy=peer.origin)
    ) as transport:
        with pytest.raises(ConnectTimeout):
            await transport.send(ask(origin="https://far.example"), 0.05)


@pytest.mark.parametrize("url", ["socks5://proxy:1080", "https://proxy", "proxy:3128", "http://"])
def test_anything_but_http_proxy_is_refused(url):
    with pytest.raises(ValueError, match="is not http://"):
        OutboundProxy.parse(url)


def test_a_proxy_is_shown_without_its_login():
    assert str(OutboundProxy.parse("http://ada:secret@proxy.example:3128")) == "proxy.example:3128"
