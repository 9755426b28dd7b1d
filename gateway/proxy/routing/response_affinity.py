"""Which upstream made a response, so that what names it later goes there: by id, previous_response_id, conversation.

Looked up in this process first, then in the stream server within 50 ms, so that workers and machines share it; an id
that nobody knows is asked of every candidate.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from typing import Any, Protocol

from gateway.core.errors import NotFound, StreamDown
from gateway.proxy.request.call import Call, Caller
from gateway.runtime.tasks import Tasks

log = logging.getLogger(__name__)

_MOST = 10_000
_LONGEST = 300  # characters of a name: no vendor's ids come near, and what is longer would fill the memory
_WAIT_S = 0.05
_KEEP_S = 30 * 86400  # as long as OpenAI keeps a response
_FIRST_ID = re.compile(rb'"id"\s*:\s*"([A-Za-z0-9_.:-]{1,200})"')
_HEAD_BYTES = 8192


class HomeStore(Protocol):
    """Where homes are shared: the stream server."""

    async def remember(self, name: str, value: str, keep_s: int) -> None: ...
    async def recall(self, name: str) -> str | None: ...


class ResponseAffinity:
    """shelf: None keeps homes in this process only."""

    def __init__(self, store: HomeStore | None, tasks: Tasks) -> None:
        self._store = store
        self._tasks = tasks
        self._homes: OrderedDict[str, tuple[str, str]] = OrderedDict()  # id → (caller, upstream)

    def learn(self, call: Call, upstream: str, answer: bytes) -> None:
        """Notes where the response in these bytes, or their beginning, was made; and the conversation it is in."""
        found = _FIRST_ID.search(answer, 0, _HEAD_BYTES)
        names = [found[1].decode()] if found and found[1].startswith(b"resp") else []
        conversation = conversation_of(call.fields)
        if conversation is not None:
            names.append(conversation)
        for name in names:
            self._keep(name, call.caller.name, upstream)
            if self._store is not None:
                self._tasks.start(self._share(name, call.caller.name, upstream), "response home")

    async def home(self, name: str, caller: Caller) -> str | None:
        """The upstream that made it; None when nobody knows. Raises NotFound when it is somebody else's."""
        known = self._homes.get(name) or await self._recall(name)
        if known is None:
            return None
        owner, upstream = known
        if owner != caller.name:
            raise NotFound(f'there is no "{name[:100]}"', param="id")
        self._keep(name, owner, upstream)
        return upstream

    async def of_call(self, call: Call) -> str | None:
        """Where a call must go because of what it continues."""
        for name in (call.fields.get("previous_response_id"), conversation_of(call.fields)):
            if isinstance(name, str) and len(name) <= _LONGEST:
                upstream = await self.home(name, call.caller)
                if upstream is not None:
                    return upstream
        return None

    def _keep(self, name: str, caller: str, upstream: str) -> None:
        self._homes[name] = (caller, upstream)
        self._homes.move_to_end(name)
        if len(self._homes) > _MOST:
            self._homes.popitem(last=False)

    async def _share(self, name: str, caller: str, upstream: str) -> None:
        try:
            if self._store is not None:
                await self._store.remember(f"home:{name}", f"{caller}\n{upstream}", _KEEP_S)
        except StreamDown as error:
            log.info("response home not shared: %s", error)

    async def _recall(self, name: str) -> tuple[str, str] | None:
        if self._store is None:
            return None
        try:
            async with asyncio.timeout(_WAIT_S):
                value = await self._store.recall(f"home:{name}")
        except (StreamDown, TimeoutError):
            return None
        if value is None:
            return None
        caller, _, upstream = value.partition("\n")
        return caller, upstream


def conversation_of(fields: dict[str, Any]) -> str | None:
    """The id in the Responses API's `conversation`: a string, or an object with an id."""
    given = fields.get("conversation")
    if isinstance(given, dict):
        given = given.get("id")
    return given if isinstance(given, str) and 0 < len(given) <= _LONGEST else None
