"""Puts a system message into a request by splicing: in place of the ones at its beginning, or before its first turn.

Instructions that a client gives later in a conversation stay where they are. Pure.
"""

from __future__ import annotations

import orjson

from gateway.core.json_values import as_text
from gateway.proxy.request.json_splice import items, scan, set_member, set_members

_ROLES = ("system", "developer")


def with_instructions(body: bytes, api: str, text: bytes) -> bytes:
    """text: JSON of the system message. An API without one, and a body without a list of turns, stay as they are.

    Raises ValueError if the body is not one JSON object, as far as its top level shows.
    """
    if api in ("messages", "count_tokens"):
        return set_member(body, b"system", text)
    if api == "responses":
        return _of_responses(body, text)
    return _of_chat(body, text) if api == "chat" else body


def without_instructions(turns: bytes) -> bytes:
    """A JSON array of turns, from the first one that is not a system message. What is no array stays."""
    start = _after_system(turns)[0]
    return turns if start is None else b"[" + turns[start:]


def _of_chat(body: bytes, text: bytes) -> bytes:
    place = scan(body).get(b"messages")
    if place is None or body[place[0] : place[0] + 1] != b"[":
        return body
    turns = body[place[0] : place[1]]
    start, role = _after_system(turns)
    new = b'{"role":"%b","content":%b}' % (role, text)
    rest = b"]" if start is None or turns[start:].strip() == b"]" else b"," + turns[start:]
    return set_member(body, b"messages", b"[" + new + rest)


def _of_responses(body: bytes, text: bytes) -> bytes:
    """`instructions` come before all turns. System messages at the beginning of `input` are left out."""
    place = scan(body).get(b"input")
    values: dict[bytes, bytes | None] = {b"instructions": text}
    if place is not None and body[place[0] : place[0] + 1] == b"[":
        turns = body[place[0] : place[1]]
        rest = without_instructions(turns)
        if rest != turns and rest.strip() != b"[]":
            values[b"input"] = rest
    return set_members(body, values)


def _after_system(turns: bytes) -> tuple[int | None, bytes]:
    """(offset of the first turn that is not a system message, the role of the first that is).

    Offset: that of the closing bracket if there is none; None if `turns` is not an array.
    """
    role = b"system"
    first = True
    try:
        end = turns.index(b"[") + 1
        for start, end in items(turns):
            found = _role(turns[start:end])
            if found not in _ROLES:
                return start, role
            if first:
                role, first = found.encode(), False
    except ValueError:
        return None, role
    return turns.rindex(b"]"), role


def _role(turn: bytes) -> str:
    """ "" for what is not a turn."""
    try:
        start, end = scan(turn)[b"role"]
        role = orjson.loads(turn[start:end])
    except (ValueError, KeyError):
        return ""
    return as_text(role)
