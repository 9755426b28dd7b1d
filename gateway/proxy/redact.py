"""What never enters the stream: the bytes of images and sounds that requests carry inline."""

from __future__ import annotations

import re
from hashlib import sha256

_DATA_URL = re.compile(
    rb'"data:([a-zA-Z0-9.+/-]{1,100})?(?:;[a-zA-Z0-9=.+-]{1,60}){0,4};base64,([A-Za-z0-9+/=_-]{64,})"'
)
_AUDIO = re.compile(rb'("data"\s*:\s*)"([A-Za-z0-9+/=_-]{256,})"')


def without_data_urls(body: bytes, cap_bytes: int) -> tuple[bytes, bool]:
    """The request with each base64 payload replaced by its SHA-256, size and type; and whether it was then cut.

    A string in place of a string: the JSON stays JSON unless it is cut at `cap_bytes`.
    """
    if len(body) > 256:
        if b";base64," in body:
            body = _DATA_URL.sub(_named, body)
        if b'"data"' in body:
            body = _AUDIO.sub(_named_data, body)
    return (body[:cap_bytes], True) if len(body) > cap_bytes else (body, False)


def _named(match: re.Match[bytes]) -> bytes:
    kind = match[1] or b"text/plain"
    return b'"data:%b;sha256=%b;bytes=%d"' % (kind, sha256(match[2]).hexdigest().encode(), len(match[2]) * 3 // 4)


def _named_data(match: re.Match[bytes]) -> bytes:
    digest = sha256(match[2]).hexdigest().encode()
    return b'%b"sha256=%b;bytes=%d"' % (match[1], digest, len(match[2]) * 3 // 4)
