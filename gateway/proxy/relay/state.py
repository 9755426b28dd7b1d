"""The state of one call in flight: its `CallContext`, and the `RelayState` that only the relay uses. No I/O.

The context outlives the relay: `settle`, the access log and the spans read it when the call has ended.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec import Struct

from gateway.core.errors import GatewayError
from gateway.core.exchange import Attempt, Outcome, Target, Usage
from gateway.observability.tracing import SpanIds
from gateway.proxy.dialects.types import ClientDialect, ErrorSource, QuestionNote, Reader
from gateway.proxy.limits.charge import Charge
from gateway.proxy.limits.endings import ANSWERED, NO_CONNECTION_IN_TIME, NOT_SENT, AttemptEnding, UnmeteredAttempt
from gateway.proxy.limits.limiter import CallReservation
from gateway.proxy.relay.deadlines import Deadlines
from gateway.proxy.relay.failures import FailedAttempt
from gateway.proxy.relay.websocket_lane import WebSocketLane
from gateway.proxy.request.call import Call
from gateway.proxy.routing.concurrency_limiter import Admission
from gateway.proxy.routing.router import Route
from gateway.proxy.routing.target_state import TargetState
from gateway.proxy.types import ClientConnection, GuardedExchange


class ResponseBytes(Protocol):
    """The bytes of a call's response that its client got, for the record."""

    @property
    def enabled(self) -> bool:
        """Whether they are held at all."""
        ...

    @property
    def truncated(self) -> bool:
        """Whether some were left out, since they were too many."""
        ...

    def relayed(self, data: bytes) -> None:
        """Called with what the relay has given to its client."""
        ...

    def bytes(self) -> bytes: ...


class HeldBytes:
    """The response's bytes, held by reference until the call ends and it is decided whether they are recorded."""

    __slots__ = ("_pieces", "_room", "enabled", "truncated")

    def __init__(self, enabled: bool, cap_bytes: int) -> None:
        """enabled: False holds nothing. cap_bytes: what exceeds it is left out, and sets `truncated`."""
        self.enabled = enabled
        self.truncated = False
        self._room = cap_bytes
        self._pieces: list[bytes] = []

    def add(self, data: bytes) -> None:
        if not self.enabled or self.truncated:
            return
        self._room -= len(data)
        if self._room < 0:
            data = data[: self._room]
            self.truncated = True
        self._pieces.append(data)

    relayed = add  # the relay's client is the caller's connection

    def bytes(self) -> bytes:
        return b"".join(self._pieces)


NOT_HELD = HeldBytes(False, 0)
"""Shared by all responses that hold no bytes; it is never changed."""


class CallNotes(Struct):
    """Facts about a call for logs, spans and metrics, besides its result."""

    id: str = ""
    """The response's x-request-id, where there is no Call; "" if there is one."""
    routed: bool = False
    """The router knows the alias and the caller may use it."""
    failure: str = ""
    """Reason why the last attempt failed, in the log's words; "" if none has failed."""
    error_code: str = ""
    """The code of the gateway's own error response; "" if none was sent."""
    error_source: ErrorSource | None = None
    """The party at fault for an error within HTTP 200 that was passed on; None if there was none."""
    queue_full: bool = False
    """Whether no target had space in its queue."""
    span: SpanIds | None = None
    """The ids of the call's span; None if it has none."""
    overhead_s: float = 0.0
    """The gateway's own share of the time until the response began."""
    ended_by: GatewayError | None = None
    """Error with which the gateway itself ends the answer; None if it does not."""
    decision: str = ""
    """The probabilities behind an answer that was asked for as a decision, in JSON; "": none."""
    questions: tuple[QuestionNote, ...] = ()
    """The results of a decision's questions, as far as the gateway has read them."""
    ended_at: float | None = None
    """Monotonic time at which the response ended, where its record waited for guards; None if it did not wait."""


