"""The field `model` of a multipart form, edited in the bytes. Pure. Source: RFC 7578."""

from __future__ import annotations

import re

_MODEL = re.compile(
    rb"(?:\A|\r\n)--[^\r\n]+\r\n"
    rb"(?:[^\r\n]+\r\n)*?"
    rb'content-disposition:[ \t]*form-data;[^\r\n]*?\bname=(?:"model"|model(?=[;\r]))[^\r\n]*\r\n'
    rb"(?:[^\r\n]+\r\n)*"
    rb"\r\n(.*?)(?=\r\n--)",
    re.I | re.S,
)


def set_model(body: bytes, model: str) -> bytes:
    """The form with every field `model` saying that; the same bytes where there is none. Files are not touched."""
    value = model.encode()
    pieces, done = [], 0
    for found in _MODEL.finditer(body):
        pieces += [body[done : found.start(1)], value]
        done = found.end(1)
    return b"".join((*pieces, body[done:]))
