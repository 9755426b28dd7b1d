"""The stage of calls that name state which an upstream keeps: where they go, and whose the state is."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.config.config import ResponsesConfig
from gateway.core.errors import NotFound
from gateway.proxy.relay.state import NOT_HELD, CallContext
from gateway.proxy.relay.stored_state import StoredState
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.request.endpoints import ENDPOINTS
from gateway.proxy.routing.response_affinity import ResponseAffinity
from gateway.proxy.types import DetachedClient
from gateway.runtime.tasks import Tasks

CONVERSATION = "conv_" + "a" * 24
UPSTREAMS = ("u0", "u1")
RESPONSES = ENDPOINTS[b"/responses"]


def a_call(caller: str, **fields: Any) -> Call:
    body = orjson.dumps({"model": "chat", "input": "hi", **fields})
    fields = orjson.loads(body)
    return Call("id", 0.0, 0.0, Caller(caller), "responses", b"POST", b"/responses", "chat", False, body, fields)


@pytest.fixture
async def affinity() -> Any:
    """The responses' upstreams, without a shared state."""
    async with Tasks() as tasks:
        yield ResponseAffinity(None, tasks)


async def answered(affinity: ResponseAffinity, call: Call, context: CallContext) -> StoredState:
    stored = StoredState(affinity, ResponsesConfig(), RESPONSES)
    prepared, _ = await stored.prepare(call, DetachedClient(), context, UPSTREAMS)
    stored.learn(prepared, context)
    return stored


class AnsweringTarget:
    """A target state, as far as its upstream's name goes."""

    def __init__(self, upstream: str) -> None:
        self.target = type("Named", (), {"upstream": upstream})


def context_of(upstream: str, status: int = 200) -> CallContext:
    target: Any = AnsweringTarget(upstream)
    return CallContext(NOT_HELD, target_state=target, status=status)


async def test_a_conversation_goes_to_the_upstream_that_has_it(affinity: Any) -> None:
    first = await answered(affinity, a_call("a", conversation=CONVERSATION), context_of("u1"))
    second = await answered(affinity, a_call("a", conversation=CONVERSATION), context_of("u1"))
    assert (first.home, second.home) == (None, "u1")


async def test_only_an_answered_call_makes_its_caller_the_owner(affinity: Any) -> None:
    await answered(affinity, a_call("a", conversation=CONVERSATION), context_of("u0", status=500))
    await answered(affinity, a_call("b", conversation=CONVERSATION), context_of("u0"))
    with pytest.raises(NotFound):
        await answered(affinity, a_call("a", conversation=CONVERSATION), context_of("u0"))


async def test_a_call_without_stored_state_may_go_anywhere(affinity: Any) -> None:
    assert (await answered(affinity, a_call("a"), context_of("u0"))).home is None
