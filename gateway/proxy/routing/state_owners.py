"""Who owns stored state of an upstream: conversations, containers, threads. All callers reach it with one credential.

Their ids are the upstream's and carry no seal. So the first key that uses an id successfully owns it, here and for a
week on the stream server, by digest; another key is told that it does not exist. What nobody has used yet, and what
the stream server cannot tell within 50 ms, passes: docs/security.md says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Any, NamedTuple, Protocol

import orjson

from gateway.core.errors import NotFound, StreamDown
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.request.json_splice import scan
from gateway.proxy.routing.response_ids import ResponseIds
from gateway.runtime.tasks import Tasks

log = logging.getLogger(__name__)

_SHORTEST = 20  # characters of an id that a provider made; a shorter one may be a name that two callers both chose
_LONGEST = 300
_MOST_IDS = 16  # of one request
_WAIT_S = 0.05
_KEEP_S = 7 * 86400


class TextStore(Protocol):
    """The part of the stream server that shares small texts."""

    async def remember(self, name: str, value: str, keep_s: int) -> None: ...
    async def recall(self, name: str) -> str | None: ...


class NamedState(NamedTuple):
    """Stored state that a request names."""

    kind: str
    """conversation, container or thread."""
    param: str
    id: str


def named_state(call: Call) -> list[NamedState]:
    """The stored state that a request names, in either API."""
    found = [NamedState(name, name, _id(_member(call, name))) for name in ("conversation", "container")]
    tools = _member(call, "tools")
    for at, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, dict) and "container" in tool:
            found.append(NamedState("container", f"tools[{at}].container", _id(tool["container"])))
    thread = _member(call, "thread")
    if isinstance(thread, dict):
        found.append(NamedState("thread", "thread.previous_message_id", _id(thread.get("previous_message_id"))))
    return [state for state in found if _SHORTEST <= len(state.id) <= _LONGEST][:_MOST_IDS]


def _member(call: Call, name: str) -> Any:
    """A member of the body, also a large one, which call.fields omit."""
    found = call.fields.get(name)
    if found is not ...:
        return found
    start, end = scan(call.body)[name.encode()]
    return orjson.loads(call.body[start:end])


def _id(given: Any) -> str:
    given = given.get("id") if isinstance(given, dict) else given
    return given if isinstance(given, str) else ""


class StateOwners:
    """Who has used which state first."""

    def __init__(self, store: TextStore | None, tasks: Tasks, ids: ResponseIds, max_names: int = 10_000) -> None:
        """store: None shares nothing with other processes. max_names: of this process; the oldest are forgotten."""
        self._store = store
        self._tasks = tasks
        self._ids = ids
        self._max_names = max_names
        self._owners: OrderedDict[str, str] = OrderedDict()  # digest of an id → digest of its owner and it

    async def check(self, call: Call) -> None:
        """Raises NotFound if the request names state that another key is known to have used."""
        named = named_state(call)
        if not named:
            return
        owners = await asyncio.gather(*(self._owner(self._ids.state_digest(state.id)) for state in named))
        for state, owner in zip(named, owners, strict=True):
            if owner is not None and owner != self._ids.owner_digest(call.caller.name, state.id):
                raise _not_found(state)

    def learn(self, call: Call) -> None:
        """Notes the state of a request that was answered."""
        for state in named_state(call):
            self.own(call.caller, state.id)

    def own(self, caller: Caller, state_id: str) -> None:
        """Notes that this state is the caller's."""
        digest, owner = self._ids.state_digest(state_id), self._ids.owner_digest(caller.name, state_id)
        known = self._owners.get(digest) == owner
        self._keep(digest, owner)
        if self._store is not None and not known:
            self._tasks.start(self._share(self._store, digest, owner), "state owner")

    async def _owner(self, digest: str) -> str | None:
        owner = self._owners.get(digest)
        if owner is None and self._store is not None:
            try:
                async with asyncio.timeout(_WAIT_S):
                    owner = await self._store.recall(f"owner:{digest}")
            except (StreamDown, TimeoutError):
                return None
            if owner is not None:
                self._keep(digest, owner)
        return owner

    def _keep(self, digest: str, owner: str) -> None:
        self._owners[digest] = owner
        self._owners.move_to_end(digest)
        if len(self._owners) > self._max_names:
            self._owners.popitem(last=False)

    async def _share(self, store: TextStore, digest: str, owner: str) -> None:
        try:
            await store.remember(f"owner:{digest}", owner, _KEEP_S)
        except StreamDown as error:
            log.info("owner of stored state not shared: %s", error)


def _not_found(state: NamedState) -> NotFound:
    """Return the provider's own error for an id that it does not know."""
    text = f'{state.kind} "{state.id[:100]}" does not exist'
    error = NotFound(text, param=state.param, code=f"{state.kind}_not_found", retry=False)
    if state.kind == "thread":  # Anthropic's clients then send the whole conversation
        error.details = {"details": {"error_code": "thread_not_found"}}
    return error
