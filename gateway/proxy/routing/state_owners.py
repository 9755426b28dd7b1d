"""Owners of the stored state of an upstream: conversations, files and the like.

All callers reach it with one credential. Its ids are the upstream's and carry no seal. So the first key that uses a
conversation, container or thread successfully owns it, and the key that makes an object through `passthrough` owns it:
in this process, and for a week on the stream server, by digest; another key gets the answer that it does not exist.
Files, vector stores and prompts are meant to be shared, so using them claims them only with `responses: {files: used}`.
An object that nobody has made or used yet, or that the stream server cannot look up within 50 ms, passes
(docs/security.md).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Any

from msgspec import Raw, Struct, ValidationError
from msgspec.json import Decoder, encode

from gateway.core.errors import BadRequest, NotFound, StreamDown
from gateway.core.json_values import as_list, as_object, as_text
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.request.json_members import decoded_member
from gateway.proxy.request.paths import segments
from gateway.proxy.routing.named_files import LONGEST_ID, SHORTEST_ID, NamedState, named_files
from gateway.proxy.routing.response_ids import ResponseIds
from gateway.runtime.tasks import Tasks
from gateway.stream.shared_state import SharedState

log = logging.getLogger(__name__)

_MOST_IDS = 1000  # of one request; OpenAI takes 500 images
_WAIT_S = 0.05
_KEEP_S = 7 * 86400
_SHARE_AGAIN_S = 86400
_SHARED = frozenset({"file", "vector_store", "prompt"})  # kinds that `responses.files` is about
_SINGULAR = {b"batches": "batch"}  # of a path's collections; others lose their s


def named_state(call: Call) -> list[NamedState]:
    """The stored state that a request names, in either API. Raises BadRequest."""
    found = [NamedState(name, name, _id(call.read(name))) for name in ("conversation", "container")]
    for at, container in enumerate(_containers(call)):
        if container is not None:
            path = f"tools[{at}].container"
            found.append(NamedState("container", path, _id(decoded_member(container, path))))
    thread = call.read("thread")
    if isinstance(thread, dict):
        found.append(NamedState("thread", "thread.previous_message_id", _id(thread.get("previous_message_id"))))
    return [state for state in found if SHORTEST_ID <= len(state.id) <= LONGEST_ID]


class _ToolContainer(Struct):
    """The only member that is read of a tool."""

    container: Raw | None = None


_TOOLS = Decoder(list[_ToolContainer])


def _containers(call: Call) -> list[bytes | None]:
    """The container of each tool; None if it has none."""
    if "tools" not in call.fields:
        return []
    try:
        return [tool.container for tool in _TOOLS.decode(call.slices()["tools"])]
    except (ValidationError, RecursionError):  # not a list of objects
        tools = [as_object(tool) for tool in as_list(call.read("tools"))]
        return [encode(tool["container"]) if "container" in tool else None for tool in tools]


def _named_prompt(call: Call) -> list[NamedState]:
    """The stored prompt of a call of the Responses API. A prompt of the completions API is a text, or a list."""
    given = call.fields.get("prompt")
    if given is ... and bytes(memoryview(call.slices()["prompt"])[:1]) == b"{":
        given = call.read("prompt")
    id_ = _id(given) if isinstance(given, dict) else ""
    return [NamedState("prompt", "prompt.id", id_)] if SHORTEST_ID <= len(id_) <= LONGEST_ID else []


def named_by_path(path: bytes) -> list[NamedState]:
    """The stored state that a path names, such as `/v1/files/ID/content`."""
    parts = segments(path)[1:]  # without v1
    named = pairwise(parts)
    return [
        NamedState(_SINGULAR.get(kind) or kind.decode("latin-1").removesuffix("s"), "id", id_.decode("latin-1"))
        for kind, id_ in named
        if SHORTEST_ID <= len(id_) <= LONGEST_ID
    ]


def _id(given: Any) -> str:
    given = given.get("id") if isinstance(given, dict) else given
    return as_text(given)


@dataclass
class StateOwners:
    """The callers that have used each state first."""

    store: SharedState | None
    """The state shared with other processes; None if nothing is shared."""
    tasks: Tasks
    ids: ResponseIds
    max_names: int = 10_000
    """States known to this process; the oldest are forgotten."""
    clock: Callable[[], float] = time.monotonic
    _owners: OrderedDict[str, tuple[str, float]] = field(default_factory=OrderedDict, init=False)
    """The digest of owner and id, and the time at which this process shared it, by the digest of the id."""

    async def check(self, call: Call, *, files: bool = False) -> list[NamedState]:
        """The state that a request names. Raises NotFound if another key is known to have made or used any of it.

        files: also files, vector stores and stored prompts.
        """
        named = named_state(call)
        if files:
            named += await named_files(call.body) + _named_prompt(call)
        if named:
            await self._check(call.caller, named)
        return named

    async def check_path(self, caller: Caller, path: bytes, *, files: bool) -> None:
        """Checks a path that is forwarded as it is. files: False: files, vector stores and prompts are shared."""
        named = [state for state in named_by_path(path) if files or state.kind not in _SHARED]
        if named:
            await self._check(caller, named)

    async def _check(self, caller: Caller, named: Sequence[NamedState]) -> None:
        if len(named) > _MOST_IDS:
            text = f"the request names {len(named)} ids of stored state; at most {_MOST_IDS} are checked"
            raise BadRequest(text, param=named[_MOST_IDS].param, retry=False)
        owners = await self._owners_of([self.ids.state_digest(state.id) for state in named])
        for state, owner in zip(named, owners, strict=True):
            if owner is not None and owner != self.ids.owner_digest(caller.name, state.id):
                raise _not_found(state)

    def learn(self, caller: Caller, named: Sequence[NamedState], *, files: bool = False) -> None:
        """Notes the state of a request that was answered. files: its files, vector stores and prompts become the
        caller's, too; otherwise only those that are already the caller's stay so."""
        for state in named:
            if files or state.kind not in _SHARED or self._is_known_of(caller, state.id):
                self.own(caller, state.id)

    def made(self, caller: Caller, state_id: str) -> None:
        """Notes that the caller has made this, unless another key is known to own it."""
        if SHORTEST_ID <= len(state_id) <= LONGEST_ID and self.ids.state_digest(state_id) not in self._owners:
            self.own(caller, state_id)

    def own(self, caller: Caller, state_id: str) -> None:
        """Notes that this state is the caller's; shared again after a day, so that its week begins with its last
        use."""
        digest, owner = self.ids.state_digest(state_id), self.ids.owner_digest(caller.name, state_id)
        before, shared_at = self._owners.get(digest, ("", -inf))
        now = self.clock()
        if before == owner and now - shared_at < _SHARE_AGAIN_S:
            self._keep(digest, owner, shared_at)
            return
        self._keep(digest, owner, now)
        if self.store is not None:
            self.tasks.start(self._share(self.store, digest, owner), "state owner")

    def _is_known_of(self, caller: Caller, state_id: str) -> bool:
        owner, _ = self._owners.get(self.ids.state_digest(state_id), ("", 0.0))
        return owner == self.ids.owner_digest(caller.name, state_id)

    async def _owners_of(self, digests: Sequence[str]) -> list[str | None]:
        unknown = [digest for digest in digests if digest not in self._owners]
        if unknown and self.store is not None:
            with suppress(StreamDown, TimeoutError):
                async with asyncio.timeout(_WAIT_S):
                    recalled = await self.store.recall_all([f"owner:{digest}" for digest in unknown])
                for digest, owner in zip(unknown, recalled, strict=True):
                    if owner is not None:
                        self._keep(digest, owner, -inf)
        return [self._owners[digest][0] if digest in self._owners else None for digest in digests]

    def _keep(self, digest: str, owner: str, shared_at: float) -> None:
        self._owners[digest] = (owner, shared_at)
        self._owners.move_to_end(digest)
        if len(self._owners) > self.max_names:
            self._owners.popitem(last=False)

    async def _share(self, store: SharedState, digest: str, owner: str) -> None:
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
