"""The ends of bodies: reading them from a response head, and writing it for a request. No sockets, no parser.

The parser itself refuses both kinds of length at once, two lengths, folded lines, and bare CR, LF or NUL.
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
    """Raises BadResponse above the limits. received: bytes so far, possibly including body bytes."""
    if len(headers) > MAX_HEADERS:
        raise BadResponse(f"{len(headers)} headers, over the limit of {MAX_HEADERS}")
    if received > MAX_HEAD_BYTES and sum(len(name) + len(value) for name, value in headers) > MAX_HEAD_BYTES:
        raise BadResponse(f"headers over the limit of {MAX_HEAD_BYTES} bytes")


def read_framing(headers: Headers, status: int) -> tuple[bool, float | None]:
    """(the body ends with the connection, idle seconds that the peer announces or None).

    Raises BadResponse for a transfer-encoding other than a single `chunked`: guessing where such a body ends could give
    one caller the answer of another.
    """
    fields = dict(headers)
    until_close = False
    if b"transfer-encoding" in fields:
        coding = fields[b"transfer-encoding"]
        if coding.lower() != b"chunked" or [name for name, _ in headers].count(b"transfer-encoding") > 1:
            raise BadResponse(f"transfer-encoding {coding[:40]!r}: only a single `chunked` is supported")
    elif b"content-length" not in fields and status not in _BODILESS:
        until_close = True
    match = _TIMEOUT.search(fields[b"keep-alive"]) if b"keep-alive" in fields else None
    # One second less: the peer counts from when it sent the reply, we from when we received it.
    return until_close, float(match[1]) - 1.0 if match else None


async def framed(parts: AsyncIterable[bytes], length: int | None) -> AsyncIterator[list[bytes]]:
    """A request's body as written to the wire: unchanged if its length was announced, otherwise chunked."""
    if length is not None:
        async for part in counted(parts, length):
            yield [part]
        return
    async for part in parts:
        if part:
            yield [b"%x\r\n" % len(part), part, b"\r\n"]
    yield [b"0\r\n\r\n"]


async def counted(parts: AsyncIterable[bytes], length: int) -> AsyncIterator[bytes]:
    """Checks the length. Raises ValueError if it differs: the peer would take a surplus for the next request."""
    sent = 0
    async for part in parts:
        sent += len(part)
        if sent > length:
            raise ValueError(f"the request body is longer than the {length} bytes announced")
        yield part
    if sent < length:
        raise ValueError(f"the request body has {sent} bytes, {length} were announced")
