"""Routing of the Responses API: a call that continues a response or a conversation goes to the upstream that has it.

A response names its upstream and its owner itself (response_ids.py), unless `responses: {seal: false}` leaves ids as
they are. For those, and for conversations, whose ids are the upstream's, a digest of caller and name is noted in this
process and in the stream server, which workers and machines share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import orjson

from gateway.core.errors import NotFound
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.routing.call_histories import CallHistories
from gateway.proxy.routing.response_chains import SOURCE as CHAIN
from gateway.proxy.routing.response_chains import ResponseChains
from gateway.proxy.routing.response_ids import OpenedId, Replacer, ResponseIds, id_of_answer
from gateway.proxy.routing.shared_notes import NoteKind, SharedNotes
from gateway.proxy.routing.state_owners import StateOwners
from gateway.proxy.types import ClientConnection, Headers
from gateway.runtime.tasks import Tasks
from gateway.stream.shared_state import SharedState

_MAX_NAME = 300  # characters, more than in any provider's ids; longer names could fill the memory
_HOME = NoteKind("home", "the upstream of a response or conversation", 7 * 86400)


class ResponseAffinity:
    """The upstreams of responses and conversations."""

    def __init__(
        self, store: SharedState | None, tasks: Tasks, ids: ResponseIds | None = None, max_names: int = 10_000
    ) -> None:
        """store: None shares no conversation with other processes. max_names: conversations of this process; the oldest
        are forgotten."""
        self.ids = ids or ResponseIds()
        self._homes = SharedNotes(_HOME, store, tasks, max_names)
        self.owners = StateOwners(store, tasks, self.ids, max_names)
        """The owners of conversations, containers, threads and files."""
        self.chains = ResponseChains(store, tasks, self.ids, max_names)
        """The runs of responses that calls continue."""
        self.histories = CallHistories(store, tasks, self.ids, max_names)
        """The runs of calls whose messages others extend."""

    def open(self, response_id: str, caller: Caller, upstreams: Iterable[str]) -> OpenedId:
        """Raises NotFound for an id that none of these upstreams made for this caller."""
        opened = self.ids.open(response_id, caller.name, upstreams)
        if opened is None:
            raise NotFound(f'response "{response_id[:100]}" does not exist', param="id", retry=False)
        return opened

    def _open_previous(self, response_id: str, caller: Caller, upstreams: Iterable[str]) -> OpenedId:
        """Opens the id of the response that a call continues, with the error that OpenAI's clients know."""
        try:
            return self.open(response_id, caller, upstreams)
        except NotFound as error:
            error.param, error.code = "previous_response_id", "previous_response_not_found"
            raise

    async def home_of(self, response_id: str) -> str | None:
        """The upstream that made a response whose id is not sealed; None if it is not known here."""
        return await self._homes.find(self.ids.state_digest(response_id))

    async def prepare(self, call: Call, upstreams: Iterable[str], *, sealed: bool = True) -> tuple[Call, str | None]:
        """The call as its upstream understands it, and that upstream; None means that any may answer.

        sealed: ids of responses are. Raises NotFound if it continues a response that is not its caller's.
        """
        previous = call.read("previous_response_id")
        if isinstance(previous, str) and not sealed and self.ids.open(previous, call.caller.name, upstreams) is None:
            return call, await self.home_of(previous)
        if isinstance(previous, str):
            opened = self._open_previous(previous, call.caller, upstreams)
            asked = call.changed({"previous_response_id": orjson.dumps(opened.id)})
            fields = {**call.fields, "previous_response_id": opened.id}
            return replace(asked, fields=fields), opened.upstream
        name = conversation_of(call)
        if name is None:
            return call, None
        return call, await self._homes.find(self.ids.conversation_digest(call.caller.name, name))

    def client(
        self, client: ClientConnection, call: Call, asked: Call, upstream: Callable[[], str], *, sealed: bool = True
    ) -> SealingClient:
        """The client, which gets sealed ids; or the upstream's own, whose home is noted.

        call: as the client sent it. asked: as `prepare` returned it. upstream: the one that answers, once it is known.
        """
        if not sealed:
            return SealingClient(client, self._chained(call, lambda theirs: self._noted(theirs, upstream())), {})
        given, sent = call.fields.get("previous_response_id"), asked.fields.get("previous_response_id")
        echoes = {sent: given} if isinstance(sent, str) and isinstance(given, str) else {}
        seal = self._chained(call, lambda theirs: self.ids.seal(upstream(), call.caller.name, theirs))
        return SealingClient(client, seal, echoes)

    def _chained(self, call: Call, name: Callable[[str], str]) -> Callable[[str], str]:
        """The function that names a response for its client, which also notes its run, if the run is a chain."""
        run = call.run
        if run is None or run.source != CHAIN:
            return name

        def noting(theirs: str) -> str:
            visible = name(theirs)
            self.chains.note(call.caller, visible, run.id)
            return visible

        return noting

    def message_client(self, client: ClientConnection, caller: Caller) -> SealingClient:
        """The client, whose message is noted as the caller's: a thread continues after it."""

        def note(theirs: str) -> str:
            self.owners.own(caller, theirs)
            return theirs

        return SealingClient(client, note, {})

    def _noted(self, response_id: str, upstream: str) -> str:
        self._homes.note(self.ids.state_digest(response_id), upstream)
        return response_id

    def learn(self, call: Call, upstream: str) -> None:
        """Notes the upstream that has a conversation."""
        name = conversation_of(call)
        if name is not None:
            self._homes.note(self.ids.conversation_digest(call.caller.name, name), upstream)


