"""Finds the files and vector stores that a request names, in its bytes: no body is parsed for it.

Their ids are deep in a body (in parts of messages, in tools), and the bodies with the most parts are the largest. So
names are looked for as they are written, which can find one in a text where a parser would not; only an id that another
key has made is ever refused, and no text contains one by chance.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import NamedTuple

SHORTEST_ID = 20  # characters of an id that a provider made; a shorter one may be a name that two callers both chose
LONGEST_ID = 300

_PIECE_BYTES = 1 << 18  # searched at once: less than a millisecond
_OVERLAP_BYTES = 8  # above what is looked for
_END = b"e_id"  # of file_id and vector_store_id
_S = rb"[ \t\n\r]*+"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FILE = re.compile(rb'"((?:input_)?file_id)"' + _S + b":" + _S + b"(" + _STRING + b")", re.S)
_LIST = re.compile(rb'"(file_ids|vector_store_ids)"' + _S + b":" + _S + rb"\[((?:[^\]\"]*+" + _STRING + rb")*+)", re.S)
_STRINGS = re.compile(_STRING, re.S)
_ESCAPED = re.compile(rb"\\u00(?!22|5[cC])([2-7][0-9a-fA-F])")
"""An escaped letter, with which a name or an id may be spelled; no quote and no backslash, which end strings."""

_KINDS = {"file_id": "file", "input_file_id": "file", "file_ids": "file", "vector_store_ids": "vector_store"}


class NamedState(NamedTuple):
    kind: str
    """Kind: conversation, container, thread, file, vector_store or prompt."""
    param: str
    id: str


async def named_files(body: bytes) -> list[NamedState]:
    """Lists the ids of files that the body names, each once. Lets other calls run between the pieces of a large
    body."""
    if not await _occurs(body):
        return []
    if _ESCAPED.search(body):
        body = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), body)
    found = {id_: NamedState(_KINDS[name], name, id_) for name, id_ in _ids(body)}
    return list(found.values())


async def _occurs(body: bytes) -> bool:
    """Whether the body can name any of them."""
    for at in range(0, len(body), _PIECE_BYTES):
        if at:
            await asyncio.sleep(0)
        end = at + _PIECE_BYTES + _OVERLAP_BYTES
        if body.find(_END, at, end) >= 0 or (body.find(b"\\", at, end) >= 0 and _ESCAPED.search(body, at, end)):
            return True
    return False


def _ids(body: bytes) -> Iterator[tuple[str, str]]:
    """The name of the member and the id, as often as they occur."""
    for member in _FILE.finditer(body):
        yield from _one(member[1], member[2])
    for member in _LIST.finditer(body):
        for quoted in _STRINGS.finditer(member[2]):
            yield from _one(member[1], quoted[0])


def _one(name: bytes, quoted: bytes) -> Iterator[tuple[str, str]]:
    id_ = quoted[1:-1].decode("utf-8", "replace")
    if SHORTEST_ID <= len(id_) <= LONGEST_ID:
        yield name.decode(), id_
