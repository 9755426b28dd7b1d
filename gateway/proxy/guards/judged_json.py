"""JSON as guards read it: leniently where a client may, and strictly where a guard may refuse. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from gateway.core.json_values import parse_object
from gateway.core.sse import events
from gateway.proxy.dialects import lenient_json

_HALF_PAIR = re.compile("[\ud800-\udfff]")


class RepeatedMember(ValueError):
    """An object of the JSON has two members of one name: parsers differ in which of them they use."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class NestedTooDeeply(ValueError):
    """The JSON has more levels than a guard judges."""


def judged_object(data: bytes) -> dict[str, Any] | None:
    """The object that a client may read in these bytes, also where it is not strict JSON. None if there is none.

    An unpaired surrogate, which no search can read, is replaced by U+FFFD.
    """
    value = parse_object(data)
    if value is None:
        value = judged_value(data)
    return value if isinstance(value, dict) else None


def judged_value(data: bytes) -> Any:
    """The JSON value of any kind that a client may read in these bytes; None if there is none."""
    try:
        return _searchable(lenient_json.loads(data))
    except (ValueError, RecursionError):
        return None


def unambiguous_object(data: bytes) -> dict[str, Any] | None:
    """The object of a request that a guard may refuse, as judged_object has it.

    Raises RepeatedMember and NestedTooDeeply.
    """
    try:
        value = json.loads(data.decode("utf-8-sig", "replace"), object_pairs_hook=_without_repeats)
    except RecursionError:
        raise NestedTooDeeply from None
    except RepeatedMember:
        raise
    except ValueError:
        return None
    if b"\\ud" in data or b"\\uD" in data:
        value = _searchable(value)
    return value if isinstance(value, dict) else None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise RepeatedMember(Counter(name for name, _ in pairs).most_common(1)[0][0])
    return members


def readable(data: bytes, *, stream: bool) -> bytes:
    """An answer as `assemble` reads it: without unpaired surrogates, because of which it would leave a part out."""
    if b"\\ud" not in data and b"\\uD" not in data:
        return data
    if not stream:
        return lenient_json.dumps(judged_object(data) or {})
    parts = (judged_object(event.data) for event in events(data) if event.data[:1] == b"{")
    return b"".join(b"data: " + lenient_json.dumps(part) + b"\n\n" for part in parts if part is not None)


def _searchable(value: Any) -> Any:
    if isinstance(value, str):
        return _HALF_PAIR.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_searchable(name): _searchable(inner) for name, inner in value.items()}
    return [_searchable(inner) for inner in value] if isinstance(value, list) else value
