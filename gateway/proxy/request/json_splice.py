"""Edits a JSON object at byte offsets, never by re-serialising: all other bytes stay as they were. Pure.

Only the top level is read. Nested values are skipped without validation; the upstream reports errors inside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import orjson

from gateway.core.errors import TooManyMembers

_S = rb"[ \t\n\r]*+"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_LARGE = 1 << 20  # bytes; above, scan() is faster than bytes.find, because it skips long strings
MOST_MEMBERS = 1000
"""Top-level members of a request; an API has about fifty."""
_MAX_DEPTH = 1024  # the limit of orjson
_LONG = 1024  # a string with a longer run than this is skipped with bytes.find, which is faster than any regex
_SHORT = rb'"[^"\\]{0,%d}+(?:\\.[^"\\]{0,%d}+)*+"' % (_LONG, _LONG)
_FLAT = rb'[^"\[\]{}]++|' + _SHORT


def _nested(levels: int) -> bytes:
    inner = b"" if levels == 0 else b"|" + _nested(levels - 1)
    return rb"[\[{](?:" + _FLAT + inner + rb")*+[\]}]"


_KEY = re.compile(_S + rb"(" + _STRING + rb")" + _S + rb":" + _S, re.S)
_VALUE = re.compile(rb"(?:" + _SHORT + rb"|[^\"\[\]{},: \t\n\r]++|" + _nested(10) + rb")", re.S)
_RUN = re.compile(rb"(?:" + _FLAT + b"|" + _nested(10) + rb")*+", re.S)
_NEXT = re.compile(_S + rb"([,}])")
_OPEN = re.compile(_S + rb"\{")
_OPEN_LIST = re.compile(_S + rb"\[" + _S)
_NEXT_ITEM = re.compile(_S + rb"([,\]])" + _S)
_CLOSE = re.compile(_S + rb"\}" + _S + rb"\Z")
_SPACE = re.compile(_S + rb"\Z")
_REST = re.compile(_STRING[1:], re.S)
_ESCAPED_LETTER = re.compile(rb"\\u00[2-7]")  # a name may contain escapes: "\u006dodel" is model
_PLAIN_VALUE = re.compile(_S + rb":" + _S + rb"(" + _SHORT + rb"|[^\"\[\]{},: \t\n\r]++)", re.S)


class JsonMember(NamedTuple):
    """One top-level member; offsets in bytes."""

    name: bytes
    key: int  # of the name's opening quote
    start: int  # of the value
    end: int  # of the value


def too_many_members() -> TooManyMembers:
    return TooManyMembers(f"the request body has more than {MOST_MEMBERS} top-level members; no API has so many")


def scan(body: bytes) -> dict[bytes, tuple[int, int]]:
    """Offsets (start, end) of every top-level value, by name; of duplicates the last, as in most parsers.

    Raises ValueError if the body is not one JSON object, as far as its top level shows.
    """
    return {m.name: (m.start, m.end) for m in members(body)}


def members(body: bytes) -> Iterator[JsonMember]:
    """Every top-level member, in order. Raises ValueError like `scan`, and TooManyMembers, when the iteration reaches
    the error."""
    opened = _OPEN.match(body)
    if opened is None:
        raise ValueError("expected a JSON object at byte 0")
    at = opened.end()
    if _CLOSE.match(body, at):
        return
    found = 0
    while True:
        key = _KEY.match(body, at)
        if key is None:
            raise ValueError(f"expected a member name at byte {at}")
        end = _value_end(body, key.end())
        found += 1
        if found > MOST_MEMBERS:
            raise too_many_members()
        yield JsonMember(_name(key[1]), key.start(1), key.end(), end)
        follows = _NEXT.match(body, end)
        if follows is None:
            raise ValueError(f"expected , or }} at byte {end}")
        at = follows.end()
        if follows[1] == b"}":
            break
    if not _SPACE.match(body, at):
        raise ValueError(f"expected the end at byte {at}")


def items(array: bytes) -> Iterator[tuple[int, int]]:
    """Offsets (start, end) of every item of a JSON array, in order. Raises ValueError where it is not one."""
    opened = _OPEN_LIST.match(array)
    if opened is None:
        raise ValueError("expected a JSON array at byte 0")
    at = opened.end()
    if array[at : at + 1] == b"]":
        return
    while True:
        end = _value_end(array, at)
        yield at, end
        follows = _NEXT_ITEM.match(array, end)
        if follows is None:
            raise ValueError(f"expected , or ] at byte {end}")
        if follows[1] == b"]":
            return
        at = follows.end()


def _name(quoted: bytes) -> bytes:
    return quoted[1:-1] if b"\\" not in quoted else orjson.loads(quoted).encode()


def _value_end(body: bytes, at: int) -> int:
    whole = _VALUE.match(body, at)
    if whole is not None:
        return whole.end()
    first = body[at : at + 1]
    if first == b'"':
        return _string_end(body, at)
    if first in (b"[", b"{"):
        return _nested_end(body, at)
    raise ValueError(f"expected a value at byte {at}")


def _string_end(body: bytes, at: int) -> int:
    """The offset after the string that opens at `at`. Usually one memchr finds it: few strings have escaped quotes."""
    quote = body.find(b'"', at + 1)
    if quote > 0 and body[quote - 1] != 0x5C:
        return quote + 1
    rest = _REST.match(body, at + 1)
    if rest is None:
        raise ValueError(f"the string at byte {at} has no end")
    return rest.end()


def _nested_end(body: bytes, at: int) -> int:
    """The offset after the value that opens at `at`. Bracket kinds are not compared: valid JSON pairs them."""
    opening, depth = at, 0
    while True:
        at = _skipped(body, at)
        byte = body[at : at + 1]
        if byte == b'"':
            at = _string_end(body, at)
        elif byte in (b"[", b"{"):
            depth, at = depth + 1, at + 1
            if depth > _MAX_DEPTH:
                raise ValueError(f"the value at byte {opening} is nested more than {_MAX_DEPTH} levels deep")
        elif byte:
            depth, at = depth - 1, at + 1
            if depth == 0:
                return at
        else:
            raise ValueError(f"the value at byte {opening} has no end")


def _skipped(body: bytes, at: int) -> int:
    run = _RUN.match(body, at)
    return run.end() if run else at


def set_member(body: bytes, name: bytes, value: bytes) -> bytes:
    """Replaces the value of a top-level member, or adds the member at the end. value: JSON.

    All duplicates are replaced, because parsers differ in which one they use. Raises ValueError like `scan`.
    """
    pieces: list[bytes | memoryview] = []
    view, done = memoryview(body), 0  # slicing a view copies nothing, which matters for inline images
    for member in members(body):
        if member.name == name:
            pieces += [view[done : member.start], value]
            done = member.end
    if not pieces:
        return add_member(body, name, value)
    return b"".join((*pieces, view[done:]))


def replace_member(body: bytes, name: bytes, value: bytes) -> bytes:
    """Sets a member like set_member, in a valid body that has it: usually one search instead of a scan.

    If the quoted name occurs once and no escape could spell it, that occurrence is the member.
    """
    if len(body) > _LARGE:
        return set_member(body, name, value)
    quoted = b'"' + name + b'"'
    at = body.find(quoted)
    end = at + len(quoted)
    if at < 0 or body.find(quoted, end) >= 0 or (b"\\u00" in body and _ESCAPED_LETTER.search(body)):
        return set_member(body, name, value)
    plain = _PLAIN_VALUE.match(body, end)
    if plain is None:
        return set_member(body, name, value)
    start, end = plain.span(1)
    return body if body[start:end] == value else b"".join((body[:start], value, body[end:]))


def add_member(body: bytes, name: bytes, value: bytes) -> bytes:
    """Adds a member at the end. Only for a valid object that does not have the member."""
    close = body.rfind(b"}")
    if close < 0:
        raise ValueError("expected a JSON object")
    before = close - 1
    while body[before] in b" \t\n\r":
        before -= 1
    comma = b"" if body[before] == 0x7B else b","
    return b"".join((body[:close], comma, b'"', name, b'":', value, body[close:]))


def remove_member(body: bytes, name: bytes) -> bytes:
    """Removes a top-level member and its duplicates. Raises ValueError like `scan`."""
    all_members = list(members(body))
    kept = [at for at, m in enumerate(all_members) if m.name != name]
    if len(kept) == len(all_members):
        return body
    pieces = [body[: all_members[0].key]]
    for nth, at in enumerate(kept):
        member = all_members[at]
        if nth:
            pieces.append(body[all_members[at - 1].end : member.key])
        pieces.append(body[member.key : member.end])
    return b"".join((*pieces, body[all_members[-1].end :]))


def set_members(body: bytes, values: Mapping[bytes, bytes | None]) -> bytes:
    """Replaces, adds (at the end) and removes (None) several top-level members in one pass. values: JSON, by name.

    Of duplicates, all are replaced or removed. Raises ValueError like `scan`.
    """
    all_members = list(members(body))
    view = memoryview(body)
    first = all_members[0].key if all_members else body.index(b"{") + 1
    pieces: list[bytes | memoryview] = [view[:first]]
    present = {member.name for member in all_members}
    kept = 0
    for at, member in enumerate(all_members):
        value = values.get(member.name, view[member.start : member.end])
        if value is None:
            continue
        if kept:
            pieces.append(view[all_members[at - 1].end : member.key])
        pieces += [view[member.key : member.start], value]
        kept += 1
    for name, added in values.items():
        if added is not None and name not in present:
            pieces += [b"," if kept else b"", b'"', name, b'":', added]
            kept += 1
    return b"".join((*pieces, view[all_members[-1].end if all_members else first :]))


def request_usage(body: bytes) -> bytes:
    """Sets `stream_options.include_usage` to true; other members of stream_options stay.

    A stream_options that is neither an object nor null stays as it is: the upstream will refuse it.
    """
    pieces, done, found = [], 0, False
    for member in members(body):
        if member.name == b"stream_options":
            found = True
            pieces += [body[done : member.start], _with_usage(body[member.start : member.end])]
            done = member.end
    if not found:
        return add_member(body, b"stream_options", _INCLUDE_USAGE)
    return b"".join((*pieces, body[done:]))


_INCLUDE_USAGE = b'{"include_usage":true}'


def _with_usage(options: bytes) -> bytes:
    if options == b"null":
        return _INCLUDE_USAGE
    return set_member(options, b"include_usage", b"true") if options[:1] == b"{" else options
