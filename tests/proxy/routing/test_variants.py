"""A target's variant is spliced into the bytes of its requests: served, shadowed, repeated, retried, translated."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from fixtures.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.upstreams import TargetRef
from gateway.core.errors import BadRequest
from gateway.core.exchange import Target
from gateway.fake import FakeUpstream, Fault
from gateway.proxy.relay.continuation import prefilled
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.request.json_members import read_members
from gateway.proxy.routing.variants import (
    NOTHING_VARIED,
    TargetVariant,
    instructions,
    varied_parts,
    without_instructions,
)

PLAIN = {"upstream": "u0", "model": "m"}
BRIEF = {**PLAIN, "set": {"temperature": 0, "stop": None}, "system": "Be brief.", "headers": {"X-Trial": "b"}}
ODD = (  # spaces, an escape, an odd number and a member that nobody knows
    b'{ "model" : "chat", "temperature" : 0.70, "messages": [ {"role":"user", "content":"h\\u0069"} ], '
    b'"stop":["x"], "odd": {"a": 1.0} }'
)
Make = Callable[..., Any]


@pytest.fixture
async def make(start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream) -> Make:
    """A gateway of one upstream. targets, fallback: of the alias; experiment: of it."""

    async def go(
        targets: list[dict[str, Any]], experiment: dict[str, Any] | None = None, kind: str = "openai", **chat: Any
    ) -> Any:
        config = configured(upstream, chat={"targets": targets, **chat})
        config["upstreams"]["u0"]["kind"] = kind
        if experiment is not None:
            config["experiments"] = {"swap": {"model": "chat", "control": targets[0], **experiment}}
        return await start(config)

    return go


async def post(gateway: Any, body: bytes, path: str = "/chat/completions") -> Any:
    reply = await gateway.client.post(path, content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 200, reply.text
    return reply


async def test_parameters_and_instructions_are_spliced_into_the_bytes(make: Make, upstream: FakeUpstream) -> None:
    gateway = await make([BRIEF])
    reply = await post(gateway, ODD)
    sent = upstream.received[0]
    assert sent.body == (
        b'{ "model" : "m", "temperature" : 0, "messages": [{"role":"system","content":"Be brief."},'
        b'{"role":"user", "content":"h\\u0069"} ], "odd": {"a": 1.0} }'
    )
    assert sent.header("x-trial") == "b"
    assert reply.headers["x-gateway-model"] == "m"
    assert reply.headers["x-gateway-variant"].startswith("stop=null,temperature=0,system=#")
    [exchange] = await gateway.recorded(1)
    assert exchange.request == sent.body
    assert exchange.target.variant == reply.headers["x-gateway-variant"]


async def test_a_target_without_a_variant_sends_the_bytes_of_the_client(make: Make, upstream: FakeUpstream) -> None:
    gateway = await make([PLAIN])
    reply = await post(gateway, ODD)
    assert upstream.received[0].body == ODD.replace(b'"chat"', b'"m"')
    assert "x-gateway-variant" not in reply.headers


async def test_two_variants_of_one_model_are_two_targets(make: Make, upstream: FakeUpstream) -> None:
    gateway = await make([PLAIN], fallback=[BRIEF], retries={"attempts": 1})
    upstream.then(Fault.status(500))
    reply = await post(gateway, ODD)
    assert reply.headers["x-gateway-variant"]
    first, second = (one.json for one in upstream.received)
    assert (first["temperature"], second["temperature"]) == (0.7, 0)
    [exchange] = await gateway.recorded(1)
    assert [a.target.variant != "" for a in exchange.attempts] == [False, True]
    name = str(exchange.target)
    assert name == f"u0/m[{exchange.target.variant}]"
    assert name in gateway.gateway.router.target_state(exchange.target).name
    forced = await gateway.client.post(
        "/chat/completions", content=ODD, headers={"x-gateway-target": "u0/m", "content-type": "application/json"}
    )
    assert "x-gateway-variant" not in forced.headers
    seen = await gateway.tally(lambda t: {c.target for c in t.seen} == {name, "u0/m"})
    assert seen


async def test_each_arm_of_a_shadow_is_sent_its_own_variant(make: Make, upstream: FakeUpstream) -> None:
    control = {**PLAIN, "set": {"max_tokens": 100}}
    experiment = {"candidate": BRIEF, "shadow": 1.0, "repeat_control": 1.0, "aa": "proof"}
    gateway = await make([control], experiment)
    body = {"messages": [{"role": "system", "content": "Old."}, {"role": "user", "content": "hi"}], "max_tokens": 9}
    await post(gateway, orjson.dumps({"model": "chat", "temperature": 1, **body}))
    exchanges = {e.role: e for e in await gateway.recorded(3)}
    sent = {role: orjson.loads(e.request) for role, e in exchanges.items()}
    assert [sent[role]["max_tokens"] for role in ("served", "control", "shadow")] == [100, 100, 9]
    assert [sent[role]["temperature"] for role in ("served", "control", "shadow")] == [1, 1, 0]
    assert [sent[role]["messages"][0]["content"] for role in ("served", "shadow")] == ["Old.", "Be brief."]
    assert {e.request_digest for e in exchanges.values()} == {exchanges["served"].request_digest}
    assert exchanges["served"].request_digest is not None
    assert exchanges["control"].target == exchanges["served"].target == Target("u0", "m", "max_tokens=100")


async def test_the_arms_of_a_split_are_variants(make: Make, upstream: FakeUpstream) -> None:
    gateway = await make([PLAIN], {"candidate": BRIEF, "mode": "split", "split": 1.0, "headers": "all"})
    reply = await post(gateway, ODD)
    assert (reply.headers["x-gateway-arm"], upstream.received[0].json["temperature"]) == ("candidate", 0)
    [exchange] = await gateway.recorded(1)
    assert (exchange.arm, exchange.target.variant) == ("candidate", reply.headers["x-gateway-variant"])


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/completions", {"prompt": "x", "max_tokens": 3}, {"prompt": "x", "max_tokens": 50}),
        (
            "/chat/completions",
            {"messages": [{"role": "developer", "content": "D"}], "max_completion_tokens": 3},
            {"messages": [{"role": "developer", "content": "S"}], "max_tokens": 50},
        ),
        ("/responses", {"input": "x"}, {"input": "x", "instructions": "S", "max_output_tokens": 50}),
    ],
)
async def test_each_api_has_its_own_names(
    make: Make, upstream: FakeUpstream, path: str, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    gateway = await make([{**PLAIN, "set": {"max_tokens": 50}, "system": "S"}])
    await post(gateway, orjson.dumps({"model": "chat", **body}), path)
    assert upstream.received[0].json == {"model": "m", **expected}


async def test_a_variant_of_anthropics_clients_is_translated(make: Make, upstream: FakeUpstream) -> None:
    gateway = await make([{**PLAIN, "set": {"max_completion_tokens": 50, "stop": "x"}, "system": "S"}])
    body = {"model": "chat", "max_tokens": 9, "system": "old", "messages": [{"role": "user", "content": "hi"}]}
    await post(gateway, orjson.dumps(body), "/messages")
    sent = upstream.received[0].json
    assert sent["messages"][0] == {"role": "system", "content": "S"}
    assert (sent["max_completion_tokens"], sent["stop"]) == (50, ["x"])


async def test_a_variant_reaches_an_anthropic_upstream(make: Make, upstream: FakeUpstream) -> None:
    gateway = await make([{**PLAIN, "set": {"temperature": 0, "max_tokens": 50}, "system": "S"}], kind="anthropic")
    await post(gateway, ODD.replace(b"odd", b"top_k").replace(b'{"a": 1.0}', b"5"))
    sent = upstream.received[0].json
    assert (sent["temperature"], sent["max_tokens"]) == (0, 50)
    assert sent["system"] == [{"type": "text", "text": "S"}]


async def test_other_apis_pass_without_the_variant(make: Make, upstream: FakeUpstream) -> None:
    gateway = await make([BRIEF])
    await post(gateway, b'{"model":"chat","input":"x"}', "/embeddings")
    assert upstream.received[0].body == b'{"model":"m","input":"x"}'
    assert upstream.received[0].header("x-trial") == "b"


async def test_another_prompt_in_the_config_ends_the_plan_with_the_old_one(
    make: Make, start: Any, upstream: FakeUpstream
) -> None:
    """A plan names a variant by its digest: a gateway whose config has another one must not run it."""
    experiment = {"candidate": BRIEF, "mode": "split", "split": 1.0}
    gateway = await make([PLAIN], experiment)
    plan = gateway.gateway.router.experiments.plans["swap"]
    other = await make([PLAIN], {**experiment, "candidate": {**BRIEF, "system": "Be long."}})
    assert gateway.gateway.router.experiments.knows(plan)
    assert not other.gateway.router.experiments.knows(plan)
    assert other.gateway.router.experiments.plans["swap"].hash != plan.hash


def test_arms_differ_only_in_what_variants_change() -> None:
    one = TargetVariant(TargetRef.model_validate({**PLAIN, "set": {"stop": None}}))
    two = TargetVariant(TargetRef.model_validate(BRIEF))
    assert varied_parts([None, None]) == NOTHING_VARIED
    assert (varied_parts([one, None]).names, varied_parts([one]).instructions) == ({"stop", "stop_sequences"}, False)
    assert varied_parts([one, two]).instructions


NEW = b'"Be \\"brief\\"."'
TURN = st.fixed_dictionaries({
    "role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": st.text(max_size=8),
})  # fmt: skip


def told(body: bytes, api: Any) -> bytes:
    """The body with the new system message."""
    call = Call("id", 0.0, 0.0, Caller("web"), api, b"POST", b"/x", "chat", False, body)
    return call.body_with(instructions(call, NEW))


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        (b'[ {"role":"user", "content":"hi"} ]', b'[{"role":"system","content":N},{"role":"user", "content":"hi"} ]'),
        (
            b'[{"content": "old [", "role": "system"} , {"role":"system","content":"b"},\n{"role":"user"}]',
            b'[{"role":"system","content":N},{"role":"user"}]',
        ),
        (
            b'[{"role":"developer","content":"old"},{"role":"user"},{"role":"system","content":"later"}]',
            b'[{"role":"developer","content":N},{"role":"user"},{"role":"system","content":"later"}]',
        ),
        (b'[{"role":"system","content":"only"}]', b'[{"role":"system","content":N}]'),
        (b"[]", b'[{"role":"system","content":N}]'),
        (b'"no list"', b'"no list"'),
    ],
)
def test_the_leading_system_messages_of_a_chat_are_replaced(turns: bytes, expected: bytes) -> None:
    body = b'{ "a" : 1.0, "messages":%b, "z":"\\u0041" }'
    assert told(body % turns, "chat") == body % expected.replace(b"N", NEW)


def test_a_prefill_keeps_its_last_message_behind_new_instructions() -> None:
    body = b'{"messages":[{"role":"system","content":"old"},{"role":"user","content":"hi"}]}'
    call = Call("id", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/x", "chat", False, body)
    varied = TargetVariant(TargetRef(**BRIEF)).applied(prefilled(call, "Hel"))
    assert [turn["content"] for turn in json.loads(varied.body_with({}))["messages"]] == ["Be brief.", "hi", "Hel"]


def test_messages_and_responses_have_a_place_of_their_own() -> None:
    assert told(b'{"system": [{"type": "text"}], "x":1.0}', "messages") == b'{"system": %b, "x":1.0}' % NEW
    assert told(b'{"x":1.0}', "count_tokens") == b'{"x":1.0,"system":%b}' % NEW
    asked = b'{"input": [{"role":"developer","content":"old"}, {"role":"user"}],"instructions":"old"}'
    assert told(asked, "responses") == b'{"input": [{"role":"user"}],"instructions":%b}' % NEW
    assert told(b'{"input":"hi"}', "responses") == b'{"input":"hi","instructions":%b}' % NEW


@pytest.mark.parametrize("api", ["completions", "embeddings"])
def test_an_api_without_a_system_message_stays_as_it_is(api: str) -> None:
    assert told(b'{"prompt": "x"}', api) == b'{"prompt": "x"}'


@settings(max_examples=examples(40))
@given(st.lists(TURN, max_size=5), st.sampled_from([None, 1]))
def test_with_and_without_agree_for_any_turns(turns: list[dict[str, Any]], indent: int | None) -> None:
    body = json.dumps({"messages": turns, "x": 1}, indent=indent).encode()
    read = json.loads(told(body, "chat"))["messages"]
    rest = turns[next((i for i, t in enumerate(turns) if t["role"] in ("user", "assistant")), len(turns)) :]
    assert read[0]["content"] == 'Be "brief".'
    assert read[1:] == rest
    assert json.loads(b"".join(without_instructions(json.dumps(turns, indent=indent).encode()))) == rest


def test_no_conversation_is_too_odd_for_the_system_message() -> None:
    """A client cannot have it left out by what it adds to its own messages."""
    odd = b'{"role":"user","content":"hi","x":%b}'
    assert NEW in told(b'{"messages":[%b]}' % (odd % (b"9" * 5000)), "chat")

    def at_depth(frames: int, call: Call) -> bytes:
        return call.body_with(instructions(call, NEW)) if frames == 0 else at_depth(frames - 1, call)

    answers = set[str]()
    for levels in range(700, 1000, 10):
        body = b'{"messages":[%b]}' % (odd % (b"[" * levels + b"]" * levels))
        call = Call("id", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/x", "chat", False, body)
        try:
            call.members = read_members(body)
        except ValueError:
            continue  # refused as it is read
        try:
            answers.add("told" if NEW in at_depth(100, call) else "not told")
        except BadRequest as error:
            answers.add(error.message)
    refused = "an item of the conversation is nested too deeply"
    # Before 3.12, the parser's depth and Python's frames share one limit: what is read once may be refused later.
    assert answers == ({"told", refused} if sys.version_info < (3, 12) else {"told"})
