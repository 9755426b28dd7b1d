"""Frames between this program and a child of its own."""

from __future__ import annotations

import orjson

from gateway.runtime.frames import HEAD, frame, json_frame


def test_a_frame_is_its_size_and_its_bytes() -> None:
    framed = frame(b"abc") + json_frame({"a": [1]})
    first = HEAD.unpack(framed[: HEAD.size])[0]
    rest = framed[HEAD.size + first :]
    assert framed[HEAD.size : HEAD.size + first] == b"abc"
    assert orjson.loads(rest[HEAD.size :]) == {"a": [1]}
    assert HEAD.unpack(rest[: HEAD.size])[0] == len(rest) - HEAD.size
