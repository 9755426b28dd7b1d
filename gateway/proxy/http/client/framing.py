"""Where bodies end: what a response head says of its own, and how a request's is written. No sockets, no parser.

The parser has refused already: both kinds of length at once, two lengths, folded lines, bare CR, LF and NUL.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator

from gateway.core.errors import BadResponse
from gateway.proxy.types import Headers

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 200

_BODILESS = frozenset((204, 304))
_TIMEOUT = re.compile(rb"(?:^|[,;\s])timeout=(\d{1,9})(?!\d)", re.IGNORECASE)


def check_size(headers: Headers, received: int) -> None:
    """Raises BadResponse above the limits. received: bytes so far, body bytes perhaps among them."""
    if len(headers) > MAX_HEADERS:
        raise BadResponse(f"{len(headers)} headers, over the limit of {MAX_HEADERS}")
    if received > MAX_HEAD_BYTES and sum(len(name) + len(value) for name, value in headers) > MAX_HEAD_BYTES:
        raise BadResponse(f"headers over the limit of {MAX_HEAD_BYTES} bytes")


def read_framing(headers: Headers, status: int) -> tuple[bool, float | None]:
    """Whether the body ends where the connection does, and the seconds that the connection may rest, if it says so.

    Raises BadResponse for a transfer-encoding other than one `chunked`: guessing at such a body's end is how one
    caller gets another's answer.
    """
    fields = dict(headers)
    until_close = False
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked" or sum(name == b"transfer-encoding" for name, _ in headers) > 1:
            raise BadResponse(f"transfer-encoding {coding[:40]!r}: only a single chunked can be read")
    elif b"content-length" not in fields and status not in _BODILESS:
        until_close = True
    said = fields.get(b"keep-alive")
    match = _TIMEOUT.search(said) if said else None
    # A second less, for the peer counts from when it sent the reply and we from when we had read it.
    return until_close, float(match[1]) - 1.0 if match else None


async def framed(parts: AsyncIterable[bytes], length: int | None) -> AsyncIterator[list[bytes]]:
    """A request's body as it is written: as it is where its length was announced, else in chunks."""
    if length is not None:
        async for part in counted(parts, length):
            yield [part]
        return
    async for part in parts:
        if part:
            yield [b"%x\r\n" % len(part), part, b"\r\n"]
    yield [b"0\r\n\r\n"]


async def counted(parts: AsyncIterable[bytes], length: int) -> AsyncIterator[bytes]:
    """Raises ValueError for any other length: the peer would take what is too much for the next request."""
    sent = 0
    async for part in parts:
        sent += len(part)
        if sent > length:
            raise ValueError(f"a stream of over {length} bytes, which it was announced to have")
        yield part
    if sent < length:
        raise ValueError(f"a stream of {sent} bytes, announced to have {length}")
