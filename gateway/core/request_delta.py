"""A request as its difference from an earlier one, its base: each call of a run sends all of its history again.

The stream then holds the new bytes, and the positions of the base's bytes around them. A reader of the stream rebuilds
the request with `apply`, which rejects any base but the intended one. Pure.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict
from zlib import crc32

import orjson

from gateway.core.content_chunks import DIGEST_BYTES, FINE_BYTES, digest, split
from gateway.core.exchange import DELTA, Fields

SMALL_BYTES = 4_096
"""Size of a request below which it is neither a delta nor a base."""
_LEAST_SHARED = 1_024  # bytes in common with the base that are worth the reference


@dataclass(frozen=True, slots=True)
class RequestOutline:
    """Index of a request, to find its chunks in a later one: at most a twentieth of its size."""

    exchange_id: str
    size: int
    digests: bytes
    """Digests of the chunks, in order."""
    ends: array[int]
    """The end of each chunk."""

    @classmethod
    def of(cls, exchange_id: str, body: bytes) -> RequestOutline:
        chunks, rest = split(body, FINE_BYTES)
        digests, ends, at = bytearray(), array("Q"), 0
        for chunk in (*chunks, rest):
            digests += digest(chunk)
            at += len(chunk)
            ends.append(at)
        return cls(exchange_id, at, bytes(digests), ends)

    @property
    def kept_bytes(self) -> int:
        return 512 + len(self.digests) + self.ends.itemsize * len(self.ends)

    def chunks(self) -> list[tuple[bytes, int, int]]:
        """(digest, begin, end) of each chunk."""
        begins = (0, *self.ends[:-1])
        names = (self.digests[at : at + DIGEST_BYTES] for at in range(0, len(self.digests), DIGEST_BYTES))
        return list(zip(names, begins, self.ends, strict=True))


class BaseNote(TypedDict):
    """The member `base` of a delta's head."""

    id: str
    """The exchange whose request is the base."""
    bytes: int
    """Bytes of that request."""
    crc: int
    """CRC-32 of the call's whole request."""
    parts: list[list[int]]
    """The whole request, in order: [begin, end] are bytes of the base, [length] are the next bytes of the entry's."""


class DeltaHead(TypedDict):
    """Members of a delta's head in addition to those of an exchange's."""

    base: BaseNote


def as_delta(fields: Fields, mine: RequestOutline, base: RequestOutline) -> Fields:
    """The stream entry of a call as a delta; unchanged if it has too little in common with the base."""
    known = {name: (begin, end) for name, begin, end in base.chunks()}
    parts: list[list[int]] = []  # [begin, end] of the base, or [length] of the entry's own bytes
    own = []
    for name, begin, end in mine.chunks():
        shared = known.get(name)
        if shared is None:
            own.append(fields[b"req"][begin:end])
        _add_part(parts, shared, end - begin)
    if mine.size - sum(map(len, own)) < _LEAST_SHARED:
        return fields
    note: BaseNote = {"id": base.exchange_id, "bytes": base.size, "crc": crc32(fields[b"req"]), "parts": parts}
    head = b'%b,"base":%b}' % (fields[b"head"][:-1], orjson.dumps(note))
    return {**fields, b"kind": DELTA, b"head": head, b"req": b"".join(own)}


def _add_part(parts: list[list[int]], shared: tuple[int, int] | None, size: int) -> None:
    """Adds a chunk, to the part before where they touch."""
    last = parts[-1] if parts else []
    if shared is None:
        if len(last) == 1:
            last[0] += size
        else:
            parts.append([size])
    elif len(last) == 2 and last[1] == shared[0]:
        last[1] = shared[1]
    else:
        parts.append(list(shared))


@dataclass(frozen=True, slots=True)
class BaseReference:
    """The base of a stream entry that is a delta."""

    of: str
    """The exchange whose entry it is."""
    id: str
    """The exchange whose request is the base."""
    size: int
    """Bytes of that request."""
    crc: int
    """Digest of the whole request."""
    parts: tuple[tuple[int, ...], ...]

    @classmethod
    def read(cls, fields: Mapping[bytes, bytes]) -> BaseReference:
        """Raises ValueError for an entry that has none."""
        try:
            head = orjson.loads(fields[b"head"])
            note = head["base"]
            parts = tuple(tuple(map(int, part)) for part in note["parts"])
            return cls(str(head["id"]), str(note["id"]), int(note["bytes"]), int(note["crc"]), parts)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a delta: {type(error).__name__}: {error}") from error

    def apply(self, fields: Mapping[bytes, bytes], base: bytes) -> Fields:
        """The entry with its whole request. Raises ValueError if `base` is not the intended request."""
        if len(base) != self.size:
            raise ValueError(f"the request of {self.id} has {len(base)} bytes, expected {self.size}")
        request = self._joined(fields[b"req"], base)
        if crc32(request) != self.crc:
            raise ValueError(f"the request of {self.id} has other bytes than those that were referred to")
        head: dict[str, Any] = orjson.loads(fields[b"head"])
        del head["base"]
        return {**fields, b"kind": b"exchange", b"head": orjson.dumps(head), b"req": request}

    def _joined(self, own: bytes, base: bytes) -> bytes:
        found, at = [], 0
        for part in self.parts:
            if len(part) == 1:
                found.append(own[at : at + part[0]])
                at += part[0]
            else:
                found.append(base[part[0] : part[1]])
        return b"".join(found)
