"""The stage of calls that continue or name state which an upstream keeps: responses, conversations, files, threads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.config.config import ResponsesConfig
from gateway.core.run_history import HISTORY
from gateway.proxy.relay.state import CallContext
from gateway.proxy.relay.websocket_lane import WebSocketLane
from gateway.proxy.request.call import Call
from gateway.proxy.request.endpoints import Endpoint
from gateway.proxy.routing.named_files import NamedState
from gateway.proxy.routing.response_affinity import ResponseAffinity
from gateway.proxy.routing.response_chains import SOURCE
from gateway.proxy.types import ClientConnection


class StoredState:
    """The state that one call names: which upstream has it, and whose it is."""

    __slots__ = ("_affinity", "_config", "_endpoint", "_lane", "_named", "home")

    def __init__(
        self, affinity: ResponseAffinity, config: ResponsesConfig, endpoint: Endpoint, lane: WebSocketLane | None = None
    ) -> None:
        """lane: of a call that came over a WebSocket; None if it did not."""
        self._affinity = affinity
        self._config = config
        self._endpoint = endpoint
        self._lane = lane
        self._named: Sequence[NamedState] = ()
        self.home: str | None = None
        """The upstream that keeps the state; None means that any may answer."""

    async def prepare(
        self, call: Call, client: ClientConnection, context: CallContext, upstreams: Iterable[str]
    ) -> tuple[Call, ClientConnection]:
        """The call as its upstream gets it, and the client, whose ids are sealed or noted.

        Raises NotFound for state of another caller.
        """
        affinity, endpoint, sealed = self._affinity, self._endpoint, self._config.seal
        if call.run is None and (SOURCE in endpoint.run_sources or HISTORY in endpoint.run_sources):
            call = await self._with_run(call)
        given = call
        if endpoint.stateful:
            call, self.home = await affinity.prepare(given, upstreams, sealed=sealed)
            client = affinity.client(client, given, call, context.upstream, sealed=sealed)
        owned = "container" in call.fields or not endpoint.owned.isdisjoint(call.fields)
        if owned or endpoint.names_files:
            self._named = await affinity.owners.check(call, files=endpoint.names_files)
            if owned and "thread" in call.fields:
                client = affinity.message_client(client, call.caller)
        return call, client

    async def _with_run(self, call: Call) -> Call:
        """The call with its run: the history that it extends, or the chain of responses that it continues."""
        sources = self._endpoint.run_sources
        if HISTORY in sources and SOURCE not in sources[: sources.index(HISTORY)]:
            call = await self._affinity.histories.assign(call)
        if call.run is not None or SOURCE not in sources:
            return call
        previous = None if self._lane is None else self._lane.continues
        previous = call.read(SOURCE) if previous is None else previous
        return await self._affinity.chains.assign(call, previous if isinstance(previous, str) else None)

    def learn(self, call: Call, context: CallContext) -> None:
        """Notes the state that an answered call shows: the upstream of a conversation, and the caller as owner of its
        state."""
        if self._endpoint.stateful and context.target_state is not None:
            self._affinity.learn(call, context.target_state.target.upstream)
        if self._named and 200 <= context.status < 300:
            self._affinity.owners.learn(call.caller, self._named, files=self._config.files == "used")
