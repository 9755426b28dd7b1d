"""Adding one message at the end of a request's `messages`, by splicing."""

from __future__ import annotations

import orjson

from gateway.proxy.request.json_splice import scan


def with_assistant(body: bytes, said: str) -> bytes:
    """The request with `{"role": "assistant", "content": said}` as its last message; all else untouched.

    Raises ValueError when the body has no list `messages`.
    """
    start, end = scan(body).get(b"messages", (0, 0))
    if body[start : start + 1] != b"[":
        raise ValueError("no list of messages")
    message = orjson.dumps({"role": "assistant", "content": said})
    close = end - 1  # the list's bracket
    comma = b"" if body[start + 1 : close].strip() == b"" else b","
    return body[:close] + comma + message + body[close:]