@dataclass(slots=True)
class CallContext:
    """The course of one call so far. Mutable; one for each call."""

    response: ResponseBytes
    outcome: Outcome = "ok"
    target_state: TargetState | None = None
    """The target that answered, or the last one that was attempted; None if no target was attempted."""
    sent_body: bytes = b""
    """The request body as the first answering target got it; b"" where the response is not held either."""
    status: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    usage: Usage | None = None
    first_content: float | None = None
    """Monotonic time of the first content that was sent on."""
    reservation: CallReservation | None = None
    """The amounts reserved of its caller's limits; None if none holds for it."""
    sent: bool = False
    """Whether an attempt has sent the request, or a part of it."""
    unmetered: tuple[UnmeteredAttempt, ...] = ()
    """The attempts that were sent and whose usage the upstream has not reported completely."""
    charge: Charge | None = None
    """Charge of the call, once it has ended; None if nothing was sent, or its usage at the target's price."""
    spliced: bool = False
    """The stream was cut and continued by another target."""
    client_gone: bool = False
    ended: bool = False
    """Whether nothing more is sent to the client."""
    task: asyncio.Task[Any] | None = None
    """The task that answers the call; None if unknown to the code that created the context."""
    key: str = ""
    """The caller's name; "" if it is unknown."""
    notes: CallNotes = field(default_factory=CallNotes)
    guarded: GuardedExchange | None = None
    """The guards that judge the call; None if no guard does."""

    def upstream(self) -> str:
        """The upstream that answered, or was attempted last; "" if none was."""
        return "" if self.target_state is None else self.target_state.target.upstream

    def client_left(self) -> None:
        """Cancels the task that answers the call, unless the response has ended."""
        if not self.ended:
            self.client_gone = True
            if self.task is not None:
                self.task.cancel()

    def end(self, reason: GatewayError) -> None:
        """Ends the answer before its end, unless it has ended."""
        if not self.ended and not self.client_gone and self.task is not None:
            self.notes.ended_by = reason
            self.task.cancel()


@dataclass(slots=True)
class SentText:
    """A stream of which the client has received the beginning."""

    target_state: TargetState
    reader: Reader
    id: str
    """The id in the first chunk, which a continuation keeps; "" if it had none."""
    text: str = ""
    """Text that the client has; filled in once a continuation needs it."""


@dataclass(slots=True)
class RelayState:
    """One call inside the relay: the decision, the waiting client, and the failed attempts."""

    call: Call
    route: Route
    client: ClientConnection
    context: CallContext
    deadlines: Deadlines
    held: bool
    """The answer is one JSON object, held until it is complete."""
    lane: WebSocketLane | None = None
    """The lane of the client's WebSocket; None if the call came by HTTP, or is a shadow."""
    failed: list[FailedAttempt] = field(default_factory=list)
    sent: SentText | None = None
    """The stream whose head has been sent; None if none has."""
    backoff_s: float = 0.0
    """Time slept between retries so far."""
    upstream_s: float = 0.0
    """Time spent waiting for upstreams before the response began."""
    attempt_usage: Usage | None = None
    """Usage of the attempt in flight."""
    connecting: bool = False
    """Whether the current attempt still waits for its connection: nothing of it has been sent."""
    pieces: int = 0
    """Events of the current attempt's stream that have arrived: about its output tokens."""
    answer: bytes = b""
    """The complete plain answer that was sent, by reference."""
    answer_bytes: int = 0
    """Bytes of a complete response to the current attempt that is not an answer."""
    queued: bool = False
    """An attempt had to wait for a concurrency limiter."""
    dialect: ClientDialect | None = None
    """The dialect of the current attempt; None if it is that of the call's API at the target."""
    losses: str = ""
    """The parts of the client's request that the current attempt's upstream cannot get, by name."""
    admission: Admission | None = None
    """Admission of the current attempt by its upstream's limiter; None if the limiter was not asked."""

    @property
    def client_deadline(self) -> bool:
        """Whether the call's total deadline is the one that its client has asked for."""
        return self.route.total_shortened and not self.route.shadow_of

    @property
    def total_shortened(self) -> bool:
        """The current attempt has less than the configured total for itself."""
        return self.route.total_shortened or self.queued or bool(self.failed)

    def note_unmetered(self, target: Target, ending: AttemptEnding, usage: Usage | None) -> None:
        """Notes whether an ended attempt was sent, and its figures unless nothing can be charged."""
        if self.connecting:
            ending, self.connecting = NOT_SENT, False
        if ending is not NOT_SENT and ending is not NO_CONNECTION_IN_TIME:
            self.context.sent = True
        pieces, self.pieces = self.pieces, 0
        answer_bytes, self.answer_bytes = self.answer_bytes, 0
        if ending.input == "nothing":
            return
        if ending is ANSWERED:
            answer_bytes = len(self.answer)
        unmetered = UnmeteredAttempt(target, ending, usage, pieces, answer_bytes)
        self.context.unmetered = (*self.context.unmetered, unmetered)
