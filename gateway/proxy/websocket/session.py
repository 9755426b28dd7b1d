"""One connection's responses: the order in which messages are answered, and the turns that later ones continue.

A lane (`stream_id`) has one response in flight; further messages wait in their order. All lanes together have
MOST_RUNNING. Each response is one call of `App.answer`, so that keys, limits, routing, fallbacks, records and redaction
are those of HTTP.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gateway.core.errors import BadRequest, GatewayError, RateLimited
from gateway.proxy.app import App
from gateway.proxy.http.server.connection_limits import BodyMemory
from gateway.proxy.http.server.request import COUNTED_BYTES
from gateway.proxy.http.server.websocket import WebSocketConnection
from gateway.proxy.relay.websocket_lane import WebSocketLane
from gateway.proxy.request.endpoints import Endpoint
from gateway.proxy.types import too_large
from gateway.proxy.websocket import server_events
from gateway.proxy.websocket.client_events import (
    MOST_LANES,
    CreateEvent,
    SteerEvent,
    lane_of,
    read_client_event,
    to_request,
)
from gateway.proxy.websocket.create_request import METHOD, PATH, CreateRequest
from gateway.proxy.websocket.event_client import EventClient
from gateway.proxy.websocket.handshake import UpgradeRequest
from gateway.proxy.websocket.history import CONNECTION_BYTES, ConnectionHistory, ConversationTurn, OpenSessions

MOST_RUNNING = 16  # responses in flight on one connection, as at OpenAI
MOST_WAITING = 64  # messages of one connection that wait for their turn
GOING_AWAY = 1001
_AGED = "Responses websocket connection limit reached ({} minutes). Create a new websocket connection to continue."


@dataclass(slots=True)
class Lane:
    """The messages with one `stream_id`."""

    name: str | None
    waiting: deque[tuple[int, CreateEvent]] = field(default_factory=deque)
    """Messages that wait, each with its number on the connection."""
    running: CreateRequest | None = None
    upstreams: WebSocketLane = field(default_factory=WebSocketLane)
    """Connections of this lane to upstreams that have WebSockets."""


@dataclass(frozen=True, slots=True)
class RunningTurn:
    """The facts of a message that are kept while its response is made. The message itself may be large."""

    lane: Lane
    previous: str | None
    """The response that it continues."""
    stores: bool
    items: tuple[bytes, ...] | None
    """Items in the form of a request; None if they cannot be kept."""
    base: bytes | None


class ResponsesSession:
    """A WebSocketSession."""

    __slots__ = ("_aged", "_app", "_connection", "_draining", "_history", "_lanes", "_messages", "_running", "_shared",
                 "_upgrade", "_waiting")  # fmt: skip

    def __init__(
        self, app: App, upgrade: UpgradeRequest, connection: WebSocketConnection, shared: OpenSessions
    ) -> None:
        shared.number += 1
        self._shared = shared
        self._app = app
        self._upgrade = upgrade
        self._connection = connection
        self._history = ConnectionHistory(shared.history)
        self._lanes: dict[str | None, Lane] = {}
        self._messages = 0  # so far
        self._running = 0
        self._waiting = 0
        self._draining = False
        self._aged = False

    @property
    def busy(self) -> bool:
        return self._running > 0 or self._waiting > 0

    def message(self, data: bytes) -> None:
        try:
            event = read_client_event(data)
            if isinstance(event, CreateEvent):
                self._create(event)
            elif isinstance(event, SteerEvent):
                self._connection.reply(server_events.steering_refused(event.previous, event.input))
        except GatewayError as error:
            self._app.count_refused(error)
            self._connection.reply(server_events.in_lane(server_events.error_event(error), lane_of(data)))

    def expire(self) -> None:
        self._aged = True
        self._end_if_done()

    def drain(self) -> None:
        self._draining = True
        self._end_if_done()

    def left(self) -> None:
        self._shared.number -= 1
        self._history.clear()
        for lane in self._lanes.values():
            while lane.waiting:
                self._take_next(lane)
            if lane.running is not None:
                lane.running.leave()
            lane.upstreams.close()

    def _create(self, event: CreateEvent) -> None:
        """Raises GatewayError for a message that cannot wait for its turn."""
        if self._aged:
            raise self._too_old()
        lane = self._lanes.get(event.lane)
        if lane is None and event.lane is not None and len(self._lanes) - (None in self._lanes) >= MOST_LANES:
            raise BadRequest(
                f"this connection has {MOST_LANES} values of stream_id already; use one of them, or open another "
                "connection",
                param="stream_id",
                code="websocket_stream_limit_reached",
            )
        if self._waiting >= MOST_WAITING:
            raise RateLimited(
                f"{MOST_WAITING} messages of this connection wait for their turn; send more when a response has ended",
                code="websocket_queue_full",
                retry_after_s=1,
            )
        if self._memory is not None and len(event.body) > COUNTED_BYTES:
            self._memory.take(len(event.body), self._connection.holder)
        if lane is None:
            lane = self._lanes[event.lane] = Lane(event.lane)
        self._messages += 1
        lane.waiting.append((self._messages, event))
        self._waiting += 1
        self._start_waiting()

    @property
    def _memory(self) -> BodyMemory | None:
        return self._connection.memory

    def _take_next(self, lane: Lane) -> CreateEvent:
        _, event = lane.waiting.popleft()
        self._waiting -= 1
        if self._memory is not None and len(event.body) > COUNTED_BYTES:
            self._memory.give_back(len(event.body), self._connection.holder)
        return event

    def _start_waiting(self) -> None:
        while (lane := self._next_lane()) is not None:
            event = self._take_next(lane)
            if event.generates:
                self._start(lane, event)
            else:
                self._prepare(lane, event)
        self._end_if_done()

    def _next_lane(self) -> Lane | None:
        """The lane whose message has waited longest of those that can be answered now."""
        if not self._waiting or self._running >= MOST_RUNNING or not self._connection.open:
            return None
        ready = (lane for lane in self._lanes.values() if lane.waiting and lane.running is None)
        return min(ready, key=lambda lane: lane.waiting[0][0], default=None)

    def _start(self, lane: Lane, event: CreateEvent) -> None:
        """Begins the answer in a task, or refuses."""
        app = self._app
        try:
            parent = self._parent(event)
            asked = to_request(event, parent)
            if len(asked.body) > app.gateway.max_body_bytes:
                raise too_large(app.gateway.max_body_bytes)
        except GatewayError as error:
            self._refuse(lane, event, error)
            return
        lane.upstreams.begin(asked.continuation)
        lane.running = CreateRequest(self._upgrade, asked.body, self._memory)
        self._running += 1
        kept = asked.items is not None and sum(map(len, asked.items)) <= CONNECTION_BYTES
        turn = RunningTurn(lane, event.previous, event.stores, asked.items if kept else None, asked.base)
        answering = self._answered(turn, lane.running)
        self._connection.hold(app.gateway.tasks.start(answering, "response over WebSocket"))

    def _parent(self, event: CreateEvent) -> ConversationTurn | None:
        """The turn that a message continues, if it is kept. Raises BadRequest if it cannot be kept elsewhere."""
        if event.previous is None:
            return None
        parent = self._history.find(event.previous)
        if parent is None and not event.stores:
            raise BadRequest(
                f"Previous response with id '{event.previous[:100]}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return parent

    def _refuse(self, lane: Lane, event: CreateEvent, error: GatewayError) -> None:
        self._app.count_refused(error)
        self._forget(lane, event.previous)
        self._connection.reply(server_events.in_lane(server_events.error_event(error), lane.name))

    async def _answered(self, turn: RunningTurn, request: CreateRequest) -> None:
        """Answers one message, and begins with the next."""
        lane = turn.lane
        client = EventClient(self._connection, lane.name)
        client.on_end = partial(self._keep, turn)
        try:
            await self._app.answer(self._endpoint, request, client, lane.upstreams)
        finally:
            client.fail_unended()
            request.release()
            lane.running = None
            self._running -= 1
            if client.refused:
                self._forget(lane, turn.previous)
            self._start_waiting()

    @property
    def _endpoint(self) -> Endpoint:
        endpoint = self._app.find(METHOD, PATH)
        if endpoint is None:
            raise LookupError("the application has no /v1/responses")
        return endpoint

    def _keep(self, turn: RunningTurn, client: EventClient) -> None:
        """Keeps a complete response for the turns that continue it."""
        lane = turn.lane
        if not self._connection.open:
            return
        if client.response is None or turn.items is None:
            self._history.forget(lane.name)
            return
        response_id, output = client.response
        lane.upstreams.answered(response_id)
        if not turn.stores:
            output = server_events.portable(output)
        items = tuple(filter(None, (*turn.items, output)))
        self._history.keep(lane.name, ConversationTurn(response_id, items, turn.base))

    def _forget(self, lane: Lane, previous: str | None) -> None:
        """Forgets a conversation after an error, so that it begins again; another lane's continues."""
        if previous is not None and self._history.latest(lane.name) == previous:
            self._history.forget(lane.name)

    def _prepare(self, lane: Lane, event: CreateEvent) -> None:
        """Answers a message that only prepares a conversation, which reaches no upstream."""
        try:
            model = self._allowed_model(event)
            asked = to_request(event, self._parent(event))
        except GatewayError as error:
            self._refuse(lane, event, error)
            return
        response_id, events = server_events.prepared(model)
        if asked.items is not None:
            self._history.keep(lane.name, ConversationTurn(response_id, tuple(filter(None, asked.items)), asked.base))
        for each in events:
            self._connection.reply(server_events.in_lane(each, lane.name))

    def _allowed_model(self, event: CreateEvent) -> Any:
        """The model of a message. Raises GatewayError if its caller may not use it."""
        gateway, upgrade = self._app.gateway, self._upgrade
        caller = gateway.keys.admit(upgrade.peer, upgrade.headers, upgrade.fields, None)
        model = event.model
        if isinstance(model, str) and gateway.router.pattern_for(model, caller) is None:
            gateway.router.check(model, caller)
        return model

    def _too_old(self) -> GatewayError:
        minutes = round(self._connection.limits.age_s / 60)
        return BadRequest(_AGED.format(minutes), code="websocket_connection_limit_reached")

    def _end_if_done(self) -> None:
        """Ends a connection that is too old, or whose server stops, once nothing is being answered."""
        if self.busy or not (self._aged or self._draining):
            return
        if self._aged:
            error = self._too_old()
            self._connection.send([server_events.error_event(error)])
            self._connection.close(GOING_AWAY, "the connection has reached its age; open another one")
        else:
            self._connection.close(GOING_AWAY, "the gateway is stopping; open another connection")
