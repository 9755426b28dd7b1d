"""The stage of calls that continue or name state which an upstream keeps: responses, conversations, files, threads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.config.config import ResponsesConfig
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

    __slots__ = ("_affinity", "_config", "_endpoint", "_named", "home")

    def __init__(self, affinity: ResponseAffinity, config: ResponsesConfig, endpoint: Endpoint) -> None:
        self._affinity = affinity
        self._config = config
        self._endpoint = endpoint
        self._named: Sequence[NamedState] = ()
        self.home: str | None = None
        """The upstream that keeps the state; None: any may answer."""

    async def with_run(self, call: Call, lane: WebSocketLane | None) -> Call:
        """The call with its run, if that is the chain of responses that it continues."""
        if call.run is not None or SOURCE not in self._endpoint.run_sources:
            return call
        previous = call.read(SOURCE) if lane is None or lane.continues is None else lane.continues
        return await self._affinity.chains.assign(call, previous if isinstance(previous, str) else None)

    async def prepare(
        self, call: Call, client: ClientConnection, context: CallContext, upstreams: Iterable[str]
    ) -> tuple[Call, ClientConnection]:
        """The call as its upstream gets it, and the client, whose ids are sealed or noted.

        Raises NotFound for state of another caller.
        """
        affinity, endpoint, sealed, given = self._affinity, self._endpoint, self._config.seal, call
        if endpoint.stateful:
            call, self.home = await affinity.prepare(given, upstreams, sealed=sealed)
            client = affinity.client(client, given, call, context.upstream, sealed=sealed)
        owned = "container" in call.fields or not endpoint.owned.isdisjoint(call.fields)
        if owned or endpoint.names_files:
            self._named = await affinity.owners.check(call, files=endpoint.names_files)
            if owned and "thread" in call.fields:
                client = affinity.message_client(client, call.caller)
        return call, client

    def learn(self, call: Call, context: CallContext) -> None:
        """Notes what an answered call shows: the upstream of a conversation, and the caller as owner of its state."""
        if self._endpoint.stateful and context.target_state is not None:
            self._affinity.learn(call, context.target_state.target.upstream)
        if self._named and 200 <= context.status < 300:
            self._affinity.owners.learn(call.caller, self._named, files=self._config.files == "used")
