"""A fake upstream with scripted answers, delays and faults over a real socket.

For our tests, our benchmarks and users' own tests. It implements HTTP/1.1 itself, because an ASGI server cannot
misbehave on the wire.

    async with FakeUpstream() as upstream:
        upstream.says("one ", HOLD, "two ")
        upstream.then(Fault.rate_limited(retry_after=1), Fault.reset())
        ...                                     # send requests to upstream.base_url
        assert upstream.received[0].json["model"] == "fake-model"
"""

from gateway.fake.answers import CUT, HOLD, Delay, FakeAnswer, FakeToolCall, PromptScores
from gateway.fake.faults import Fault, parse_fault
from gateway.fake.upstream import FakeUpstream, serve
from gateway.fake.wire import Received

__all__ = [
    "CUT",
    "HOLD",
    "Delay",
    "FakeAnswer",
    "FakeToolCall",
    "FakeUpstream",
    "Fault",
    "PromptScores",
    "Received",
    "parse_fault",
    "serve",
]
