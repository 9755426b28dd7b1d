"""Reads the public keys of token issuers, off the hot path: at the start, every few minutes, and when a token names a
key that is not there. The last keys read stay in force for a day while an issuer does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from gateway.config.jwt import JwtIssuer, is_safe
from gateway.core.backoff import Backoff
from gateway.core.errors import TransportError
from gateway.core.json_values import as_object
from gateway.proxy.http.client.http1 import Http1Transport
from gateway.proxy.http.client.resolver import Resolver
from gateway.proxy.http.client.tls import UnusableTlsFile, UpstreamTls
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.tokens import SigningKeys, read_jwks
from gateway.runtime.tasks import Tasks

log = logging.getLogger(__name__)

_MOST_BYTES = 1_000_000
_MOST_AGE_S = 86_400.0
_AGAIN = Backoff(first_s=1.0, most_s=60.0)
ASKED_S = 10.0
"""Seconds between two reads that tokens trigger: anyone can send a token."""
FIRST_S = 2.0
"""Seconds that a start waits for the first read."""


@dataclass
class SigningKeyPoller:
    """Keeps one process's SigningKeys up to date, for the issuers of the config in force."""

    keys: SigningKeys
    changed: Callable[[], None]
    """Called when keys were added or removed."""
    tasks: Tasks
    resolver: Resolver = field(default_factory=Resolver)
    asked_s: float = ASKED_S
    failing: dict[str, str] = field(default_factory=dict, init=False)
    """Issuers whose keys cannot be read now → why."""
    _running: dict[str, tuple[JwtIssuer, asyncio.Task[None]]] = field(default_factory=dict, init=False)
    _first: dict[str, asyncio.Event] = field(default_factory=dict, init=False)

    def follow(self, issuers: Mapping[str, JwtIssuer]) -> None:
        """Begins to read the keys of new issuers, and forgets those of issuers that changed or are gone."""
        for name, (issuer, task) in list(self._running.items()):
            if issuers.get(name) != issuer:
                task.cancel()
                del self._running[name]
                self.keys.asked.pop(name, None)
                self.failing.pop(name, None)
                self._put(name, None)
        for name, issuer in issuers.items():
            if name not in self._running:
                self._first[name] = asyncio.Event()
                self._running[name] = (issuer, self.tasks.start(self._run(name, issuer), f"keys of {name}"))

    async def start(self, issuers: Mapping[str, JwtIssuer]) -> None:
        """Follows them, and waits a moment for their keys."""
        self.follow(issuers)
        waiting = [self.tasks.start(event.wait(), "first keys") for event in self._first.values()]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=FIRST_S)
            for task in late:
                task.cancel()

    async def _run(self, name: str, issuer: JwtIssuer) -> None:
        failures, read_at = 0, time.monotonic()
        while True:
            try:
                keys = read_jwks(await self._read(issuer))
            except (TransportError, OSError, ValueError, TimeoutError, UnusableTlsFile) as error:
                failures += 1
                self.failing[name] = str(error) or type(error).__name__
                self._failed(name, error, failures, time.monotonic() - read_at)
            else:
                if failures:
                    log.info("jwt.%s: the issuer's keys are readable again", name)
                failures, read_at = 0, time.monotonic()
                self.failing.pop(name, None)
                self._put(name, keys)
            self._first[name].set()
            await self._pause(name, _AGAIN.wait_s(failures) if failures else issuer.refresh_s)

    def _failed(self, name: str, error: Exception, failures: int, age_s: float) -> None:
        if failures == 1:
            log.warning("jwt.%s: cannot fetch the issuer's keys; retrying: %s", name, error)
        if name in self.keys.of and age_s > _MOST_AGE_S:
            log.error("jwt.%s: the issuer's keys were last read %.0f h ago; its tokens are refused", name, age_s / 3600)
            self._put(name, None)

    def _put(self, name: str, keys: object) -> None:
        known = self.keys.of.get(name)
        if isinstance(keys, tuple):
            self.keys.of[name] = keys
        else:
            self.keys.of.pop(name, None)
        before = {(k.id, k.algorithm, _numbers(k.key)) for k in known or ()}
        if {(k.id, k.algorithm, _numbers(k.key)) for k in self.keys.of.get(name, ())} != before:
            self.changed()

    async def _pause(self, name: str, wait_s: float) -> None:
        """Waits until the keys are to be read again: after wait_s, or earlier if a token asks."""
        self.keys.asked.pop(name, None)
        quiet_s = min(self.asked_s, wait_s)
        await asyncio.sleep(quiet_s)
        asked = self.keys.asked[name] = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s - quiet_s):
                await asked.wait()

    async def _read(self, issuer: JwtIssuer) -> bytes:
        """Raises OSError, ValueError, TransportError, TimeoutError, UnusableTlsFile."""
        if issuer.jwks_file is not None:
            return await asyncio.to_thread(Path(issuer.jwks_file).read_bytes)
        proxy = None if issuer.proxy == "none" else issuer.proxy
        transport = Http1Transport(tls=UpstreamTls(issuer.ca_file), resolver=self.resolver, proxy=proxy)
        try:
            async with asyncio.timeout(issuer.timeout_s):
                return await _get(transport, issuer.jwks_url or await _discover(transport, issuer))
        finally:
            await transport.aclose()


def _numbers(key: object) -> str:
    """The numbers that tell two public keys apart."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex()  # type: ignore[attr-defined, no-any-return]


async def _discover(transport: Http1Transport, issuer: JwtIssuer) -> str:
    """The URL of its keys, from its OpenID Connect discovery document. Raises ValueError."""
    raw = await _get(transport, f"{issuer.issuer.rstrip('/')}/.well-known/openid-configuration")
    found = orjson.loads(raw)
    url = as_object(found).get("jwks_uri")
    if not isinstance(url, str) or not is_safe(url):
        raise ValueError("the discovery document names no jwks_uri with https://")
    if found.get("issuer") != issuer.issuer:
        raise ValueError("the discovery document is of another issuer; set `issuer` exactly as it says")
    return url


async def _get(transport: Http1Transport, url: str) -> bytes:
    """Raises ValueError for an answer that is too large, or not HTTP 200; redirects are not followed."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = UpstreamRequest(
        b"GET",
        f"{parts.scheme}://{parts.netloc}",
        path.encode(),
        [(b"accept", b"application/json"), (b"accept-encoding", b"identity"), (b"user-agent", b"assay-gateway")],
    )
    reply = await transport.send(request, 5.0)
    try:
        if reply.status != 200:
            raise ValueError(f"{parts.scheme}://{parts.netloc}{parts.path} answered with HTTP {reply.status}")
        body = b""
        while piece := await reply.chunk():
            body += piece
            if len(body) > _MOST_BYTES:
                raise ValueError(f"{parts.netloc} answered with more than {_MOST_BYTES} bytes")
        return body
    finally:
        reply.close()
