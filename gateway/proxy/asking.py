"""One call under way: what was decided, who waits for the answer, how far it has come."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.proxy.call import Call
from gateway.proxy.dialects import Reader
from gateway.proxy.failures import Failed
from gateway.proxy.limit import Limit
from gateway.proxy.places import Place
from gateway.proxy.progress import Client, Progress
from gateway.proxy.routing import Route
from gateway.proxy.transports import Headers


@dataclass(slots=True)
class Said:
    """A stream of which the client has a part. text: all the client has; id: the first chunk's, kept to the end."""

    place: Place
    reader: Reader
    id: str
    text: str = ""


@dataclass(slots=True)
class Asking:
    """held: the answer is one JSON object, kept until it is whole. said: set once a stream's head has gone out."""

    call: Call
    route: Route
    client: Client
    progress: Progress
    limit: Limit
    held: bool
    failed: list[Failed] = field(default_factory=list)
    said: Said | None = None
    waited_s: float = 0.0

    def head(self, place: Place, headers: Headers, now: float, *, answered: bool = True) -> Headers:
        """The answer's headers: the upstream's, filtered already, and ours. now: monotonic seconds. answered: by an
        attempt that is not over yet; False: by one that is among the failed."""
        progress = self.progress
        spent = now - self.call.started
        progress.overhead_s = max(0.0, spent - progress.upstream_s - self.waited_s)
        part = self.route.part
        out = [
            *headers,
            (b"x-request-id", self.call.id.encode()),
            *place.named,
            (b"x-gateway-attempts", b"%d" % (len(self.failed) + answered)),
            (b"x-gateway-overhead-ms", b"%.2f" % (progress.overhead_s * 1000)),
            (b"openai-processing-ms", b"%d" % (spent * 1000)),
        ]
        if self.call.api in ("messages", "count_tokens"):
            out.append((b"request-id", self.call.id.encode()))  # the name that Anthropic's clients read
        if part is not None:
            out += part.head
        return out
