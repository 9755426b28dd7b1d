"""The field `model` of a multipart form, edited in the bytes. Pure; files are not touched."""

from __future__ import annotations

from gateway.proxy.multipart import fields


def set_model(body: bytes, model: str) -> bytes:
    """The form with every field `model` saying that; the same bytes where there is none."""
    value = model.encode()
    pieces, done = [], 0
    for field in fields(body):
        if field.name == b"model":
            pieces += [body[done : field.start], value]
            done = field.end
    return b"".join((*pieces, body[done:]))
