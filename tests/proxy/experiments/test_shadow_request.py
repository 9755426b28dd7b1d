"""Requests of shadows: repeated, compared by a digest, or for a likelihood; and requests that are never repeated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from gateway.core.exchange import Target
from gateway.core.likelihood import likelihood_from_json, tokens_from_json
from gateway.fake import FakeUpstream, Fault, PromptScores
from gateway.proxy.experiments.shadow_request import asked_again, has_effects, request_digest
from gateway.proxy.recording.redaction.redactor import LARGE
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.request.parse import read_object
from gateway.proxy.routing.variants import VariedParts

BODY = b'{"model":"chat", "seed" : 7,"temperature":0.70,"big":12345678901234567890,"messages":[{"role":"user"}]}'


def a_call(body: bytes = BODY, **changes: Any) -> Call:
    call = Call("id", 1.0, 1.0, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", False, body)
    return replace(call, fields=orjson.loads(body), **changes)


def a_place(priority: bool = False) -> Any:
    return SimpleNamespace(upstream=SimpleNamespace(config=SimpleNamespace(priority=priority)))


def test_only_the_seed_is_taken_out_of_the_bytes() -> None:
    again = asked_again(a_call(), a_place())
    sent = again.body_with({})
    assert b"seed" not in sent
    assert sent.replace(b" ", b"") == BODY.replace(b" ", b"").replace(b'"seed":7,', b"")
    assert "seed" not in again.fields
    assert again.id != "id"
    assert (again.received > 1.0, again.started != 1.0) == (True, True)


def test_no_cache_can_repeat_the_first_answer() -> None:
    call = a_call(headers=[(b"idempotency-key", b"once"), (b"accept", b"*/*")])
    assert asked_again(call, a_place()).headers == [
        (b"accept", b"*/*"), (b"cache-control", b"no-cache"), (b"pragma", b"no-cache"),
    ]  # fmt: skip


def test_a_shadow_has_the_lowest_priority() -> None:
    assert orjson.loads(asked_again(a_call(), a_place(priority=True)).body_with({}))["priority"] == 100
    high = a_call(b'{"model":"chat","priority":0}')
    assert orjson.loads(asked_again(high, a_place(priority=True)).body_with({}))["priority"] == 100
    assert orjson.loads(asked_again(high, a_place()).body_with({}))["priority"] == 0


@pytest.mark.parametrize(
    ("fields", "effects"),
    [
        ({}, False),
        ({"store": False}, False),
        ({"store": True}, True),
        ({"previous_response_id": "r1"}, True),
        ({"conversation": "c1"}, True),
        ({"background": True}, True),
        ({"plugins": [{"id": "web"}]}, True),
        ({"web_search_options": {}}, True),
        ({"tools": []}, False),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, False),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, False),
        ({"tools": [{"type": "web_search"}]}, True),
        ({"tools": [{"type": "function"}, {"type": "mcp"}]}, True),
        ({"tools": {"type": "function"}}, True),
        ({"tools": ["function"]}, True),
        ({"tools": None}, False),
    ],
    ids=str,
)
def test_a_request_with_side_effects_has_no_shadow(fields: dict[str, Any], effects: bool) -> None:
    assert has_effects(a_call(orjson.dumps(fields))) is effects
    assert has_effects(replace(a_call(orjson.dumps(fields)), fields=read_object(orjson.dumps(fields))[1])) is effects


@pytest.mark.parametrize(
    ("fields", "effects"),
    [({}, False), ({"store": True}, False), ({"previous_response_id": "r1"}, True), ({"conversation": "c1"}, True)],
    ids=str,
)
def test_a_response_is_not_stored_twice(fields: dict[str, Any], effects: bool) -> None:
    """A shadow's is never stored, so that asking for it does not keep the call from being shadowed."""
    call = replace(a_call(orjson.dumps({"model": "m", "input": "hi", **fields})), api="responses")
    assert has_effects(call) is effects
    assert orjson.loads(asked_again(call, a_place()).body_with({}))["store"] is False


