"""Routes in force: the leaf of a call, conversations that are kept and forgotten, leaves that are taken back."""

from __future__ import annotations

from dataclasses import replace

import orjson
from fixtures.learned_routes import ROUTE, a_route

from gateway.config.routes import ConfiguredRoute
from gateway.config.upstreams import TargetRef
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.request.parse import read_object
from gateway.proxy.routing.learned_routes import ServedRoute

CODE, PLAIN = "Write a Python function.", "What should I cook?"


def served(most_conversations: int = 100) -> ServedRoute:
    route = a_route()
    refs = [TargetRef.model_validate(each.section) for each in (route.control, route.moved)]
    return ServedRoute(ConfiguredRoute(route, *refs), most_conversations)


def a_call(text: str, conversation: str | None = None, caller: str = "web") -> Call:
    body = orjson.dumps({"model": "chat", "messages": [{"role": "user", "content": text}]})
    members, fields = read_object(body)
    return Call(
        "id", 0.0, 0.0, Caller(caller), "chat", b"POST", b"/chat/completions", "chat", False, body, fields,
        conversation=conversation, members=members,
    )  # fmt: skip


def test_one_object_represents_a_leaf() -> None:
    route = served()
    first, second = (route.choose(a_call(PLAIN)) for _ in range(2))
    assert first is second
    assert (first.label, first.moved, first.target) == (f"{ROUTE}/0", True, route.moved)
    assert route.choose(a_call(CODE)).target == route.control


def test_conversations_of_two_callers_are_two() -> None:
    route = served()
    assert route.choose(a_call(PLAIN, "1", "web")).moved
    assert not route.choose(a_call(CODE, "1", "mail")).moved
    assert route.choose(a_call(CODE, "1", "web")).moved


def test_the_oldest_conversation_is_forgotten() -> None:
    route = served(most_conversations=2)
    for name in ("a", "b", "c"):
        route.choose(a_call(PLAIN, name))
    assert not route.choose(a_call(CODE, "a")).moved
    assert route.choose(a_call(CODE, "c")).moved


def test_a_leaf_that_was_taken_back_goes_to_the_control() -> None:
    route = served()
    assert route.choose(a_call(PLAIN, "a")).moved
    route.take_back(frozenset({0}))
    assert not route.choose(a_call(PLAIN)).moved
    assert not route.choose(a_call(PLAIN, "a")).moved, "its conversations as well"
    assert route.choose(a_call(PLAIN)).label == f"{ROUTE}/0"
    route.take_back(frozenset())
    assert route.choose(a_call(PLAIN)).moved


def test_an_upload_or_another_api_is_unlike() -> None:
    route = served()
    assert route.choose(replace(a_call(PLAIN), api="embeddings")).label == f"{ROUTE}/unlike"


def test_a_config_continues_where_the_previous_one_ended() -> None:
    before, after = served(), served()
    before.choose(a_call(PLAIN, "a"))
    before.take_back(frozenset({1}))
    before.choose(a_call(PLAIN, "b"))
    after.keep(before)
    assert after.returned == {1}
    assert after.choose(a_call(CODE, "b")).moved
