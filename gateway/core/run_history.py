"""The chain of a conversation's messages, by which a call is known to extend an earlier one. Pure.

Agents send all messages again with every call, so the messages of a call begin with those of the call before it,
followed by that call's answer. Digests stand for messages; no text is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

HISTORY = "history"
LOOK_BACK = 4
"""Answers of a history, the latest first, before which an earlier call may have ended."""
_ANSWERING = frozenset({"assistant", "model"})


class AnsweredPrefix(NamedTuple):
    """A place in a history at which the model answered."""

    asked: str
    """The digest of the messages before the answer: all messages of the call that got it."""
    answered: str
    """The digest of these and the first part of the answer: where two calls continue apart, it differs."""


class HistoryLinks(NamedTuple):
    whole: str
    """The digest of all messages."""
    prefixes: tuple[AnsweredPrefix, ...]
    """The places of the answers, the latest first; empty for a call that begins a conversation."""


def links_of(messages: Sequence[Any]) -> HistoryLinks:
    """The digests of a history, which do not depend on the order of members, nor on where the marks of a cache are."""
    chain, found = sha256(), []
    asked, before = "", False
    for message in messages:
        answers = _is_answer(message)
        begins = answers and not before
        if begins:
            asked = chain.hexdigest()
        chain.update(_canonical(message))
        if begins:
            found.append(AnsweredPrefix(asked, chain.hexdigest()))
        before = answers
    return HistoryLinks(chain.hexdigest(), tuple(found[: -LOOK_BACK - 1 : -1]))


def _is_answer(message: Any) -> bool:
    """Whether the model made it: an assistant's message, or an item of an answer in the responses API."""
    if not isinstance(message, Mapping):
        return False
    kind = message.get("type")
    called = isinstance(kind, str) and (kind.endswith("_call") or kind == "reasoning")
    return called or message.get("role") in _ANSWERING


def _canonical(message: Any) -> bytes:
    return orjson.dumps(_plain(message), option=orjson.OPT_SORT_KEYS) + b"\0"


def _plain(message: Any) -> Any:
    """The message without the marks of a cache, which clients move, and with a single text as text."""
    if not isinstance(message, Mapping):
        return message
    kept = {name: value for name, value in message.items() if name != "cache_control"}
    content = kept.get("content")
    if isinstance(content, list):
        kept["content"] = _plain_parts(content)
    return kept


def _plain_parts(parts: Sequence[Any]) -> Any:
    plain = [_plain(part) for part in parts]
    single = plain[0] if len(plain) == 1 else None
    if isinstance(single, Mapping) and set(single) == {"type", "text"} and single["type"] == "text":
        return single["text"]
    return plain
