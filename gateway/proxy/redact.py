"""What never enters the stream: the bytes of images and sounds that requests carry inline."""

from __future__ import annotations

import re
from hashlib import sha256

_LEAST = 64  # characters; shorter runs are words, names and digests
# JSON encoders may write / + = and - as escapes, and JSON within JSON doubles the backslashes.
_RUN = rb"(?:[A-Za-z0-9+/=_%-]++|\\+(?:/|u002[bBdDfF5]|u003[dD]|u005[fF]))++"
_BREAK = rb"(?:\\+[nr])+"
_PAYLOAD = rb"(" + _RUN + rb"(?:" + _BREAK + rb"[A-Za-z0-9+/=_-]{60,}+)*+)"  # MIME's lines; a word may follow a break
_DATA_URL = re.compile(rb"(;[bB][aA][sS][eE]64,)" + _PAYLOAD)
_DATA = re.compile(rb'("data\\*"\s*:\s*\\*")' + _PAYLOAD + rb'(?=(?:\\+[nr])*\\*")')


def without_data_urls(body: bytes, cap_bytes: int) -> tuple[bytes, bool]:
    """The request with each base64 payload replaced by its SHA-256 and size; and whether it was then cut.

    Payloads are those of data: URLs, wherever they stand, and the members `data` of sounds and images. Text in place of
    text: the JSON stays JSON unless it is cut at `cap_bytes`.
    """
    body = _DATA_URL.sub(_named, body)
    if b'"data' in body:
        body = _DATA.sub(_named, body)
    return (body[:cap_bytes], True) if len(body) > cap_bytes else (body, False)


def _named(match: re.Match[bytes]) -> bytes:
    payload = match[2]
    if len(payload) < _LEAST:
        return match[0]
    return b"%bsha256=%b;bytes=%d" % (match[1], sha256(payload).hexdigest().encode(), len(payload) * 3 // 4)
