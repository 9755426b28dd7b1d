"""Runs of calls that continue a response: the run of a call is that of the response in its `previous_response_id`.

Only where `runs.from` lists `previous_response_id`. A call that continues nothing begins a run; one that continues a
response which is not known here begins one with that response. A digest of caller and response is noted with its run in
this process and in the stream server, which workers and machines share, for as long as a run may last.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.core.exchange import cluster_digest, run_key
from gateway.proxy.request.call import Call, Caller, RunId
from gateway.proxy.routing.response_ids import ResponseIds
from gateway.proxy.routing.shared_notes import NoteKind, SharedNotes
from gateway.runtime.tasks import Tasks
from gateway.stream.shared_state import SharedState

SOURCE = "previous_response_id"
_RUN = NoteKind("chain", "the run of a response", 86_400)


class ResponseChains:
    def __init__(self, store: SharedState | None, tasks: Tasks, ids: ResponseIds, max_names: int) -> None:
        """store: None shares nothing with other processes. max_names: responses of this process; the oldest are
        forgotten."""
        self._ids = ids
        self._runs = SharedNotes(_RUN, store, tasks, max_names)

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
        self._runs.note(self._ids.chain_digest(caller.name, response_id), run)

    async def find(self, caller: Caller, response_id: str) -> str | None:
        """The id of the run of a caller's response; None if it is not known."""
        return await self._runs.find(self._ids.chain_digest(caller.name, response_id))