TEXT = "Paris is the capital."
LIKELIHOOD: dict[str, Any] = {
    "model": "chat",
    "control": {"upstream": "u0", "model": "model-u0"},
    "candidate": {"upstream": "u1", "model": "new"},
    "mode": "likelihood",
    "shadow": 1.0,
    "repeat_control": 1.0,
    "gate": {"latency": False},
}
Make = Callable[..., Any]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """A double of vLLM that answers TEXT."""
    async with FakeUpstream(vllm=True, text=TEXT) as fake:
        yield fake


@pytest.fixture
async def second() -> AsyncIterator[FakeUpstream]:
    """A double of vLLM that gives one token another log-probability."""
    async with FakeUpstream(vllm=True) as fake:
        fake.scores = PromptScores(lambda place, text: -1.25 if text == " capital." else -0.25)
        yield fake


@pytest.fixture
async def make(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> Make:
    """A gateway that asks both upstreams for the likelihood of every answer. changes: of the experiment."""

    async def go(content: str = "full", **changes: Any) -> Any:
        experiments = {"same": {**LIKELIHOOD, **changes}}
        config = configured(upstream, second, chat={"fallback": []}, experiments=experiments, sampling={"rate": 0.0})
        for name in ("u0", "u1"):
            config["upstreams"][name]["kind"] = "vllm"
        config["keys"][0]["content"] = content
        return await start(config)

    return go


async def first_call(upstream: FakeUpstream) -> dict[str, Any]:
    """The first request for a likelihood; the list of models is asked before."""
    await upstream.until(lambda u: any(call.method == "POST" for call in u.calls))
    asked: dict[str, Any] = next(call.json for call in upstream.calls if call.method == "POST")
    return asked


async def by_arm(gateway: Any, n: int = 4) -> dict[str, Any]:
    return {e.arm: e for e in await gateway.recorded(n)}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_both_engines_score_the_served_answer(
    make: Make, upstream: FakeUpstream, second: FakeUpstream, stream: bool
) -> None:
    gateway = await make()
    reply = await gateway.chat("Where?", stream=stream, temperature=0.7, seed=3)
    arms = await by_arm(gateway)
    assert set(arms) == {"control", "candidate", "repeat", "repeat_again"}
    served = arms["control"]
    assert served.id == reply.headers["x-request-id"]
    assert set(served.asked) == {"candidate", "repeat", "repeat_again"}
    assert served.likelihood is None
    control, candidate, again = (
        likelihood_from_json(arms[arm].likelihood) for arm in ("repeat", "candidate", "repeat_again")
    )
    assert control == again
    assert (control.tokens, control.nats, control.top1) == (4, 1.0, 4)
    assert (candidate.tokens, candidate.nats, candidate.top1) == (4, 2.0, 3)
    assert control.ids == candidate.ids
    tokens = tokens_from_json(arms["candidate"].response)
    assert [(t.text, t.best) for t in tokens][-1] == (" capital.", " the")
    assert [arms[a].role for a in ("candidate", "repeat", "repeat_again")] == ["shadow", "control", "control"]
    assert [arms[a].target for a in ("candidate", "repeat_again")] == [Target("u1", "new"), Target("u0", "model-u0")]
    assert all(arms[a].pair == served.id for a in ("candidate", "repeat", "repeat_again"))
    assert not any(arms[a].stream for a in ("candidate", "repeat", "repeat_again"))


async def test_the_request_is_one_prefill_without_sampling_fields(make: Make, second: FakeUpstream) -> None:
    gateway = await make()
    await gateway.chat(
        "Where?", stream=True, stream_options={"include_usage": True}, temperature=0.7, top_p=0.9, seed=3, stop=["x"],
        max_tokens=64, logit_bias={"1": 2}, chat_template_kwargs={"enable_thinking": False},
    )  # fmt: skip
    asked = await first_call(second)
    assert asked == {
        "model": "new",
        "messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": TEXT}],
        "chat_template_kwargs": {"enable_thinking": False},
        "max_tokens": 1,
        "prompt_logprobs": 1,
        "add_generation_prompt": False,
        "continue_final_message": True,
        "return_token_ids": True,
    }


