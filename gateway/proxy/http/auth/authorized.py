"""A transport that adds a cloud's credential to every request. Other upstreams' transports do not pass through it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from gateway.config.cloud_auth import CloudAuth
from gateway.core.errors import TooLarge
from gateway.proxy.http.auth.renewal import Renewal
from gateway.proxy.http.auth.sigv4 import AwsKeys, Signer
from gateway.proxy.http.auth.sources import AwsSource, EntraSource, GoogleSource, quiet_libraries
from gateway.proxy.http.client.transport import Transport, UpstreamReply, UpstreamRequest

_SIGNED_BODY_BYTES = 64 << 20  # a body whose hash is signed must be complete before it is sent
_AUTHORIZATION = b"authorization"
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Authorized(NamedTuple):
    request: UpstreamRequest
    used: Any
    """The token, or the access key, that it was made with. Another request may have a newer one already."""


class CloudCredential(Protocol):
    """Adds what proves who the gateway is."""

    refusals: frozenset[int]
    """The statuses with which a server refuses a credential."""

    @property
    def renewal(self) -> Renewal[Any]: ...

    @property
    def sent(self) -> tuple[bytes, ...]:
        """The parts of it that upstreams get and might repeat in an error."""
        ...

    async def authorize(self, request: UpstreamRequest) -> Authorized:
        """Raises ConnectFailed and ConnectTimeout where there is no credential."""
        ...

    async def authorize_again(self, refused: Authorized) -> UpstreamRequest | None:
        """The request with a newer credential than the one that was refused; None if there is none."""
        ...


class TokenCredential:
    refusals = frozenset({401})

    def __init__(self, renewal: Renewal[bytes]) -> None:
        self.renewal = renewal

    @property
    def sent(self) -> tuple[bytes, ...]:
        return tuple(value.removeprefix(b"Bearer ") for value in self.renewal.values)

    async def authorize(self, request: UpstreamRequest) -> Authorized:
        token = await self.renewal.get()
        return Authorized(_with(request, [(_AUTHORIZATION, token)]), token)

    async def authorize_again(self, refused: Authorized) -> UpstreamRequest | None:
        token = await self.renewal.renewed(refused.used)
        return None if token is None else _with(refused.request, [(_AUTHORIZATION, token)])


class SignatureCredential:
    """A signature of AWS over method, path, host, content-type, and body."""

    refusals = frozenset({401, 403})  # AWS says 403, also for what the account may not do

    def __init__(self, renewal: Renewal[AwsKeys], signer: Signer, clock: Callable[[], float] = time.time) -> None:
        """clock: Unix seconds."""
        self.renewal = renewal
        self._signer = signer
        self._clock = clock

    @property
    def sent(self) -> tuple[bytes, ...]:
        return tuple(keys.session_token.encode() for keys in self.renewal.values if keys.session_token)

    async def authorize(self, request: UpstreamRequest) -> Authorized:
        whole, keys = await _whole(request), await self.renewal.get()
        return Authorized(self._signed(whole, keys), keys)

    async def authorize_again(self, refused: Authorized) -> UpstreamRequest | None:
        keys = await self.renewal.renewed(refused.used)
        return None if keys is None else self._signed(refused.request, keys)

    def _signed(self, request: UpstreamRequest, keys: AwsKeys) -> UpstreamRequest:
        body = request.body if isinstance(request.body, bytes) else b""
        covered = [(b"host", host_of(request.origin)), *(h for h in request.headers if h[0] == b"content-type")]
        return _with(request, self._signer.sign(keys, request.method, request.path, covered, body, self._clock()))


class AuthorizedTransport:
    """A Transport over another one, which it closes with itself."""

    def __init__(self, inner: Transport, credential: CloudCredential) -> None:
        self.credential = credential
        self._inner = inner

    async def send(self, request: UpstreamRequest, connect_s: float) -> UpstreamReply:
        """Sends like Transport.send. A request that is refused is sent once more if a newer credential is available: a
        token may be revoked before it expires."""
        request.join()
        sent = await self.credential.authorize(request)
        reply = await self._inner.send(sent.request, connect_s)
        if reply.status not in self.credential.refusals or not isinstance(sent.request.body, bytes):
            return reply
        try:
            again = await self.credential.authorize_again(sent)
        except BaseException:
            reply.close()
            raise
        if again is None:
            return reply
        reply.close()
        return await self._inner.send(again, connect_s)

    async def aclose(self) -> None:
        await self._inner.aclose()


def credential_of(auth: CloudAuth, service: str, proxy: str | None = None) -> CloudCredential:
    """service: for signatures, if the config names none. proxy: URL of the proxy on the way to the cloud."""
    quiet_libraries()
    if auth.kind == "sigv4":
        aws = AwsSource(auth, proxy)
        keys = Renewal("aws", aws.fetch, auth.secrets, forget=aws.forget)
        return SignatureCredential(keys, Signer(auth.region or "", auth.service or service))
    source = GoogleSource(auth, proxy) if auth.kind == "google" else EntraSource(auth, proxy)
    return TokenCredential(Renewal(auth.kind, source.fetch, auth.secrets, forget=source.forget))


_TIME_REFUSED = (b"RequestTimeTooSkewed", b"Signature expired", b"Signature not yet current")


def refuses_time(status: int, body: bytes) -> bool:
    """Whether a server refuses a signature for the time that it was made at, which is this machine's clock."""
    return status in (400, 401, 403) and any(words in body for words in _TIME_REFUSED)


def host_of(origin: str) -> bytes:
    """The Host header that the transports send."""
    parts = urlsplit(origin)
    name = parts.hostname or ""
    name = f"[{name}]" if ":" in name else name
    port = parts.port
    return (name if port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{name}:{port}").encode()


def _with(request: UpstreamRequest, headers: list[tuple[bytes, bytes]]) -> UpstreamRequest:
    names = {name for name, _ in headers}
    return replace(request, headers=[*(h for h in request.headers if h[0] not in names), *headers])


async def _whole(request: UpstreamRequest) -> UpstreamRequest:
    """The request with its body complete. Raises TooLarge."""
    given = request.join()
    if isinstance(given, bytes):
        return request
    body = bytearray()
    async for part in given:
        body += part
        if len(body) > _SIGNED_BODY_BYTES:
            raise TooLarge(f"a form above {_SIGNED_BODY_BYTES >> 20} MB cannot be signed for AWS", retry=False)
    return replace(request, body=bytes(body), length=None)
