"""Which upstream made a response: known in this process, shared through the stream server, and the caller's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.errors import NotFound, StreamDown
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.routing.response_affinity import ResponseAffinity, conversation_of
from gateway.runtime.tasks import Tasks
from gateway.stream import Corridor

WEB, APP = Caller("web"), Caller("app")


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    async with Tasks() as held:
        yield held


@pytest.fixture
def affinity(tasks: Tasks) -> ResponseAffinity:
    return ResponseAffinity(None, tasks)


def a_call(caller: Caller = WEB, **fields: Any) -> Call:
    call = Call("id", 0.0, 0.0, caller, "responses", b"POST", b"/responses", "chat", False, b"{}")
    return replace(call, fields=fields)


ANSWERS = [
    b'{"id":"resp_1","object":"response"}',
    b'{ "object": "response", "id" : "resp_1" }',
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1","output":[]}}\n\n',
]


@pytest.mark.parametrize("answer", ANSWERS, ids=["plain", "spaced", "streamed"])
async def test_a_response_is_known_from_the_first_bytes_of_its_answer(
    affinity: ResponseAffinity, answer: bytes
) -> None:
    affinity.learn(a_call(), "u1", answer)
    assert await affinity.home("resp_1", WEB) == "u1"
    assert await affinity.of_call(a_call(previous_response_id="resp_1")) == "u1"


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"id":"chatcmpl-1"}', b'{"id":5}', b" " * 9000 + ANSWERS[0]])
async def test_an_answer_without_a_response_id_teaches_nothing(tasks: Tasks, answer: bytes) -> None:
    store = CountingStore()
    affinity = ResponseAffinity(store, tasks)
    affinity.learn(a_call(), "u1", answer)
    await asyncio.sleep(0)
    assert not store.texts
    for name in ("resp_1", "chatcmpl-1", "5", ""):
        assert await affinity.home(name, WEB) is None


class CountingStore:
    """A HomeStore in memory, which counts its reads."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.reads = 0

    async def remember(self, name: str, value: str, keep_s: int) -> None:
        self.texts[name] = value

    async def recall(self, name: str) -> str | None:
        self.reads += 1
        return self.texts.get(name)


async def test_a_name_is_read_from_the_store_only_once(tasks: Tasks) -> None:
    store = CountingStore()
    store.texts["home:resp_1"] = "web\nu1"
    affinity = ResponseAffinity(store, tasks)
    assert [await affinity.home("resp_1", WEB) for _ in range(3)] == ["u1"] * 3
    assert store.reads == 1


async def test_a_conversation_stays_where_its_first_response_was_made(affinity: ResponseAffinity) -> None:
    affinity.learn(a_call(conversation={"id": "conv_1"}), "u1", ANSWERS[0])
    assert await affinity.of_call(a_call(conversation="conv_1")) == "u1"
    assert await affinity.of_call(a_call(conversation="conv_2")) is None


async def test_what_is_anothers_does_not_exist(affinity: ResponseAffinity) -> None:
    affinity.learn(a_call(WEB), "u1", ANSWERS[0])
    for name in ("previous_response_id", "conversation"):
        affinity.learn(a_call(WEB, conversation="resp_1"), "u1", b"")
        with pytest.raises(NotFound) as missing:
            await affinity.of_call(a_call(APP, **{name: "resp_1"}))
        assert missing.value.status == 404
    assert await affinity.home("resp_1", WEB) == "u1"


@pytest.mark.parametrize("odd", [None, 5, "", [], {"a": 1}, ...])
async def test_a_field_that_names_nothing_asks_for_no_home(affinity: ResponseAffinity, odd: Any) -> None:
    assert await affinity.of_call(a_call(previous_response_id=odd, conversation=odd)) is None
    assert conversation_of({"conversation": odd}) is None


async def test_the_least_recently_used_name_is_forgotten_first(tasks: Tasks) -> None:
    affinity = ResponseAffinity(None, tasks, max_names=3)
    for n in (1, 2, 3):
        affinity.learn(a_call(), "u", b'{"id":"resp_%d"}' % n)
    assert await affinity.home("resp_1", WEB) == "u", "and is now the most recently used"
    affinity.learn(a_call(), "u", b'{"id":"resp_4"}')
    assert await affinity.home("resp_2", WEB) is None
    assert [await affinity.home(f"resp_{n}", WEB) for n in (1, 3, 4)] == ["u", "u", "u"]


async def test_another_process_knows_it_through_the_stream_server(
    stream_url: str, stream_name: str, tasks: Tasks
) -> None:
    here, there = Corridor(stream_url, stream_name), Corridor(stream_url, stream_name)
    one, other = ResponseAffinity(here.state, tasks), ResponseAffinity(there.state, tasks)
    one.learn(a_call(), "u1", ANSWERS[0])
    async with asyncio.timeout(60):
        while await here.state.recall("home:resp_1") is None:
            await asyncio.sleep(0.002)
    assert await other.of_call(a_call(previous_response_id="resp_1")) == "u1"
    with pytest.raises(NotFound):
        await ResponseAffinity(there.state, tasks).home("resp_1", APP)
    await here.aclose()
    await there.aclose()


class Silent:
    """A stream server that does not answer."""

    async def remember(self, name: str, value: str, keep_s: int) -> None:
        raise StreamDown("gone")

    async def recall(self, name: str) -> str | None:
        await asyncio.get_running_loop().create_future()
        return None


async def test_a_silent_stream_server_does_not_hold_up_a_call(tasks: Tasks) -> None:
    affinity = ResponseAffinity(Silent(), tasks)
    async with asyncio.timeout(60):
        assert await affinity.home("resp_9", WEB) is None


async def test_without_the_stream_server_this_process_remembers(stream_server: Any, tasks: Tasks) -> None:
    corridor = Corridor(stream_server.url, "gone")
    stream_server.kill()
    affinity = ResponseAffinity(corridor.state, tasks)
    affinity.learn(a_call(), "u1", ANSWERS[0])
    async with asyncio.timeout(60):
        while len(tasks):
            await asyncio.sleep(0.002)
    assert await affinity.home("resp_1", WEB) == "u1"
    async with asyncio.timeout(60):
        assert await affinity.home("resp_2", WEB) is None
    await corridor.aclose()
