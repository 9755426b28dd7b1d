"""The server's own certificate, and its reload when the files change."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from gateway.core.errors import ConfigError

log = logging.getLogger("gateway")


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files of the certificate, with its chain, and of its key."""

    certificate: Path
    key: Path

    @classmethod
    def of_options(cls, certificate: Path | None, key: Path | None) -> CertificateFiles | None:
        """None: neither option was given. Raises ConfigError if only one was, or if the files do not work."""
        if certificate is None and key is None:
            return None
        if certificate is None or key is None:
            raise ConfigError(["--tls-cert and --tls-key need each other; give both or neither"])
        files = cls(certificate, key)
        if mistake := files.mistake():
            raise ConfigError([f"--tls-cert, --tls-key: {mistake}"])
        return files

    def mistake(self) -> str | None:
        """What is wrong with the files; None: they can be used."""
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
        """Blocks for as long as reading two small files takes. What cannot be used is logged and left."""
        stamp = self._files.stamp()
        if stamp in (self._seen, ()):
            return
        self._seen = stamp
        if mistake := self._files.mistake():  # tried on another context: this one would be left without its key
            log.error("the new TLS certificate is refused; the previous one stays in use: %s", mistake)
            return
        self._context.load_cert_chain(self._files.certificate, self._files.key, password="")
        log.info("TLS certificate reloaded from %s", self._files.certificate)
