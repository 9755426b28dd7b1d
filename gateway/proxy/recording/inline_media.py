"""Replaces inline images and audio by their digests: their bytes never enter the stream. Pure."""

from __future__ import annotations

import re
from hashlib import sha256
from string import ascii_letters, digits

_MIN_PAYLOAD = 64  # characters; shorter runs are words, names and digests
# JSON encoders may write / + = and - as escapes, and JSON within JSON doubles the backslashes.
_RUN = rb"(?:[A-Za-z0-9+/=_%-]++|\\+(?:/|u002[bBdDfF5]|u003[dD]|u005[fF]))++"
_BREAK = rb"(?:\\+[nr])+"
_PAYLOAD = rb"(" + _RUN + rb"(?:" + _BREAK + rb"[A-Za-z0-9+/=_-]{60,}+)*+)"  # MIME's lines; a word may follow a break
DATA_URL = re.compile(rb"(;[bB][aA][sS][eE]64,)" + _PAYLOAD)
_BASE64 = b";base64,"
_ALPHABET = (ascii_letters + digits + "+/=_%-").encode()
_LARGE = 65_536
_FIRST, _PIECE = 64, 262_144
_DATA = re.compile(rb'("data\\*"\s*:\s*\\*")' + _PAYLOAD + rb'(?=(?:\\+[nr])*\\*")')


def without_data_urls(body: bytes, cap_bytes: int) -> tuple[bytes, bool]:
    """(the request with each base64 payload replaced by its SHA-256 and size, whether it was cut at `cap_bytes`).

    Payloads are those of data: URLs, in any place, and of members `data` of audio and images. Text replaces text, so
    that the JSON stays valid unless it is cut.
    """
    if b";" in body and body.rfind(b"64,") >= 0:  # "in" takes five times as long in some builds of CPython
        body = _without_urls(body)
    if body.rfind(b'"data') >= 0:
        body = _DATA.sub(name_payload, body)
    return (body[:cap_bytes], True) if len(body) > cap_bytes else (body, False)


def without_images(answer: bytes) -> bytes:
    """The answer with the payloads of its data: URLs replaced in the same way; members `data` are the model's text."""
    return _without_urls(answer) if b";" in answer and answer.rfind(b"64,") >= 0 else answer


def _without_urls(body: bytes) -> bytes:
    return _without_large(body) if len(body) > _LARGE else DATA_URL.sub(name_payload, body)


def _without_large(body: bytes) -> bytes:
    """Replaces like the pattern, for payloads that are large and end with their JSON string.

    They are hashed in pieces, which takes a quarter of the time, and other threads run while a piece is hashed.
    """
    parts, kept, at = [], 0, 0
    while (found := body.find(_BASE64, at)) >= 0:
        at = found + len(_BASE64)
        end = _run_end(body, at)
        if end - at >= _LARGE and body[end : end + 1] == b'"':
            parts.append(DATA_URL.sub(name_payload, body[kept:at]))
            parts.append(b"sha256=%b;bytes=%d" % (_digest(body, at, end), (end - at) * 3 // 4))
            kept = at = end
    return b"".join([*parts, DATA_URL.sub(name_payload, body[kept:])])


def _run_end(body: bytes, start: int) -> int:
    """The end of the characters of base64 that begin here. The pieces grow, so that a short run costs little."""
    low, size = start, _FIRST
    while low < len(body):
        piece = body[low : low + size]
        if others := piece.translate(None, _ALPHABET):
            return low + piece.index(others[:1])
        low, size = low + size, min(2 * size, _PIECE)
    return len(body)


def _digest(body: bytes, start: int, end: int) -> bytes:
    """The SHA-256 of body[start:end] in hex."""
    hashed = sha256()
    for low in range(start, end, _PIECE):
        hashed.update(body[low : min(end, low + _PIECE)])
    return hashed.hexdigest().encode()


def name_payload(match: re.Match[bytes]) -> bytes:
    """The replacement of a match of DATA_URL: its head with the digest and size of the payload."""
    payload = match[2]
    if len(payload) < _MIN_PAYLOAD:
        return match[0]
    return b"%bsha256=%b;bytes=%d" % (match[1], sha256(payload).hexdigest().encode(), len(payload) * 3 // 4)
