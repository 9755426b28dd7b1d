"""Notes whose the state is that a forwarded request makes: a file, a vector store, a conversation, a batch."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.core.json_values import as_object
from gateway.proxy.request.call import Caller
from gateway.proxy.request.paths import segments
from gateway.proxy.routing.state_owners import StateOwners

_LONGEST_ANSWER = 1 << 18  # bytes; the object that a provider has made is much shorter


def makes_state(method: str, path: bytes) -> bool:
    """Whether the answer describes something new: what was added to a collection, or the file of a complete upload.

    Not what is added below something: a file in a vector store has the id of a file that may be another's.
    """
    parts = segments(path)
    return method == "POST" and (len(parts) == 2 or (len(parts) == 4 and (parts[1], parts[3]) == _COMPLETE))


_COMPLETE = (b"uploads", b"complete")


class MadeState:
    """Reads along an answer, and notes what it says was made."""

    def __init__(self, owners: StateOwners, caller: Caller) -> None:
        self._owners = owners
        self._caller = caller
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """Returns the data. Notes at once what a complete answer says: its client has it as soon as this is sent."""
        self._size += len(data)
        if self._size > _LONGEST_ANSWER:
            self._pieces.clear()
            return data
        self._pieces.append(data)
        if data.rstrip().endswith(b"}"):
            self._read(b"".join(self._pieces))
        return data

    def end(self) -> bytes:
        return b""

    def _read(self, answer: bytes) -> None:
        try:
            made = orjson.loads(answer)
        except ValueError:  # more follows
            return
        if isinstance(made, dict):
            self._note(made)
            self._note(made.get("file"))

    def _note(self, made: Any) -> None:
        made_id = as_object(made).get("id")
        if isinstance(made_id, str):
            self._owners.made(self._caller, made_id)
