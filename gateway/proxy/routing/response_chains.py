"""Runs of calls that continue a response: the run of a call is that of the response in its `previous_response_id`.

Only where `runs.from` lists `previous_response_id`. A call that continues nothing begins a run; one that continues a
response which is not known here begins one with that response. A digest of caller and response is noted with its run in
this process and in the stream server, which workers and machines share, for as long as a run may last.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import replace

from gateway.core.errors import StreamDown
from gateway.core.exchange import cluster_digest, run_key
from gateway.proxy.request.call import Call, Caller, RunId
from gateway.proxy.routing.response_ids import ResponseIds
from gateway.runtime.tasks import Tasks
from gateway.stream.shared_state import SharedState

log = logging.getLogger(__name__)

SOURCE = "previous_response_id"
_KEEP_S = 86_400
_WAIT_S = 0.05


class ResponseChains:
    def __init__(self, store: SharedState | None, tasks: Tasks, ids: ResponseIds, max_names: int) -> None:
        """store: None shares nothing with other processes. max_names: responses of this process; the oldest are
        forgotten."""
        self._store = store
        self._tasks = tasks
        self._ids = ids
        self._max_names = max_names
        self._runs: OrderedDict[str, str] = OrderedDict()

    async def assign(self, call: Call, previous: str | None) -> Call:
        """The call with its run. previous: the response that it continues, as its client knows it."""
        if previous is None:
            id = call.id
        else:
            known = await self.find(call.caller, previous)
            id = cluster_digest(previous) if known is None else known
        return replace(call, run=RunId(id, SOURCE, run_key(call.caller.name, id)))

    def note(self, caller: Caller, response_id: str, run: str) -> None:
        """Notes the run of an answered response. response_id: as the client knows it."""
        digest = self._ids.chain_digest(caller.name, response_id)
        self._keep(digest, run)
        if self._store is not None:
            self._tasks.start(self._share(digest, run), "run of a response")

    async def find(self, caller: Caller, response_id: str) -> str | None:
        """The id of the run of a caller's response; None: it is not known."""
        digest = self._ids.chain_digest(caller.name, response_id)
        run = self._runs.get(digest) or await self._recall(digest)
        if run is not None:
            self._keep(digest, run)
        return run

    def _keep(self, digest: str, run: str) -> None:
        self._runs[digest] = run
        self._runs.move_to_end(digest)
        if len(self._runs) > self._max_names:
            self._runs.popitem(last=False)

    async def _share(self, digest: str, run: str) -> None:
        try:
            if self._store is not None:
                await self._store.remember(f"chain:{digest}", run, _KEEP_S)
        except StreamDown as error:
            log.info("the run of a response is not shared: %s", error)

    async def _recall(self, digest: str) -> str | None:
        if self._store is None:
            return None
        try:
            async with asyncio.timeout(_WAIT_S):
                return await self._store.recall(f"chain:{digest}")
        except (StreamDown, TimeoutError):
            return None
