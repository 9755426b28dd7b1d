"""The upstream of a call that continues a response or a conversation, and the ids that the client sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.core.errors import NotFound, StreamDown
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.routing.response_affinity import ResponseAffinity, conversation_of
from gateway.proxy.routing.response_ids import ResponseIds
from gateway.runtime.tasks import Tasks
from gateway.stream import Corridor

WEB, APP = Caller("web"), Caller("app")
UPSTREAMS = ("u0", "u1")


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    """Tasks that end with the test."""
    async with Tasks() as held:
        yield held


@pytest.fixture
def affinity(tasks: Tasks) -> ResponseAffinity:
    """The responses' upstreams, without a shared state."""
    return ResponseAffinity(None, tasks)


def a_call(caller: Caller = WEB, **fields: Any) -> Call:
    body = orjson.dumps({k: v for k, v in fields.items() if v is not ...})
    call = Call("id", 0.0, 0.0, caller, "responses", b"POST", b"/responses", "chat", False, body)
    return replace(call, fields=fields)


async def home(affinity: ResponseAffinity, call: Call) -> str | None:
    return (await affinity.prepare(call, UPSTREAMS))[1]


async def test_a_sealed_id_leads_to_its_upstream_under_its_own_name(affinity: ResponseAffinity) -> None:
    call = a_call(model="chat", previous_response_id=affinity.ids.seal("u1", "web", "resp_1"))
    asked, upstream = await affinity.prepare(call, UPSTREAMS)
    assert upstream == "u1"
    assert orjson.loads(asked.body_with({})) == asked.fields == {"model": "chat", "previous_response_id": "resp_1"}


async def test_responses_of_another_caller_do_not_exist(affinity: ResponseAffinity) -> None:
    sealed = affinity.ids.seal("u1", "web", "resp_1")
    for call in (a_call(APP, previous_response_id=sealed), a_call(WEB, previous_response_id="resp_1")):
        with pytest.raises(NotFound) as missing:
            await affinity.prepare(call, UPSTREAMS)
        assert missing.value.status == 404


async def test_a_conversation_stays_where_its_first_response_was_made(affinity: ResponseAffinity) -> None:
    affinity.learn(a_call(conversation={"id": "conv_1"}), "u1")
    assert await home(affinity, a_call(conversation="conv_1")) == "u1"
    assert await home(affinity, a_call(conversation="conv_2")) is None


async def test_nobody_claims_the_conversation_of_another(affinity: ResponseAffinity) -> None:
    affinity.learn(a_call(APP, conversation="conv_1"), "u0")
    assert await home(affinity, a_call(WEB, conversation="conv_1")) is None
    affinity.learn(a_call(WEB, conversation="conv_1"), "u1")
    assert await home(affinity, a_call(APP, conversation="conv_1")) == "u0"


@pytest.mark.parametrize("odd", [None, 5, "", [], {"a": 1}])
async def test_a_field_that_names_nothing_asks_for_no_home(affinity: ResponseAffinity, odd: Any) -> None:
    assert await home(affinity, a_call(conversation=odd)) is None
    assert conversation_of(a_call(conversation=odd)) is None


async def test_the_least_recently_used_name_is_forgotten_first(tasks: Tasks) -> None:
    affinity = ResponseAffinity(None, tasks, max_names=3)
    for n in (1, 2, 3):
        affinity.learn(a_call(conversation=f"c{n}"), "u")
    assert await home(affinity, a_call(conversation="c1")) == "u", "and is now the most recently used"
    affinity.learn(a_call(conversation="c4"), "u")
    assert await home(affinity, a_call(conversation="c2")) is None
    assert [await home(affinity, a_call(conversation=f"c{n}")) for n in (1, 3, 4)] == ["u", "u", "u"]


async def test_another_process_knows_it_and_the_server_learns_no_name(
    stream_url: str, stream_name: str, tasks: Tasks
) -> None:
    here, there = Corridor(stream_url, stream_name), Corridor(stream_url, stream_name)
    secret = await here.state.secret()
    assert secret == await there.state.secret()
    one = ResponseAffinity(here.state, tasks, ResponseIds(secret))
    other = ResponseAffinity(there.state, tasks, ResponseIds(await there.state.secret()))
    one.learn(a_call(conversation="Ada Lovelace"), "u1")
    digest = one.ids.conversation_digest("web", "Ada Lovelace")
    async with asyncio.timeout(60):
        while await here.state.recall(f"home:{digest}") is None:
            await asyncio.sleep(0.002)
    assert await here.state.recall("home:Ada Lovelace") is None
    assert await home(other, a_call(conversation="Ada Lovelace")) == "u1"
    assert await home(other, a_call(previous_response_id=one.ids.seal("u1", "web", "resp_1"))) == "u1"
    await here.aclose()
    await there.aclose()


class Silent:
    """A stream server that does not answer."""

    async def remember(self, name: str, value: str, keep_s: int) -> None:
        raise StreamDown("gone")

    async def recall(self, name: str) -> str | None:
        await asyncio.get_running_loop().create_future()
        return None

    async def recall_all(self, names: Sequence[str]) -> list[str | None]:
        return [await self.recall(name) for name in names]


async def test_a_silent_stream_server_does_not_hold_up_a_call(tasks: Tasks) -> None:
    affinity = ResponseAffinity(Silent(), tasks)
    async with asyncio.timeout(60):
        assert await home(affinity, a_call(conversation="c9")) is None


async def test_without_the_stream_server_this_process_remembers(stream_server: Any, tasks: Tasks) -> None:
    corridor = Corridor(stream_server.url, "gone")
    stream_server.kill()
    affinity = ResponseAffinity(corridor.state, tasks)
    affinity.learn(a_call(conversation="c1"), "u1")
    async with asyncio.timeout(60):
        while len(tasks):
            await asyncio.sleep(0.002)
    assert await home(affinity, a_call(conversation="c1")) == "u1"
    with pytest.raises(StreamDown):
        await corridor.state.secret()
    await corridor.aclose()
