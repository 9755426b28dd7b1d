"""The transport that adds credentials: to every request, once more after a refusal, and over the whole body."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from fixtures.clouds import signer_of

from gateway.core.errors import TooLarge
from gateway.fake import FakeUpstream
from gateway.proxy.http.auth.authorized import AuthorizedTransport, SignatureCredential, host_of
from gateway.proxy.http.auth.renewal import Issued, Renewal
from gateway.proxy.http.auth.sigv4 import AwsKeys, Signer
from gateway.proxy.http.client.http1 import Http1Transport
from gateway.proxy.http.client.transport import UpstreamRequest

KEYS = AwsKeys("AKID", "secret")
JSON = (b"content-type", b"application/json")


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """A running double of an upstream."""
    async with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
async def transport() -> AsyncIterator[AuthorizedTransport]:
    """A transport that signs its requests for AWS."""
    renewal = Renewal("aws", lambda: Issued(KEYS))
    made = AuthorizedTransport(Http1Transport(), SignatureCredential(renewal, Signer("us-east-1", "bedrock")))
    async with contextlib.aclosing(made):
        yield made


async def test_a_signature_covers_method_path_query_type_and_body(
    fake: FakeUpstream, transport: AuthorizedTransport
) -> None:
    path = b"/v1/a:c/chat?x=1&a="
    request = UpstreamRequest(b"POST", fake.origin, path, [JSON, (b"authorization", b"of the client")], b'{"a": 1}')
    reply = await transport.send(request, 2.0)
    reply.close()
    [received] = fake.received
    assert signer_of(received, {"AKID": "secret"}) == "AKID"
    assert [n for n, _ in received.headers].count("authorization") == 1
    received.body += b" "
    assert signer_of(received, {"AKID": "secret"}) is None, "the double finds a changed body"


async def test_a_refused_request_gets_the_newer_key_that_is_there(fake: FakeUpstream) -> None:
    """Another request has signed with the newer key meanwhile: that is none of this one's."""
    keys = [AwsKeys(f"AKID{n}", "secret") for n in range(3)]
    given = iter(keys)
    renewal = Renewal("aws", lambda: Issued(next(given), renew_at=0.0))
    credential = SignatureCredential(renewal, Signer("us-east-1", "bedrock"))
    request = UpstreamRequest(b"POST", fake.origin, b"/v1/chat", [JSON], b"{}")
    first = await credential.authorize(request)
    async with asyncio.timeout(60):
        while (await credential.authorize(request)).used != keys[1]:
            await asyncio.sleep(0.005)
    fetched = renewal.fetched
    again = await credential.authorize_again(first)
    assert again is not None
    assert b"AKID1" in dict(again.headers)[b"authorization"]
    assert renewal.fetched == fetched


async def parts(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_a_form_is_signed_when_it_is_complete(fake: FakeUpstream, transport: AuthorizedTransport) -> None:
    request = UpstreamRequest(b"POST", fake.origin, b"/v1/files", [JSON], parts(b"ab", b"cd"), None)
    (await transport.send(request, 2.0)).close()
    [received] = fake.received
    assert (received.body, received.header("content-length")) == (b"abcd", "4")
    assert signer_of(received, {"AKID": "secret"}) == "AKID"


async def test_an_endless_form_is_refused(fake: FakeUpstream, transport: AuthorizedTransport) -> None:
    piece = bytes(1 << 24)
    request = UpstreamRequest(b"POST", fake.origin, b"/v1/files", [JSON], parts(*[piece] * 5), None)
    with pytest.raises(TooLarge, match="cannot be signed"):
        await transport.send(request, 2.0)
    assert fake.received == []


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://h.example", b"h.example"),
        ("https://h.example:443", b"h.example"),
        ("http://h.example:443", b"h.example:443"),
        ("http://[::1]:8080", b"[::1]:8080"),
    ],
)
def test_the_signed_host_is_the_one_that_is_sent(origin: str, host: bytes) -> None:
    assert host_of(origin) == host
