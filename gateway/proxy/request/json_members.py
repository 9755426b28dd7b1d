"""The top-level members of a JSON object as slices of its bytes: found in one pass, edited with one copy. Pure.

msgspec validates the whole object and returns a slice for each value; nested values are decoded where they are read. An
edit is one assembly of slices: all bytes outside the edited members stay as they were.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import repeat
from json import JSONDecoder
from typing import Any

from msgspec import DecodeError, Raw, ValidationError
from msgspec.json import Decoder, encode

from gateway.core.errors import BadRequest, TooManyMembers

Members = dict[str, Raw]
"""The values of an object's top-level members, by name, in their order. A Raw is a slice that copies nothing."""

Change = bytes | tuple[bytes | memoryview, ...] | None
"""The JSON that a member gets, whole or in slices; None means that the member is removed."""

MOST_MEMBERS = 1000
"""Top-level members of a request; an API has about fifty."""
SMALL_BYTES = 4096
"""Size up to which an object cannot have too many members, and copying it takes less than a slice of it."""
SLICED_BYTES = 64 * 1024
"""Size above which an edited object is sent in slices: joining them takes as long as reading the object."""
ABOVE_SMALL, ABOVE_SLICED = slice(SMALL_BYTES, SMALL_BYTES + 1), slice(SLICED_BYTES, SLICED_BYTES + 1)
"""Slices of one byte of a body above these sizes, and of none below: taking its length would be a function call."""
TYPES: Mapping[str, str] = {
    "array": "an array", "object": "an object", "str": "a string", "bool": "a boolean", "null": "null"
}  # fmt: skip
"""Names of types in errors, by msgspec's name; all others are numbers."""
_ENCODING_BYTES = 16 * 1024  # of a larger object, the encoding is not checked: that takes longer than the pass itself
_WINDOW_BYTES = 4096  # of an array that is read item by item
_S = rb"[ \t\n\r]*+"
_KEY = re.compile(_S + rb"[{,]" + _S + rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")' + _S + rb":" + _S, re.S)
_OPEN_LIST = re.compile(r"[ \t\n\r]*+\[[ \t\n\r]*+")
_NEXT_ITEM = re.compile(r"[ \t\n\r]*+(?:(\])|,[ \t\n\r]*+)")


class NotAnObject(ValueError):
    """The JSON is a value of another type."""

    def __init__(self, found: str) -> None:
        """found: msgspec's name of the type."""
        super().__init__(f"expected a JSON object, not {TYPES.get(found, 'a number')}")
        self.found = TYPES.get(found, "a number")


_MEMBERS = Decoder(dict[str, Raw])
_LEAST = 5  # bytes of a member besides its name: quotation marks, colon, comma, and one of the value
_VALUE = Decoder()
_ITEMS = Decoder(list[Raw])
_SCAN = JSONDecoder(parse_int=float).raw_decode  # int() takes no number of more than 4300 digits


def too_many_members() -> TooManyMembers:
    return TooManyMembers(f"the request body has more than {MOST_MEMBERS} top-level members, more than any API has")


def read_members(body: bytes) -> Members:
    """The members of a JSON object, in one pass, which also validates it: all but the range of numbers, and above
    16 KB the encoding of texts.

    Raises ValueError if it is not one JSON object, BadRequest if two members have one name (parsers differ in which of
    them they use), and TooManyMembers.
    """
    try:
        if body[ABOVE_SMALL]:
            return _counted(body)
        if not body.isascii():
            str(body, "utf-8")
        members = _MEMBERS.decode(body)
        # Of two members with one name the parser drops the first without a word. What is not the members that it kept,
        # with 4 bytes of punctuation each, is blank, or such a member; mostly it is too short for one.
        more = len(body) - sum(map(len, (*members, *members.values()))) - 4 * len(members) - 1
        if more >= _LEAST and ("" in members or more > _LEAST) and more >= _LEAST + min(map(len, members), default=0):
            return _counted(body)
        return members
    except ValidationError as error:
        raise NotAnObject(str(error).rpartition("got `")[2].rstrip("`")) from None
    except DecodeError as error:
        raise ValueError(str(error).removeprefix("JSON is malformed: ")) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 ({error.reason})") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _counted(body: bytes) -> Members:
    """Counts members as they are found, because a million would take 150 ms; members of the same name stay separate."""
    names: list[str] = []
    if len(body) <= _ENCODING_BYTES:
        str(body, "utf-8")

    def count(kind: type[repeat[str]], name: str) -> repeat[str]:
        if len(names) >= MOST_MEMBERS:
            raise too_many_members()
        names.append(name)
        return kind(name)

    found = Decoder(dict[repeat, Raw], dec_hook=count).decode(body)  # type: ignore[type-arg]
    members = dict(zip(names, found.values(), strict=True))
    if len(members) != len(names):
        raise _repeated(names)
    return members


def _repeated(names: list[str]) -> BadRequest:
    name = next(name for name in names if names.count(name) > 1)
    text = f'the request body has more than one member "{name[:100]}"; send one: servers differ in which they read'
    return BadRequest(text, param=name)


def decoded_member(value: Raw | bytes, path: str) -> Any:
    """A value as Python objects. path: where it stands in the request. Raises BadRequest: its numbers may be too large,
    its texts not UTF-8, and its brackets too deep for the decoder."""
    try:
        return _VALUE.decode(value)
    except ValueError as error:
        raise BadRequest(f"{path} cannot be read: {error}", param=path) from None
    except RecursionError:
        raise BadRequest(f"{path} is nested too deeply", param=path) from None


def items(array: Raw | bytes) -> list[Raw]:
    """The items of an array as slices, in one pass. Raises ValueError where it is not one."""
    try:
        return _ITEMS.decode(array)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def leading_items(array: Raw | bytes) -> Iterator[tuple[int, int, Any]]:
    """Yields each item of a valid array with its offsets (start, end), reading no further than the items that are
    taken.

    In the items' texts each byte of UTF-8 is a character of its own, and an integer is a float. Raises ValueError where
    it is not an array, and BadRequest for an item that is nested too deeply.
    """
    view, window = memoryview(array), _WINDOW_BYTES
    text = str(view[:window], "latin-1")
    opened = _OPEN_LIST.match(text)
    if opened is None:
        raise ValueError("expected a JSON array")
    at = opened.end()
    while text[at : at + 1] != "]":
        whole = len(text) == len(view)
        item = _item(text, at)
        following = None if item is None else _NEXT_ITEM.match(text, item[1])
        if item is not None and following is not None and (whole or following.end() < len(text)):
            yield at, item[1], item[0]
            if following[1]:
                return
            at = following.end()
        elif whole:
            raise ValueError("expected a JSON array")
        else:
            window *= 4
            text = str(view[:window], "latin-1")


def _item(text: str, at: int) -> tuple[Any, int] | None:
    """The value at this offset and the offset of its end; None if it is not complete. Raises BadRequest: an unreadable
    value must not count as a missing one."""
    try:
        return _SCAN(text, at)
    except RecursionError:
        raise BadRequest("an item of the conversation is nested too deeply") from None
    except ValueError:
        return None


def edited(body: bytes, members: Members, changes: Mapping[str, Change]) -> bytes:
    """The body with these members replaced, added (at the end) and removed: the same object if nothing changes.

    members: as read_members found them in this body. Raises ValueError if they are another body's.
    """
    pieces = edited_slices(body, members, changes)
    return b"".join(pieces) if pieces[1:] else body


def edited_slices(body: bytes, members: Members, changes: Mapping[str, Change]) -> list[bytes | memoryview]:
    """The slices of which `edited` is made; one if nothing changes."""
    view = memoryview(body) if body[ABOVE_SMALL] else body
    pieces: list[bytes | memoryview] = []
    left = done = end = 0
    kept = opening = adds = False  # kept: a member before stays; opening: all before were removed
    for name in changes:
        if name in members:
            left += 1
        else:
            adds = True
    for name in members:
        if not left and not opening:
            kept = True
            break
        key = _KEY.match(body, end)
        if key is None:
            raise ValueError("the members are not those of this body")
        before, start = end, key.end()
        end = start + len(members[name])
        if opening:
            done, opening = key.start(1), False
        if name not in changes:
            kept = True
            continue
        left -= 1
        change = changes[name]
        if change is None:
            pieces += (view[done : before if kept else key.start(1)],)
            done, opening = end, not kept
        else:
            kept = True
            if type(change) is tuple:
                pieces += (view[done:start], *change)
                done = end
            elif body[start:end] != change:
                pieces += (view[done:start], change)  # type: ignore[arg-type]  # not a tuple, as above
                done = end
    more: list[bytes | memoryview] = []
    for name in changes if adds else ():
        if name not in members and (change := changes[name]) is not None:
            more += (b"," if kept or more else b"", encode(name), b":")
            more += change if type(change) is tuple else (change,)  # type: ignore[arg-type]
    if more:
        close = body.rindex(b"}")
        pieces += (view[done:close], *more)
        done = close
    pieces += (view[done:],)
    return pieces
