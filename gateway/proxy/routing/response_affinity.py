"""Remembers which upstream made a response, so that later calls that name it go there.

A call names a response by its id, by previous_response_id or by its conversation. The name is looked up in this process
first, then in the stream server, which workers and machines share, for at most 50 ms.
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


_MAX_NAME = 300  # characters, more than in any provider's ids; longer names could fill the memory
_WAIT_S = 0.05
_KEEP_S = 30 * 86400  # as long as OpenAI keeps a response
_FIRST_ID = re.compile(rb'"id"\s*:\s*"([A-Za-z0-9_.:-]{1,200})"')
_HEAD_BYTES = 8192


class HomeStore(Protocol):
    """The part of the stream server that shares small texts."""

    async def remember(self, name: str, value: str, keep_s: int) -> None: ...
    async def recall(self, name: str) -> str | None: ...


class ResponseAffinity:
    """The upstreams of known responses."""

    def __init__(self, store: HomeStore | None, tasks: Tasks, max_names: int = 10_000) -> None:
        """store: None shares nothing with other processes. max_names: of this process; the oldest are forgotten."""
        self._max_names = max_names
        self._store = store
        self._tasks = tasks
        self._homes: OrderedDict[str, tuple[str, str]] = OrderedDict()  # id → (caller, upstream)

    def learn(self, call: Call, upstream: str, answer: bytes) -> None:
        """Notes the upstream of a response and of its conversation. answer: the response, or its beginning."""
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
        """The upstream that made a response; None if unknown. Raises NotFound if it belongs to another caller."""
        known = self._homes.get(name) or await self._recall(name)
        if known is None:
            return None
        owner, upstream = known
        if owner != caller.name:
            raise NotFound(f'"{name[:100]}" does not exist', param="id")
        self._keep(name, owner, upstream)
        return upstream

    async def of_call(self, call: Call) -> str | None:
        """The upstream that keeps what the call continues; None: any upstream may answer."""
        for name in (call.fields.get("previous_response_id"), conversation_of(call.fields)):
            if isinstance(name, str) and len(name) <= _MAX_NAME:
                upstream = await self.home(name, call.caller)
                if upstream is not None:
                    return upstream
        return None

    def _keep(self, name: str, caller: str, upstream: str) -> None:
        self._homes[name] = (caller, upstream)
        self._homes.move_to_end(name)
        if len(self._homes) > self._max_names:
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
    return given if isinstance(given, str) and 0 < len(given) <= _MAX_NAME else None
