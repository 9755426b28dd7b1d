"""The field `model` of a multipart form, edited in the bytes. Pure. Source: RFC 7578."""

from __future__ import annotations

import re
from collections.abc import Iterator

_NAME = (b'name="model"', b"name=model")
_FIELD = re.compile(
    rb"--[^\r\n]+\r\n"
    rb"(?:[^\r\n]+\r\n)*?"
    rb'content-disposition:[ \t]*form-data;[^\r\n]*?\bname=(?:"model"|model(?=[;\r]))[^\r\n]*\r\n'
    rb"(?:[^\r\n]+\r\n)*"
    rb"\r\n(.*?)(?=\r\n--)",
    re.I | re.S,
)
_REACH = 1024  # bytes of headers before the name, and of the value after it


def set_model(body: bytes, model: str) -> bytes:
    """The form with every field `model` saying that; the same bytes where there is none. Files are not touched."""
    value = model.encode()
    pieces, done = [], 0
    for start, end in sorted(_values(body)):
        pieces += [body[done:start], value]
        done = end
    return b"".join((*pieces, body[done:]))


def _values(body: bytes) -> Iterator[tuple[int, int]]:
    """Offsets of the fields' values. The name is looked for first: files are large, and a search for it is fast."""
    boundary = body[: body.find(b"\r\n") + 2]
    for name in _NAME:
        at = body.find(name)
        while at >= 0:
            part = body.rfind(boundary, max(0, at - _REACH), at)
            field = _FIELD.match(body, part, at + _REACH) if part >= 0 else None
            if field is not None and at < field.start(1):
                yield field.span(1)
            at = body.find(name, at + 1)
