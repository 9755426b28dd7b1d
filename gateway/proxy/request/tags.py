"""Tags that a client gives its call: `x-gateway-tags` or `metadata.tags`, as far as `tags.keys` lists them. Bounded.

A tag is "key=value". Tags become dimensions of sums that live for days, so their number is bounded: beyond
`tags.most_sets` different combinations in one process, values count as "other".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.core.errors import BadRequest
from gateway.core.json_values import as_list, as_object
from gateway.proxy.request.call import Caller

OTHER = "other"
MOST_TAGS = 8
"""Tags of one call."""
_VALUE = re.compile(r"[A-Za-z0-9_.:/@-]{1,64}")
_EXPECTED = (
    f"expected at most {MOST_TAGS} tags as key=value, separated by commas, with values of 1 to 64 letters, digits and "
    "_ . : / @ -; such as feature=search,env=prod"
)


class TagReader:
    """Reads the tags of calls by one config, and gives callers with the same tags one identity."""

    def __init__(self, keys: Sequence[str], most_sets: int) -> None:
        self._keys = frozenset(keys)
        self._most = most_sets
        self._known: set[tuple[str, ...]] = set()
        self._tagged: dict[tuple[Caller, tuple[str, ...]], Caller] = {}

    def tagged(self, caller: Caller, headers: Mapping[bytes, bytes], fields: Mapping[str, Any]) -> Caller:
        """The caller with the tags of this call: the same object for the same tags, if it is still known.

        Raises BadRequest for a malformed header."""
        tags = self.of(headers, fields)
        if not tags:
            return caller
        found = self._tagged.get((caller, tags))
        if found is None:
            if len(self._tagged) >= 4 * self._most:
                self._tagged.clear()
            found = self._tagged[caller, tags] = replace(caller, call_tags=tags)
        return found

    def of(self, headers: Mapping[bytes, bytes], fields: Mapping[str, Any]) -> tuple[str, ...]:
        """The tags, sorted, one of each key. The header's win over those of metadata."""
        given = headers.get(b"x-gateway-tags")
        named = dict(_of_metadata(fields))
        if given is not None:
            named |= _of_header(given)
        tags = tuple(sorted(f"{key}={value}" for key, value in named.items() if key in self._keys))[:MOST_TAGS]
        if tags and tags not in self._known:
            if len(self._known) >= self._most:
                return tuple(f"{tag.partition('=')[0]}={OTHER}" for tag in tags)
            self._known.add(tags)
        return tags


def _of_header(given: bytes) -> dict[str, str]:
    """Raises BadRequest."""
    parts = [part.strip() for part in given.decode("latin-1").split(",") if part.strip()]
    pairs = [part.partition("=") for part in parts]
    if not parts or len(parts) > MOST_TAGS or not all(equals and _VALUE.fullmatch(value) for _, equals, value in pairs):
        raise BadRequest(f"x-gateway-tags: {_EXPECTED}; got {given.decode('latin-1')[:200]!r}")
    return {key: value for key, _, value in pairs}


def _of_metadata(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Tags of `metadata.tags`: an object, a list of "key=value", or a text of them. Values of another form are left
    out."""
    tags = as_object(fields.get("metadata")).get("tags")
    if isinstance(tags, dict):
        pairs = [(str(key), "=", value) for key, value in tags.items()]
    else:
        texts = tags.split(",") if isinstance(tags, str) else [each for each in as_list(tags) if isinstance(each, str)]
        pairs = [text.strip().partition("=") for text in texts]
    for key, equals, value in pairs[:MOST_TAGS]:
        if equals and isinstance(value, str) and _VALUE.fullmatch(value):
            yield key, value
