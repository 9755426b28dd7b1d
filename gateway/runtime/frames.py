"""Frames between this program and a child of its own: the size as a 32-bit number, then as many bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import orjson

HEAD = struct.Struct("!I")
MOST_BYTES = 64 << 20
"""The largest frame that is read."""


def frame(data: bytes) -> bytes:
    return HEAD.pack(len(data)) + data


def json_frame(value: Mapping[str, Any]) -> bytes:
    return frame(orjson.dumps(value, default=str))
