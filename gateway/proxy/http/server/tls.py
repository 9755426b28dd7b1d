"""HTTPS of the server's own: the certificate, its reload when the files change, and connections in their handshake."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.core.errors import ConfigError
from gateway.proxy.http.server.protocol import HttpProtocol

log = logging.getLogger("gateway")


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files of the certificate, with its chain, and of its key."""

    certificate: Path
    key: Path

    @classmethod
    def of_options(cls, certificate: Path | None, key: Path | None) -> CertificateFiles | None:
        """Returns None if neither option was given. Raises ConfigError if only one was, or if the files do not work."""
        if certificate is None and key is None:
            return None
        if certificate is None or key is None:
            raise ConfigError(["--tls-cert and --tls-key need each other; give both or neither"])
        files = cls(certificate, key)
        if mistake := files.mistake():
            raise ConfigError([f"--tls-cert, --tls-key: {mistake}"])
        return files

    def mistake(self) -> str | None:
        """The mistake in the files; None if they can be used."""
        try:
            # The password callback keeps OpenSSL from asking on the terminal for that of an encrypted key.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, password="")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            return (
                f"{self.certificate}, {self.key}: {error.strerror or error}"
                if isinstance(error, OSError)
                else str(error)
            )
        return None

    def stamp(self) -> tuple[float, ...]:
        """Changes with the files; () while one of them is missing."""
        try:
            return tuple(time for file in (self.certificate, self.key) for time in (file.stat().st_mtime_ns,))
        except OSError:
            return ()


class CertificateReload:
    """Loads changed files into the context that the server uses: connections from then on get the new certificate."""

    def __init__(self, files: CertificateFiles, context: ssl.SSLContext) -> None:
        self._files = files
        self._context = context
        self._seen = files.stamp()

    def look(self) -> None:
        """Blocks for as long as reading two small files takes. Unusable files are logged and ignored."""
        stamp = self._files.stamp()
        if stamp in (self._seen, ()):
            return
        self._seen = stamp
        if mistake := self._files.mistake():  # tried on another context: this one would be left without its key
            log.error("the new TLS certificate is refused; the previous one stays in use: %s", mistake)
            return
        self._context.load_cert_chain(self._files.certificate, self._files.key, password="")
        log.info("TLS certificate reloaded from %s", self._files.certificate)


class TlsConnection(asyncio.Protocol):
    """A client connection during its TLS handshake.

    asyncio's own TLS server shows a connection only after the handshake: one without end would hold memory and a file
    uncounted, for a minute. Here it counts from its beginning, and has `handshake_s`.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        kind: type[HttpProtocol],
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Takes the arguments of the protocol that speaks HTTP after the handshake; kind is its class."""
        self._context = context
        self._http = kind(config, server_state, app_state, _loop)
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = cast(asyncio.Transport, transport)
        if not self._http.admit(raw):
            self._http.not_made()
            raw.abort()
            return
        loop, early = self._http.loop, _EarlyData()
        # Begun at once: what the client has sent already goes to the protocol that the transport has after this method.
        begun = _Begun(
            loop.start_tls(raw, early, self._context, server_side=True, ssl_handshake_timeout=self._http.handshake_s)
        )
        self._opening = loop.create_task(self._open(begun, early, raw))

    async def _open(self, begun: _Begun, early: _EarlyData, raw: asyncio.Transport) -> None:
        try:
            opened = await begun
        except (OSError, ssl.SSLError, asyncio.CancelledError):
            self._http.not_made()
            raw.abort()
            return
        early.hand_over(opened, self._http)


class _EarlyData(asyncio.Protocol):
    """Receives bytes behind a handshake before its end has been noticed."""

    def __init__(self) -> None:
        self._data = b""
        self._lost = False

    def data_received(self, data: bytes) -> None:
        self._data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True

    def hand_over(self, transport: asyncio.Transport | None, http: HttpProtocol) -> None:
        if self._lost or transport is None:
            http.not_made()
            return
        transport.set_protocol(http)
        http.connection_made(transport)
        if self._data:
            http.data_received(self._data)


class _Begun:
    """A coroutine that runs up to its first wait immediately, and continues when it is awaited."""

    def __init__(self, coroutine: Coroutine[Any, Any, asyncio.Transport | None]) -> None:
        self._coroutine = coroutine
        self._first = coroutine.send(None)

    def __await__(self) -> Generator[Any, Any, asyncio.Transport | None]:
        step = self._first
        while True:
            try:
                sent = yield step
            except BaseException as error:  # a cancellation among them, which belongs to the coroutine
                try:
                    step = self._coroutine.throw(error)
                except StopIteration as done:
                    return cast("asyncio.Transport | None", done.value)
            else:
                try:
                    step = self._coroutine.send(sent)
                except StopIteration as done:
                    return cast("asyncio.Transport | None", done.value)
