"""Runs of calls whose messages extend those of an earlier call of the same key: `history` in `runs.from`.

A call without an answer in its messages begins a run, always. One that extends a call which is known here belongs to
its run, unless another call has continued from there after another answer: then it is a fork, and begins a run. So
does a call whose earlier calls are not known, and one whose beginning two runs share, since nothing shows which is
continued. A run is rather split than joined to another. Of calls that continue one call at the same moment, the first
to note it goes on with the run, on whatever worker.

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
_TRIES = 4  # of a call while others continue the same one; then it begins a run
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
    guard: str
    """The one of these that no other call may have changed meanwhile."""
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
        link = await self._linked(call.id, own, prefixes)
        self._forget(link.forgotten)
        return replace(call, run=RunId(link.run, HISTORY, run_key(call.caller.name, link.run)))

    async def _linked(self, id: str, own: str, prefixes: Sequence[AnsweredPrefix]) -> _Link:
        names = [own, *(prefix.asked for prefix in prefixes)]
        for _ in range(_TRIES):
            shared = await self._recall(names)
            known = self._with_own(names, shared or {})
            link = _continued(id, own, prefixes, known) if prefixes else _begun(id, own, known)
            if shared is None or await self._share(link, shared.get(link.guard, "")):
                break
        else:
            link = _alone(id, own)
        self._keep(link)
        return link

    def _name(self, call: Call, digest: str) -> str:
        return self._ids.chain_digest(call.caller.name, digest)

    def _named(self, call: Call, prefix: AnsweredPrefix) -> AnsweredPrefix:
        return AnsweredPrefix(self._name(call, prefix.asked), self._name(call, prefix.answered))

    async def _recall(self, names: Sequence[str]) -> dict[str, str] | None:
        """The notes of these names on the stream server; None if it does not answer, or there is none."""
        if self._store is None:
            return None
        try:
            async with asyncio.timeout(_WAIT_S):
                texts = await self._store.recall_all([f"{_PREFIX}:{name}" for name in names])
        except (StreamDown, TimeoutError):
            log.debug("histories of this process alone are known")
            return None
        return {name: text for name, text in zip(names, texts, strict=True) if text}

    def _with_own(self, names: Sequence[str], shared: Mapping[str, str]) -> dict[str, HistoryNote]:
        """The shared notes, and those of this process where there is none."""
        texts = {name: shared.get(name) or self._known.get(name) for name in names}
        return {name: HistoryNote(*text.split(" ")) for name, text in texts.items() if text}

    async def _share(self, link: _Link, before: str) -> bool:
        """False if another call has changed the note that this one depends on. before: that note, as it was read."""
        if self._store is None:
            return True
        texts = {f"{_PREFIX}:{name}": note.text() for name, note in link.notes.items()}
        guard, keep_s = f"{_PREFIX}:{link.guard}", int(RUN_LIFE_S)
        after = texts.pop(guard)
        try:
            async with asyncio.timeout(_WAIT_S):
                if not await self._store.swap(guard, before, after, keep_s):
                    return False
                await self._store.remember_all(texts, keep_s)
        except (StreamDown, TimeoutError):
            log.debug("a history is not shared")
        return True

    def _keep(self, link: _Link) -> None:
        """Keeps the notes of a call in this process."""
        for name, note in link.notes.items():
            self._known[name] = note.text()
            self._known.move_to_end(name)
        while len(self._known) > self._most:
            self._known.popitem(last=False)

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
    return _Link(id, {own: _SHARED_BEGINNING if own in known else HistoryNote(id)}, own)


def _alone(id: str, own: str) -> _Link:
    """A run of its own."""
    return _Link(id, {own: HistoryNote(id)}, own)


def _continued(id: str, own: str, prefixes: Sequence[AnsweredPrefix], known: Mapping[str, HistoryNote]) -> _Link:
    """The run of a call with a history, and what is to be noted."""
    again = known.get(own)
    if again is not None and again.run:
        return _Link(again.run, {own: again}, own)
    found = next((prefix for prefix in prefixes if prefix.asked in known), None)
    earlier = None if found is None else known[found.asked]
    if found is None or earlier is None or not earlier.run or earlier.next not in ("", found.answered):
        return _alone(id, own)
    last = HistoryNote(earlier.run, previous=found.asked)
    notes = {found.asked: earlier._replace(next=found.answered), own: last}
    return _Link(earlier.run, notes, found.asked, earlier.previous)
