"""One call under way: what was decided, who waits for the answer, how far it has come."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.proxy.dialects.types import Reader
from gateway.proxy.relay.deadlines import Deadlines
from gateway.proxy.relay.failures import FailedAttempt
from gateway.proxy.relay.progress import CallContext
from gateway.proxy.request.call import Call
from gateway.proxy.routing.router import Route
from gateway.proxy.routing.target_state import TargetState
from gateway.proxy.types import ClientConnection, Headers


@dataclass(slots=True)
class SentText:
    """A stream of which the client has a part. text: all the client has; id: the first chunk's, kept to the end."""

    target_state: TargetState
    reader: Reader
    id: str
    text: str = ""


@dataclass(slots=True)
class RelayState:
    """held: the answer is one JSON object, kept until it is whole. said: set once a stream's head has gone out."""

    call: Call
    route: Route
    client: ClientConnection
    context: CallContext
    limit: Deadlines
    held: bool
    failed: list[FailedAttempt] = field(default_factory=list)
    said: SentText | None = None
    waited_s: float = 0.0

    def start(
        self,
        target_state: TargetState,
        status: int,
        headers: Headers,
        now: float,
        length: int | None = None,
        *,
        answered: bool = True,
    ) -> None:
        """The answer's head. headers: the upstream's, filtered already; ours come after. now: monotonic seconds.
        answered: by an attempt that is not over yet; False: by one that is among the failed."""
        context, assignment = self.context, self.route.assignment
        spent = now - self.call.started
        context.overhead_s = ours_s = max(0.0, spent - context.upstream_s - self.waited_s)
        attempts = len(self.failed) + answered
        ours = _OURS % (self.call.id.encode(), target_state.named, attempts, ours_s * 1000, spent * 1000)
        if self.call.api in ("messages", "count_tokens"):
            ours += b"\r\nrequest-id: " + self.call.id.encode()  # the name that Anthropic's clients read
        self.client.start(status, headers if assignment is None else [*headers, *assignment.head], length, ours)


_OURS = b"x-request-id: %b\r\n%b\r\nx-gateway-attempts: %d\r\nx-gateway-overhead-ms: %.2f\r\nopenai-processing-ms: %d"
