"""Runs of calls whose messages extend those of an earlier call of the same key: `history` in `runs.from`.

A call without an answer in its messages begins a run, always. One that extends a call which is known here belongs to
its run, unless another call has continued from there after another answer: then it is a fork, and begins a run. So
does a call whose earlier calls are not known, and one whose beginning two runs share, since nothing shows which is
continued. A run is rather split than joined to another.

The last two calls of a chain are noted, by digests under the deployment's secret, in this process and in the stream
server, for as long as a run may last without a call.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from gateway.core.errors import StreamDown
from gateway.core.exchange import run_key
from gateway.core.run_ceilings import RUN_LIFE_S
from gateway.core.run_history import HISTORY, AnsweredPrefix, links_of
from gateway.proxy.request.call import Call, RunId
from gateway.proxy.routing.response_ids import ResponseIds
from gateway.runtime.tasks import Tasks
from gateway.stream.shared_state import SharedState

log = logging.getLogger(__name__)

_PREFIX = "history"
_WAIT_S = 0.05
_MEMBERS = {"chat": "messages", "messages": "messages", "responses": "input"}


class HistoryNote(NamedTuple):
    """The facts about one call of a chain."""

    run: str
    """The run's id; "" if two runs begin with these messages."""
    next: str = ""
    """The name of the prefix with the answer after which the chain continued; "" while it has not."""
    previous: str = ""
    """The name of the call before it in the chain."""

    def text(self) -> str:
        return " ".join(self)


_SHARED_BEGINNING = HistoryNote("")


class _Link(NamedTuple):
    run: str
    notes: Mapping[str, HistoryNote]
    forgotten: str = ""


class CallHistories:
    def __init__(self, store: SharedState | None, tasks: Tasks, ids: ResponseIds, most: int) -> None:
        """store: None shares nothing with other processes. most: calls noted in this process; the oldest are
        forgotten."""
        self._store, self._tasks, self._ids, self._most = store, tasks, ids, most
        self._known: OrderedDict[str, str] = OrderedDict()

    async def assign(self, call: Call) -> Call:
        """The call with its run; the same call if it has no messages, or only those after a stored response."""
        messages = _messages_of(call)
        if not messages:
            return call
        links = links_of(messages)
        own, prefixes = self._name(call, links.whole), [self._named(call, prefix) for prefix in links.prefixes]
        known = await self._recall([own, *(prefix.asked for prefix in prefixes)])
        link = _continued(call.id, own, prefixes, known) if prefixes else _begun(call.id, own, known)
        await self._note(link.notes)
        self._forget(link.forgotten)
        return replace(call, run=RunId(link.run, HISTORY, run_key(call.caller.name, link.run)))

    def _name(self, call: Call, digest: str) -> str:
        return self._ids.chain_digest(call.caller.name, digest)

    def _named(self, call: Call, prefix: AnsweredPrefix) -> AnsweredPrefix:
        return AnsweredPrefix(self._name(call, prefix.asked), self._name(call, prefix.answered))

    async def _recall(self, names: Sequence[str]) -> dict[str, HistoryNote]:
        """The notes of these names: from the stream server, or else from this process."""
        shared: Sequence[str | None] = [None] * len(names)
        if self._store is not None:
            try:
                async with asyncio.timeout(_WAIT_S):
                    shared = await self._store.recall_all([f"{_PREFIX}:{name}" for name in names])
            except (StreamDown, TimeoutError):
                log.debug("histories of this process alone are known")
        texts = {name: text or self._known.get(name) for name, text in zip(names, shared, strict=True)}
        return {name: HistoryNote(*text.split(" ")) for name, text in texts.items() if text}

    async def _note(self, notes: Mapping[str, HistoryNote]) -> None:
        texts = {name: note.text() for name, note in notes.items()}
        for name, text in texts.items():
            self._known[name] = text
            self._known.move_to_end(name)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        if self._store is not None:
            try:
                async with asyncio.timeout(_WAIT_S):
                    shared = {f"{_PREFIX}:{name}": text for name, text in texts.items()}
                    await self._store.remember_all(shared, int(RUN_LIFE_S))
            except (StreamDown, TimeoutError):
                log.debug("a history is not shared")

    def _forget(self, name: str) -> None:
        """Forgets a call that two others of its chain have followed."""
        self._known.pop(name, None)
        if name and self._store is not None:
            self._tasks.start(_released(self._store, name), "an earlier call of a history")


async def _released(store: SharedState, name: str) -> None:
    try:
        await store.release_claim(f"{_PREFIX}:{name}")
    except StreamDown:
        log.debug("an earlier call of a history stays until it expires")


def _messages_of(call: Call) -> list[Any]:
    member = _MEMBERS.get(call.api)
    if member is None or call.fields.get("previous_response_id") is not None:
        return []
    found = call.read(member)
    return [found] if isinstance(found, str) else found if isinstance(found, list) else []


def _begun(id: str, own: str, known: Mapping[str, HistoryNote]) -> _Link:
    """A new run. Where another one has begun with these messages, no call continues either from here."""
    return _Link(id, {own: _SHARED_BEGINNING if own in known else HistoryNote(id)})


def _continued(id: str, own: str, prefixes: Sequence[AnsweredPrefix], known: Mapping[str, HistoryNote]) -> _Link:
    """The run of a call with a history, and what is to be noted."""
    again = known.get(own)
    if again is not None and again.run:
        return _Link(again.run, {own: again})
    found = next((prefix for prefix in prefixes if prefix.asked in known), None)
    earlier = None if found is None else known[found.asked]
    if found is None or earlier is None or not earlier.run or earlier.next not in ("", found.answered):
        return _Link(id, {own: HistoryNote(id)})
    last = HistoryNote(earlier.run, previous=found.asked)
    return _Link(earlier.run, {found.asked: earlier._replace(next=found.answered), own: last}, earlier.previous)
