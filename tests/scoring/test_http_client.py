"""The only HTTP client of the consumer: requests, replies, and errors."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.config.egress import Egress
from gateway.core.exchange import Target, Usage
from gateway.fake import CUT, HOLD, FakeAnswer, FakeUpstream, Fault
from gateway.scoring.http_client import GatewayClient, HttpConnections, Unreachable

CHAT = {"model": "m", "messages": [{"role": "user", "content": "two words"}]}


@pytest.fixture
async def upstream():
    """A running double of an upstream."""
    async with FakeUpstream() as upstream:
        yield upstream


async def test_a_reply_says_who_answered_and_what_it_took(upstream):
    headers = (("X-Gateway-Upstream", "up"), ("X-Gateway-Model", "small"), ("X-Request-Id", "e-1"))
    body = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}
    upstream.replies(lambda _: FakeAnswer(json.dumps(body).encode(), headers=headers))
    async with GatewayClient(upstream.base_url, "sk-1") as client:
        reply = await client.ask("/chat/completions", CHAT, deadline_s=5)
    assert (reply.status, reply.exchange_id, reply.target) == (200, "e-1", Target("up", "small"))
    assert (reply.usage, reply.object()) == (Usage(3, 5), body)
    assert 0 < reply.seconds < 5


async def test_a_stream_is_read_whole_with_its_usage(upstream):
    async with GatewayClient(upstream.base_url) as client:
        asked = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
        reply = await client.ask("/chat/completions", asked, deadline_s=5)
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert reply.usage is not None


async def test_without_a_key_none_is_sent_and_never_a_sample(upstream):
    async with GatewayClient(upstream.base_url + "/") as client:
        await client.ask("chat/completions", CHAT, deadline_s=5, headers={"x-more": "1"})
    received = upstream.calls[0]
    assert (received.path, received.header("authorization")) == ("/v1/chat/completions", None)
    assert (received.header("x-gateway-sample"), received.header("x-more")) == ("never", "1")


async def test_connections_are_kept_open_between_calls(upstream):
    async with GatewayClient(upstream.base_url) as client:
        for _ in range(3):
            await client.ask("/chat/completions", CHAT, deadline_s=5)
    assert len({r.connection for r in upstream.calls}) == 1


async def test_another_event_loop_gets_its_own_connection(upstream):
    client = GatewayClient(upstream.base_url)
    await client.ask("/chat/completions", CHAT, deadline_s=5)
    async with client:
        reply = await asyncio.to_thread(lambda: asyncio.run(client.ask("/chat/completions", CHAT, deadline_s=5)))
    assert reply.status == 200
    assert len({r.connection for r in upstream.calls}) == 2


async def test_an_answer_that_does_not_come_in_time_is_unreachable(upstream):
    upstream.says(HOLD)
    async with GatewayClient(upstream.base_url) as client:
        with pytest.raises(Unreachable, match=r"did not answer within 0\.05 s"):
            await client.ask("/chat/completions", CHAT, deadline_s=0.05)
        await upstream.until(lambda u: u.cancelled == 1)


@pytest.mark.parametrize("fault", [Fault.reset(), None, Fault.garbage()], ids=["reset", "cut", "garbage"])
async def test_a_connection_that_breaks_is_unreachable(upstream, fault):
    upstream.always(fault)
    upstream.says("half an ans", CUT)
    async with GatewayClient(upstream.base_url) as client:
        with pytest.raises(Unreachable, match="cannot be reached"):
            await client.ask("/chat/completions", CHAT, deadline_s=5)


async def test_no_more_is_read_than_allowed(upstream):
    upstream.answers(200, b"x" * 10_000)
    async with HttpConnections() as connections:
        with pytest.raises(Unreachable, match="more than 9999 bytes"):
            await connections.send("GET", upstream.origin + "/x", deadline_s=5, most_bytes=9999)
        whole = await connections.send("GET", upstream.origin + "/x", deadline_s=5, most_bytes=10_000)
    assert len(whole.body) == 10_000


async def test_a_redirect_is_an_answer_and_is_not_followed(upstream):
    upstream.answers(302, b"", headers=(("location", f"{upstream.origin}/elsewhere"),))
    async with HttpConnections() as connections:
        reply = await connections.send("GET", upstream.origin + "/x", deadline_s=5)
    assert (reply.status, len(upstream.calls)) == (302, 1)


async def test_a_message_holds_neither_password_nor_query(upstream):
    await upstream.stop()
    async with HttpConnections() as connections:
        with pytest.raises(Unreachable) as caught:
            await connections.send("GET", f"http://me:secret@127.0.0.1:{upstream.port}/x?key=secret", deadline_s=5)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("body", "message"), [(b"<html>", "not JSON"), (b"[1]", "not a JSON object")])
async def test_anything_but_json_object_says_how_it_begins(upstream, body, message):
    upstream.answers(200, body)
    async with GatewayClient(upstream.base_url) as client:
        reply = await client.ask("/chat/completions", CHAT, deadline_s=5)
    assert reply.usage is None
    with pytest.raises(ValueError, match=message) as caught:
        reply.object()
    assert body.decode() in str(caught.value)


async def test_no_cookie_is_kept(upstream):
    upstream.answers(200, b"{}", {"set-cookie": "a=b; Path=/"})
    async with GatewayClient(upstream.base_url) as client:
        for _ in range(2):
            await client.ask("/chat/completions", CHAT, deadline_s=30)
    assert [received.header("cookie") for received in upstream.calls] == [None, None]


async def test_a_reply_can_be_read_while_it_arrives(upstream):
    upstream.says("first", HOLD, " last")
    async with GatewayClient(upstream.base_url, "sk-1") as client:
        asked = {**CHAT, "stream": True}
        pieces = b""
        async with client.streaming("/chat/completions", asked, deadline_s=30, headers={"x-more": "1"}) as reply:
            assert reply.status == 200
            async for piece in reply.pieces():
                pieces += piece
                if b"first" in pieces:
                    upstream.release()
            whole = reply.reply(pieces, 1.0)
    assert b" last" in pieces
    assert (whole.status, whole.seconds, whole.body) == (200, 1.0, pieces)
    [received] = upstream.calls
    assert (received.header("authorization"), received.header("x-more")) == ("Bearer sk-1", "1")


async def read_all(upstream, **options):
    client = GatewayClient(upstream.base_url)
    async with client.streaming("/chat/completions", {**CHAT, "stream": True}, **options) as reply:
        return [piece async for piece in reply.pieces()]


async def test_a_reply_that_arrives_is_bounded_in_time_and_size(upstream):
    upstream.says("first", HOLD, " last")
    with pytest.raises(Unreachable, match=r"did not answer within 0\.2 s"):
        await read_all(upstream, deadline_s=0.2)
    upstream.says("x" * 5000)
    with pytest.raises(Unreachable, match="more than 1000 bytes"):
        await read_all(upstream, deadline_s=30, most_bytes=1000)


async def test_external_servers_are_reached_by_the_proxy_internal_ones_not(upstream, proxy_double):
    """Services that score, webhooks and the console's identity provider use these connections."""
    egress = Egress(proxy=proxy_double.url, direct=("hooks.partner.example",))
    upstream.answers(200, b"{}")
    async with HttpConnections(egress=egress) as connections:
        inside = await connections.send("POST", upstream.origin + "/hook", b"{}", deadline_s=30)
        outside = await connections.send("POST", "http://hooks.example.com/x", b"{}", deadline_s=30)
        proxy_double.answer = b"HTTP/1.1 403 Forbidden\r\n\r\n"
        with pytest.raises(Unreachable, match=r"https://hooks\.example\.com/y cannot be reached"):
            await connections.send("POST", "https://hooks.example.com/y", b"{}", deadline_s=30)
    assert (inside.body, outside.body) == (b"{}", b"forwarded")
    assert proxy_double.forwarded == ["http://hooks.example.com/x"]
    assert proxy_double.tunnels == ["hooks.example.com:443"]


async def test_a_proxys_password_is_in_no_message(upstream, unused_tcp_port):
    egress = Egress(proxy=f"http://me:secret@127.0.0.1:{unused_tcp_port}")
    async with HttpConnections(egress=egress) as connections:
        with pytest.raises(Unreachable) as caught:
            await connections.send("GET", "https://far.example/x", deadline_s=30)
    assert "secret" not in str(caught.value)
