"""Hides the credentials of an upstream in the texts of that upstream: some servers repeat the one that they refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import quote

from gateway.config.upstreams import Upstream

_SHORTEST_HEADER = 16  # characters of a configured header's value that is taken for a secret


class SecretMask:
    """Masks the credentials of one upstream in any text that becomes an error: a body, an event, a log line."""

    def __init__(self, upstream: Upstream, tokens: Callable[[], Iterable[bytes]] = tuple) -> None:
        """tokens: those of a cloud that are in use now."""
        headers = (value for value in upstream.headers.values() if len(value) >= _SHORTEST_HEADER)
        bare = (value.removeprefix("Bearer ") for value in headers)
        keys = [key for key in (upstream.api_key, *bare) if key]
        self._spellings = sorted({s for key in keys for s in _spellings(key.encode())}, key=len, reverse=True)
        self._tokens = tokens

    def __call__(self, body: bytes) -> bytes:
        for spelled in self._spellings:
            body = body.replace(spelled, b"[key]")
        for token in self._tokens():
            for spelled in _spellings(token):
                body = body.replace(spelled, b"[token]")
        return body

    def text(self, text: str) -> str:
        return self(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")

    @property
    def longest(self) -> int:
        """Bytes of the longest text that is masked."""
        tokens = (spelled for token in self._tokens() for spelled in _spellings(token))
        return max(map(len, (*self._spellings, *tokens)), default=0)


def _spellings(secret: bytes) -> tuple[bytes, ...]:
    """Returns the forms of a secret: plain, JSON-escaped, and URL-encoded."""
    return tuple(
        dict.fromkeys(
            (secret, secret.replace(b"/", b"\\/"), secret.replace(b"/", b"\\u002f"), quote(secret, safe="").encode())
        )
    )


class MaskedStream:
    """Masks bytes that arrive in any split."""

    def __init__(self, mask: SecretMask) -> None:
        self._mask = mask
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Returns the bytes that can be passed on: all but a tail in which a secret may have begun."""
        data = self._mask(self._held + data)
        keep = min(len(data), max(0, self._mask.longest - 1))
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def end(self) -> bytes:
        held, self._held = self._held, b""
        return held