async def test_a_variant_changes_the_prompt_and_not_the_sampling(make: Make, second: FakeUpstream) -> None:
    candidate = {"upstream": "u1", "model": "new", "system": "Be brief.",
                 "set": {"temperature": 1.5, "max_tokens": 9, "reasoning_effort": "low"}}  # fmt: skip
    gateway = await make(candidate=candidate)
    await gateway.chat("Where?")
    asked = await first_call(second)
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (asked["reasoning_effort"], asked["max_tokens"]) == ("low", 1)
    assert "temperature" not in asked


async def test_another_tokenizer_has_another_digest(make: Make, second: FakeUpstream) -> None:
    second.scores = PromptScores(tokenize=list)
    gateway = await make()
    await gateway.chat("Where?")
    arms = await by_arm(gateway)
    control, candidate = (likelihood_from_json(arms[arm].likelihood) for arm in ("repeat", "candidate"))
    assert (control.tokens, candidate.tokens) == (4, len(TEXT))
    assert control.ids != candidate.ids


@pytest.mark.parametrize(
    ("scores", "fault", "why"),
    [
        (PromptScores(returned=False), None, "no_prompt_logprobs"),
        (PromptScores(), Fault.status(400), "rejected"),
    ],
)
async def test_an_engine_without_them_leaves_the_reason(
    make: Make, second: FakeUpstream, scores: PromptScores, fault: Any, why: str
) -> None:
    second.scores = scores
    second.always(fault)
    gateway = await make()
    await gateway.chat("Where?")
    arms = await by_arm(gateway)
    assert likelihood_from_json(arms["candidate"].likelihood).refused == why
    assert likelihood_from_json(arms["repeat"].likelihood).refused is None


IMAGE = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]
AUDIO = [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"n": 2}, "several_answers"),
        ({"messages": [{"role": "user", "content": IMAGE}]}, "images"),
        ({"messages": [{"role": "user", "content": AUDIO}]}, "audio"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "prefill"),
    ],
)
async def test_calls_that_do_not_fit_are_left_out_with_the_reason(
    make: Make, second: FakeUpstream, fields: dict[str, Any], why: str
) -> None:
    gateway = await make()
    await gateway.client.post(
        "/chat/completions", json={"model": "chat", "messages": [{"role": "user", "content": "x"}], **fields}
    )
    [served] = await gateway.recorded(1)
    assert (served.asked, served.not_asked) == ((), why)
    assert await gateway.metric("gateway_shadow_total", experiment="same", result=f"not_offered_{why}") == 1
    assert not second.calls


async def test_a_request_that_cannot_be_read_whole_is_left_out(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "y"}, "finish_reason": "stop"}
    upstream.answers(200, orjson.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}))
    gateway = await make()
    body = b'{"model":"chat","odd":["%b",1e999],"messages":[{"role":"user","content":"x"}]}' % (b"x" * 100_000)
    assert (await gateway.client.post("/chat/completions", content=body)).status_code == 200
    [served] = await gateway.recorded(1)
    assert (served.asked, served.not_asked) == ((), "not_chat")
    assert not second.calls


@pytest.mark.parametrize("answer", ["tool", "empty", "reasoning"])
async def test_answers_that_do_not_fit_are_left_out_with_the_reason(
    make: Make, upstream: FakeUpstream, second: FakeUpstream, answer: str
) -> None:
    if answer == "tool":
        upstream.tool_call("look", "{}")
    else:
        message = {
            "role": "assistant",
            "content": " " if answer == "empty" else "x",
            "reasoning": "so" * (answer != "empty"),
        }
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        upstream.answers(200, orjson.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}))
    gateway = await make()
    await gateway.chat("Where?")
    [served] = await gateway.recorded(1)
    assert served.not_asked == {"tool": "tool_calls", "empty": "no_text", "reasoning": "reasoning"}[answer]
    assert not second.calls


