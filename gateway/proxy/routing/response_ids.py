"""Ids of responses, sealed: an id names the upstream that made the response, and its owner, so nothing has to be
stored.

Clients get the upstream's id followed by a seal, an HMAC over the upstream, the caller and that id. An id without a
valid seal of its caller does not exist: no upstream is asked for it with the gateway's credential.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest, new
from secrets import token_bytes
from typing import Any

import orjson
from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from gateway.core.json_values import as_object

_SEAL_BYTES = 16
_SEPARATOR = "."
_MAX_ID = 300  # characters of a sealed id, more than any provider's with its seal


@dataclass(frozen=True, slots=True)
class OpenedId:
    upstream: str
    id: str
    """The upstream's own."""


class ResponseIds:
    """Seals and opens the ids of one process. All processes that share a secret accept each other's."""

    def __init__(self, secret: bytes | None = None) -> None:
        """secret: None: one of this process alone, until it gets the shared one."""
        self._secrets = [secret or token_bytes(32)]

    def share(self, secret: bytes) -> None:
        """Seals with this secret from now on; earlier seals stay valid in this process."""
        if secret not in self._secrets:
            self._secrets.insert(0, secret)

    def seal(self, upstream: str, caller: str, response_id: str) -> str:
        return response_id + _SEPARATOR + _mac(self._secrets[0], "response", upstream, caller, response_id)

    def open(self, sealed: str, caller: str, upstreams: Iterable[str]) -> OpenedId | None:
        """Returns None for an id that none of these upstreams made for this caller."""
        response_id, _, seal = sealed.rpartition(_SEPARATOR)
        if not response_id or len(sealed) > _MAX_ID or not seal.isascii():
            return None
        for upstream in upstreams:
            for secret in self._secrets:
                if compare_digest(seal, _mac(secret, "response", upstream, caller, response_id)):
                    return OpenedId(upstream, response_id)
        return None

    def conversation_digest(self, caller: str, name: str) -> str:
        """A name for a caller's conversation that reveals nothing about it, and that no other caller can have."""
        return _mac(self._secrets[0], "conversation", caller, name)

    def state_digest(self, name: str) -> str:
        """A name for stored state of an upstream that says nothing about it."""
        return _mac(self._secrets[0], "state", name)

    def chain_digest(self, caller: str, name: str) -> str:
        """A name for a response that a caller may continue, which reveals nothing about it."""
        return _mac(self._secrets[0], "chain", caller, name)

    def owner_digest(self, caller: str, name: str) -> str:
        """A name for stored state of an upstream together with the caller that owns it."""
        return _mac(self._secrets[0], "owner", caller, name)


def _mac(secret: bytes, *parts: str) -> str:
    message = b"".join(b"%d:%b" % (len(part.encode()), part.encode()) for part in parts)
    return urlsafe_b64encode(new(secret, message, sha256).digest()[:_SEAL_BYTES]).rstrip(b"=").decode()


def id_of_answer(data: bytes) -> str | None:
    """The id of the response, or of Anthropic's message, in a complete answer or in the first event of a stream; None
    if there is none.

    Read as a parser reads it: a search could find an id that the request itself put into the answer.
    """
    try:
        if data.lstrip()[:1] == b"{":
            found = _id(data)
        else:
            line = next(line for line in data.splitlines() if line.startswith(b"data:"))
            event = orjson.loads(line[5:])
            response = event.get("response") or event.get("message")
            found = as_object(response).get("id")
    except (ValueError, StopIteration, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) and 0 < len(found) <= _MAX_ID else None


class _AnswerId(Struct):
    """The only member that is read of an answer."""

    id: Raw | None = None


_ANSWER = Decoder(_AnswerId)


def _id(answer: bytes) -> Any:
    """Raises ValueError."""
    try:
        found = _ANSWER.decode(answer).id
    except DecodeError:  # half a surrogate pair, which clients accept
        return json.loads(answer.decode("utf-8", "replace")).get("id")
    return None if found is None else orjson.loads(bytes(found))


class Replacer:
    """Replaces quoted texts in bytes that arrive in any split."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._pairs = {orjson.dumps(old): orjson.dumps(new) for old, new in texts.items()}
        self._longest = max(map(len, self._pairs), default=1)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """The bytes that can be sent on: all but a tail in which a text may have begun."""
        data = self._held + self.whole(data) if not self._held else self.whole(self._held + data)
        keep = next((n for n in range(min(self._longest - 1, len(data)), 0, -1) if self._begins(data[-n:])), 0)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def end(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def whole(self, data: bytes) -> bytes:
        for old, new_text in self._pairs.items():
            data = data.replace(old, new_text)
        return data

    def _begins(self, tail: bytes) -> bool:
        return any(old.startswith(tail) for old in self._pairs)
