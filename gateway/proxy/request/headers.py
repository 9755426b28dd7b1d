"""Header allow-lists: which of a client's headers go upstream, and which of an upstream's go to the client."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.proxy.types import Headers

_UPSTREAM = frozenset(
    {
        b"traceparent", b"tracestate", b"user-agent", b"content-type", b"accept", b"accept-language",
        b"openai-beta", b"anthropic-version", b"anthropic-beta",
        b"idempotency-key", b"http-referer", b"x-title",
    }
)  # fmt: skip
_CLIENT = frozenset(
    {
        b"content-type",
        b"retry-after",
        b"retry-after-ms",
        b"x-should-retry",
        b"content-disposition",
    }
)
_UPSTREAM_TIME = b"openai-processing-ms"
_UPSTREAM_ACCOUNT = b"openai-organization"  # whose credential the gateway uses
_CLIENT_PREFIXES = (b"openai-", b"x-ratelimit-", b"anthropic-")
_EVENTS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


def for_upstream(headers: Iterable[tuple[bytes, bytes]], client_id: str | None) -> Headers:
    """The headers an upstream may see. Never a credential, a cookie, a hop-by-hop header, or one not listed here.

    OpenAI-Organization and OpenAI-Project are not among them: they would choose who pays for the gateway's credential.
    """
    out = [h for h in headers if h[0] in _UPSTREAM or h[0][:12] == b"x-stainless-"]
    if client_id is not None:
        out.append((b"x-request-id", client_id.encode()))
    return out


def for_client(headers: Headers) -> Headers:
    """The headers a client may see of an upstream's answer, without its processing time: the gateway sends its own."""
    out: Headers = []
    for header in headers:
        name = header[0]
        if name in _CLIENT or (name.startswith(_CLIENT_PREFIXES) and name not in (_UPSTREAM_TIME, _UPSTREAM_ACCOUNT)):
            out.append(header)
            if name == b"content-type" and header[1].startswith(b"text/event-stream"):
                out += _EVENTS
    return out


def sane_id(value: bytes | None) -> str | None:
    """A client's own id, if it is 1 to 128 characters of printable ASCII; otherwise None."""
    if value is None or not 0 < len(value) <= 128:
        return None
    return value.decode("ascii") if all(33 <= c <= 126 for c in value) else None