@pytest.mark.parametrize("content", ["redacted", "metadata"])
async def test_without_full_content_only_numbers_are_recorded(make: Make, content: str) -> None:
    gateway = await make(content)
    await gateway.chat("Where?")
    arms = await by_arm(gateway)
    candidate = arms["candidate"]
    assert likelihood_from_json(candidate.likelihood).nats == 2.0
    assert b"capital" not in candidate.response
    assert "capital" not in candidate.likelihood


KEY = b"k" * 16
DIGESTED = b'{"model": "a", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0.5}'


def digest(body: bytes) -> str | None:
    return request_digest(body, "openai", KEY)


@pytest.mark.parametrize(
    "other",
    [
        DIGESTED.replace(b'"a"', b'"b"'),
        DIGESTED.replace(b"{", b'{"seed": 7, ', 1),
        DIGESTED.replace(b"0.5}", b'0.5, "priority": 100}'),
        DIGESTED.replace(b"0.5}", b'0.5,"stream_options":{"include_usage":true}}'),
        DIGESTED.replace(b'"a", ', b'"a",\n '),
        DIGESTED.replace(b"0.5}", b'0.5, "store": false}'),
    ],
    ids=["model", "seed", "priority", "stream options", "space between members", "store"],
)
def test_members_that_must_differ_change_no_digest(other: bytes) -> None:
    assert other != DIGESTED
    assert digest(other) == digest(DIGESTED)


@pytest.mark.parametrize(
    "other",
    [
        DIGESTED.replace(b"Hello", b"hello"),
        DIGESTED.replace(b"0.5", b"0.50"),
        DIGESTED.replace(b', "temperature": 0.5', b""),
        DIGESTED.replace(b"0.5}", b'0.5, "top_p": 1}'),
    ],
    ids=["prompt", "spelling of a number", "a member less", "a member more"],
)
def test_any_other_byte_changes_the_digest(other: bytes) -> None:
    assert digest(other) != digest(DIGESTED)


VARIED = VariedParts(frozenset({"temperature"}), instructions=True)
TOLD = DIGESTED.replace(b"[{", b'[{"role":"system","content":"Be brief."},{')


@pytest.mark.parametrize(
    "other",
    [
        DIGESTED.replace(b"0.5", b"1"),
        DIGESTED.replace(b', "temperature": 0.5', b""),
        TOLD,
        TOLD.replace(b"},{", b'},{"role":"developer","content":"x"}, {', 1),
        DIGESTED.replace(b"{", b'{"system": "Be brief.", ', 1),
    ],
)
def test_members_that_variants_change_may_differ(other: bytes) -> None:
    assert request_digest(other, "openai", KEY, VARIED) == request_digest(DIGESTED, "openai", KEY, VARIED)
    assert digest(other) != digest(DIGESTED)


@pytest.mark.parametrize(
    "other",
    [
        DIGESTED.replace(b"Hello", b"hello"),
        TOLD.replace(b"Hello", b"hello"),
        DIGESTED.replace(b"0.5}", b'1,"top_p":1}'),
    ],
)
def test_everything_else_may_not(other: bytes) -> None:
    assert request_digest(other, "openai", KEY, VARIED) != request_digest(DIGESTED, "openai", KEY, VARIED)


def test_a_digest_names_the_format_and_hides_the_prompt() -> None:
    found = digest(DIGESTED)
    assert found is not None
    assert found.startswith("openai:")
    assert request_digest(DIGESTED, "azure", KEY) == found, "the same format"
    assert str(request_digest(DIGESTED, "anthropic", KEY)).startswith("anthropic:")
    assert str(digest(b'{"model": "a", "input": "Hello"}')).startswith("responses:"), "and of a chat it cannot be told"
    assert request_digest(DIGESTED, "openai", b"another") != found


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"a": ', b'{"a": "' + b"x" * LARGE + b'"}'])
def test_an_unreadable_body_has_no_digest(body: bytes) -> None:
    assert digest(body) is None