def conversation_of(call: Call) -> str | None:
    """The id in the Responses API's `conversation`: a string, or an object with an id."""
    given = call.read("conversation")
    if isinstance(given, dict):
        given = given.get("id")
    return given if isinstance(given, str) and 0 < len(given) <= _MAX_NAME else None


class SealingClient:
    """A ClientConnection that seals the id of the response which it carries."""

    __slots__ = ("_client", "_echoes", "_head", "_replacer", "_seal", "started")

    def __init__(self, client: ClientConnection, seal: Callable[[str], str], echoes: dict[str, str]) -> None:
        """echoes: ids of the request, as the upstream may repeat them, and as the client knows them."""
        self.started = False
        self._client = client
        self._seal = seal
        self._echoes = echoes
        self._replacer: Replacer | None = None  # once the id is known
        self._head: tuple[int, Headers, bytes] | None = None  # held until the length of the body is known

    @property
    def writable(self) -> bool:
        return self._head is None and self._client.writable

    def start(self, status: int, headers: Headers, length: int | None = None, extra_lines: bytes = b"") -> None:
        self.started = True
        if length is None:
            self._client.start(status, headers, None, extra_lines)
        else:
            self._head = (status, headers, extra_lines)

    async def write(self, data: bytes) -> None:
        self._begin(None)
        await self._client.write(self._sealed(data))

    def write_nowait(self, data: bytes) -> None:
        self._client.write_nowait(self._sealed(data))

    async def end(self, data: bytes = b"") -> None:
        data = self._sealed(data)
        self._begin(len(data))
        await self._client.end(data)

    async def end_nowait(self, data: bytes) -> None:
        data = self._sealed(data)
        self._begin(len(data))
        await self._client.end_nowait(data)

    def _begin(self, length: int | None) -> None:
        head, self._head = self._head, None
        if head is not None:
            status, headers, extra_lines = head
            self._client.start(status, headers, length, extra_lines)

    def _sealed(self, data: bytes) -> bytes:
        """The data, which is whole events or a whole body, with sealed ids."""
        if self._replacer is None:
            found = id_of_answer(data)
            if found is None:
                return data
            self._replacer = Replacer({**self._echoes, found: self._seal(found)})
        return self._replacer.whole(data)
