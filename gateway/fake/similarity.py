"""The similarity of two texts by the words that they share."""

from __future__ import annotations

import math
import re
import zlib


def vector(text: str, dimensions: int = 64) -> list[float]:
    """A unit vector of the text's words: texts that share words have similar vectors. All zeros without words."""
    values = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()):
        mark = zlib.crc32(word.encode())
        values[(mark >> 1) % dimensions] += 1.0 if mark & 1 else -1.0
    norm = math.sqrt(sum(v * v for v in values)) or 1.0
    return [v / norm for v in values]


def similarity(a: str, b: str, dimensions: int = 64) -> float:
    return sum(x * y for x, y in zip(vector(a, dimensions), vector(b, dimensions), strict=True))
