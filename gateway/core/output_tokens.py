"""Output tokens of calls of each kind: the kinds, and the tables that the consumer learns and gateways read.

A kind depends on the request alone, so that it is known before the call is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

SHARED_NAME = "output-tokens"
"""Name of the table in the shared state."""
QUANTILE = 0.9
"""Nine of ten calls of a kind stay below its number."""
OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""The three names that APIs give to the most output tokens of one answer."""
SIZES = (512, 2048, 8192, 32768)
"""Bytes of a body at which the next bucket begins."""
TOOLS, FORMAT, STREAM = 8, 16, 32
"""Bits of a kind; the bucket of the size is in the three bits below."""
KINDS = tuple(size | flags for flags in range(0, 64, 8) for size in range(len(SIZES) + 1))

Tables = Mapping[str, Mapping[int, int]]
"""Alias → kind → output tokens of one answer. An alias has all kinds, or is left out."""


def kind_of(size: int, fields: Mapping[str, Any], stream: bool) -> int:
    """size: bytes of the body. One call of a function on the hot path, hence no loop over SIZES."""
    kind = 0 if size < 512 else 1 if size < 2048 else 2 if size < 8192 else 3 if size < 32768 else 4
    if "tools" in fields:
        kind |= TOOLS
    if "response_format" in fields or "text" in fields:  # chat; responses
        kind |= FORMAT
    return kind | STREAM if stream else kind


def tables_to_json(tables: Tables) -> str:
    return orjson.dumps({alias: {str(k): n for k, n in kinds.items()} for alias, kinds in tables.items()}).decode()


def tables_from_json(text: str) -> Tables:
    """Raises ValueError for anything but whole tables."""
    raw = orjson.loads(text)
    if not isinstance(raw, dict):
        raise ValueError("not a JSON object of aliases")
    tables = {}
    for alias, kinds in raw.items():
        known = {str(k) for k in KINDS}
        if not isinstance(kinds, dict) or set(kinds) != known:
            raise ValueError(f'alias "{alias}" has not exactly the kinds {KINDS[0]} to {KINDS[-1]}')
        if any(type(n) is not int or n < 1 for n in kinds.values()):
            raise ValueError(f'alias "{alias}" has a number of tokens that is not a positive integer')
        tables[alias] = {int(k): n for k, n in kinds.items()}
    return tables
