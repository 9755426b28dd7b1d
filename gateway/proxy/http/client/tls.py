"""TLS towards upstreams: trusted certificates, and the one that the gateway presents."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path


class UnusableTlsFile(Exception):
    """A certificate or key cannot be used. field: of the upstream's config."""

    def __init__(self, field: str, path: str, reason: str) -> None:
        super().__init__(f"{field}: {path}: {reason}")


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """The PEM files of one upstream."""

    ca_file: str | None = None
    """Certificates to trust; None: the system's."""
    cert_file: str | None = None
    """The client's certificate; None if none is shown."""
    key_file: str | None = None

    @property
    def customized(self) -> bool:
        return self.ca_file is not None or self.cert_file is not None

    def context(self) -> ssl.SSLContext:
        """Raises UnusableTlsFile."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise UnusableTlsFile("ca_file", self.ca_file or "", _reason(error)) from error
        if self.cert_file is not None and self.key_file is not None:
            self._show(context, self.cert_file, self.key_file)
        return context

    def _show(self, context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
        for field, file in (("cert_file", cert_file), ("key_file", key_file)):
            try:
                Path(file).open("rb").close()
            except OSError as error:
                raise UnusableTlsFile(field, file, _reason(error)) from error
        try:
            # The password keeps OpenSSL from asking on the terminal for that of an encrypted key.
            context.load_cert_chain(cert_file, key_file, password="")
        except OSError as error:
            raise UnusableTlsFile("key_file", key_file, f"not the key of {cert_file}: {_reason(error)}") from error

    def stamps(self) -> tuple[tuple[str | None, int | None], ...]:
        """Returns each file with the time at which it was written: a rewritten file makes another value."""
        return tuple((file, _written(file)) for file in (self.ca_file, self.cert_file, self.key_file))


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _written(file: str | None) -> int | None:
    if file is not None:
        with contextlib.suppress(OSError):
            return Path(file).stat().st_mtime_ns
    return None
