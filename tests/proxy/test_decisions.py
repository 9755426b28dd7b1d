"""Decisions by OpenAI's own client and by System One's format: native upstreams, refusals, errors, and what is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import orjson
import pytest

from gateway.fake import FakeAnswer, FakeUpstream, Received

KEY = "test-key"
USAGE = {
    "input_tokens": 90,
    "input_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 90,
}
QUESTIONS: Any = [
    {"type": "predicate", "name": "refund", "instructions": "The customer asks for money back."},
    {
        "type": "choice",
        "instructions": "Which team?",
        "choices": [{"value": "billing", "description": "payments"}, {"value": True}],
    },
    {
        "type": "score",
        "name": "tone",
        "instructions": "How upset?",
        "levels": [{"label": "calm"}, {"label": "furious"}],
    },
    {"type": "predicate", "name": "tone", "instructions": "Refuse this."},
]
ANSWERS = [
    {"type": "predicate", "name": "refund", "probability": 0.93},
    {
        "type": "choice",
        "name": None,
        "choice": True,
        "confidence": 0.9,
        "probabilities": [{"value": "billing", "probability": 0.05}, {"value": True, "probability": 0.95}],
    },
    {
        "type": "score",
        "name": "tone",
        "score": 0.8,
        "confidence": 0.4,
        "probabilities": [
            {"value": 0, "label": "calm", "probability": 0.2},
            {"value": 1, "label": "furious", "probability": 0.8},
        ],
    },
    {"type": "refusal", "name": "tone"},
]
STATE = {
    "model": "chat",
    "state": {"ticket": "I was charged twice."},
    "questions": {"refund": {"type": "noul", "instructions": "Is a refund requested?"}},
}
NOUL = {"model": "jev-1.13.0", "answers": {"refund": {"type": "noul", "noul": 0.93}}, "usage": {"input_tokens": 90}}


def decides(received: Received) -> FakeAnswer:
    """A server with both APIs. Its answers have members that nobody knows, which must arrive."""
    body = received.json
    if received.path == "/v1/decisions":
        answer = {"model": body["model"], "answers": ANSWERS, "usage": USAGE, "x_region": "eu"}
    elif received.path == "/v1/systemone":
        answer = NOUL
    else:
        return FakeAnswer(b'{"detail":"Not Found"}', status=404)
    return FakeAnswer(json.dumps(answer, indent=1).encode())


def fails(status: int, body: Any) -> Callable[[Received], FakeAnswer]:
    return lambda received: FakeAnswer(orjson.dumps(body), status=status)


@pytest.fixture
async def client(gateway: Any, upstream: FakeUpstream) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client, connected to a gateway whose upstream decides."""
    upstream.replies(decides)
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=2) as client:
        yield client


async def test_openais_client_gets_every_kind_of_answer(client: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    raw = await client.decisions.with_raw_response.create(model="chat", input="Charged twice.", questions=QUESTIONS)
    decision = raw.parse()
    refund, team, tone, refused = decision.answers
    assert refund.type == "predicate"
    assert refund.probability == 0.93
    assert team.type == "choice"
    assert team.choice is True, "a boolean stays one"
    assert [entry.value for entry in team.probabilities] == ["billing", True]
    assert team.name is None
    assert tone.type == "score"
    assert (tone.score, tone.probabilities[1].label) == (0.8, "furious")
    assert refused.type == "refusal"
    assert decision.usage.input_tokens == 90
    assert decision.model_extra == {"x_region": "eu"}
    assert raw.headers["x-gateway-decision"] == "native"
    assert raw.headers["x-gateway-upstream"] == "u0"
    assert raw.http_response.content == decides(upstream.calls[0]).body, "byte for byte"


async def test_openais_blocking_client_is_answered(client: openai.AsyncOpenAI, gateway: Any) -> None:
    def ask() -> int:
        with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as blocking:
            return len(blocking.decisions.create(model="chat", input="Twice.", questions=QUESTIONS).answers)

    assert await asyncio.to_thread(ask) == 4


async def test_a_conversation_with_pictures_passes_as_it_is(client: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    turns: Any = [
        {"type": "message", "role": "developer", "content": "Be strict."},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "See:"},
                {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"},
            ],
        },
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
    ]
    await client.decisions.create(
        model="chat", input=turns, questions=QUESTIONS, safety_identifier="user-1", extra_body={"beta": [1]}
    )
    sent = upstream.calls[0].json
    assert sent == {
        "input": turns,
        "questions": QUESTIONS,
        "model": "model-u0",
        "safety_identifier": "user-1",
        "beta": [1],
    }


async def test_the_body_says_the_format_and_not_the_path(gateway: Any, start: Any, configured: Any) -> None:
    async with FakeUpstream() as jev:
        jev.replies(decides)
        config = configured(jev)
        config["upstreams"]["u0"]["decisions"] = "systemone"
        running = await start(config)
        for path in ("/decisions", "/systemone"):
            reply = await running.client.post(path, json=STATE)
            assert reply.status_code == 200, reply.text
            assert reply.json() == NOUL
            assert reply.headers["x-gateway-decision"] == "native"
        assert [call.path for call in jev.calls] == ["/v1/systemone"] * 2
        assert jev.calls[0].json == {**STATE, "model": "model-u0"}


async def test_a_decision_is_recorded_with_its_cost(client: openai.AsyncOpenAI, gateway: Any) -> None:
    await client.decisions.create(model="chat", input="Charged twice.", questions=QUESTIONS)
    [exchange] = await gateway.recorded()
    assert (exchange.api, exchange.alias, exchange.outcome) == ("decisions", "chat", "ok")
    assert exchange.usage is not None
    assert (exchange.usage.input_tokens, exchange.usage.cached_input_tokens) == (90, 10)
    assert json.loads(exchange.request)["input"] == "Charged twice."
    assert json.loads(exchange.response)["answers"] == ANSWERS


WRONG_BODIES: list[tuple[dict[str, Any], str, str]] = [
    ({"input": "x"}, "questions", "missing required parameter: questions"),
    ({"questions": QUESTIONS}, "input", "missing required parameter: input"),
    ({"questions": {"a": {}}}, "state", "missing required parameter: state"),
    ({"input": "x", "state": "y", "questions": QUESTIONS}, "state", "not both"),
    ({"input": "x", "questions": {"a": {}}}, "questions", "must be an array in OpenAI's format"),
    ({"state": "x", "questions": QUESTIONS}, "questions", "must be an object in System One's format"),
    ({"input": "x", "questions": []}, "questions", "must not be empty"),
    ({"input": "x", "questions": 7}, "questions", "not a number"),
    (
        {"questions": [{"id": "a", "type": "yes_no", "question": "Is it?"}], "input": "x"},
        "questions",
        "SGLang's own form",
    ),
]


@pytest.mark.parametrize(("body", "param", "words"), WRONG_BODIES)
async def test_a_body_of_no_format_is_a_clear_error(
    gateway: Any, upstream: FakeUpstream, body: Any, param: str, words: str
) -> None:
    reply = await gateway.client.post("/decisions", json={"model": "chat", **body})
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["param"] == param
    assert words in error["message"]
    assert upstream.calls == []
    other = await gateway.client.post("/systemone", json={"model": "chat", **body})
    assert other.status_code == 400
    assert other.json()["detail"][0]["loc"] == ["body", param]
    assert words in other.json()["detail"][0]["msg"]


@pytest.mark.parametrize(
    "reply",
    [
        fails(501, {"error": {"message": "no strategy", "type": "NotImplementedError", "code": 501}}),
        fails(404, {"detail": "Not Found"}),
        fails(404, {"error": {"message": "Invalid URL (POST /v1/decisions)", "type": "invalid_request_error"}}),
    ],
)
async def test_a_call_that_no_target_can_answer_is_not_repeated(
    client: openai.AsyncOpenAI, upstream: FakeUpstream, reply: Callable[[Received], FakeAnswer]
) -> None:
    """OpenAI's client repeats requests that end in HTTP 501; neither it nor the gateway must ask twice."""
    upstream.replies(reply)
    for _ in range(2):
        with pytest.raises(openai.BadRequestError) as error:
            await client.decisions.create(model="chat", input="x", questions=QUESTIONS)
        assert (error.value.code, error.value.param) == ("decisions_not_supported", "model")
    assert len(upstream.calls) == 1, "for ten minutes it is not asked again"


async def test_a_target_without_decisions_is_passed_over(start: Any, configured: Any) -> None:
    """A 501 moves the call to the next target, and does not open the breaker of a target that answers chats."""
    async with FakeUpstream() as cannot, FakeUpstream() as can:
        cannot.replies(fails(501, {"error": {"message": "unsupported", "code": 501}}))
        can.replies(decides)
        running = await start(configured(cannot, can))
        for _ in range(12):
            reply = await running.client.post("/decisions", json=_openai("x"))
            assert reply.status_code == 200, reply.text
            assert reply.headers["x-gateway-upstream"] == "u1"
        assert len(cannot.calls) == 1
        assert not any(state.breaker.open for state in running.gateway.router.target_states)


async def test_an_upstream_without_decisions_is_not_asked(start: Any, configured: Any, upstream: FakeUpstream) -> None:
    config = configured(upstream)
    config["upstreams"]["u0"]["kind"] = "groq"
    running = await start(config)
    reply = await running.client.post("/systemone", json=STATE)
    assert (reply.status_code, reply.headers["x-should-retry"]) == (400, "false")
    assert "answers decisions" in reply.json()["detail"][0]["msg"]
    assert upstream.calls == []


async def test_an_upstreams_422_is_a_bad_request_for_openais_clients(
    client: openai.AsyncOpenAI, upstream: FakeUpstream
) -> None:
    upstream.replies(fails(422, {"error": {"message": "no such type", "type": "invalid_request_error"}}))
    with pytest.raises(openai.BadRequestError, match="no such type"):
        await client.decisions.create(model="chat", input="x", questions=QUESTIONS)


async def test_errors_of_keys_models_and_rates_reach_the_client(
    client: openai.AsyncOpenAI, upstream: FakeUpstream
) -> None:
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="wrong").decisions.create(model="chat", input="x", questions=QUESTIONS)
    with pytest.raises(openai.NotFoundError):
        await client.decisions.create(model="nobody", input="x", questions=QUESTIONS)
    upstream.replies(fails(429, {"error": {"message": "slow down", "type": "rate_limit"}}))
    with pytest.raises(openai.RateLimitError):
        await client.with_options(max_retries=0).decisions.create(model="chat", input="x", questions=QUESTIONS)


async def test_system_one_clients_read_errors_in_their_own_shape(gateway: Any) -> None:
    unknown = await gateway.client.post("/systemone", json={**STATE, "model": "nobody"})
    assert unknown.status_code == 404
    assert isinstance(unknown.json()["detail"], str)
    denied = await gateway.client.post("/systemone", json=STATE, headers={"authorization": "Bearer wrong"})
    assert denied.status_code == 401
    assert isinstance(denied.json()["detail"], str)


async def test_each_question_reserves_the_state_again(start: Any, configured: Any, upstream: FakeUpstream) -> None:
    """vLLM bills the state once for each question: 400 bytes of it, asked four times, do not fit into 300 tokens."""
    upstream.replies(decides)
    config = configured(upstream)
    config["keys"][0]["limits"] = {"tokens_per_minute": 300}
    running = await start(config)
    one = await running.client.post("/decisions", json=_openai("x" * 400, QUESTIONS[:1]))
    assert one.status_code == 200, one.text
    config["keys"][0]["limits"] = {"tokens_per_minute": 300}
    other = await start(config)
    four = await other.client.post("/decisions", json=_openai("x" * 400))
    assert four.status_code == 429, four.text


async def test_a_guard_reads_the_state_the_questions_and_the_answers(
    start: Any, configured: Any, upstream: FakeUpstream
) -> None:
    upstream.replies(decides)
    team = [{"name": "team", "regex": "billing"}]
    guards = {
        "asked": {"scorer": "patterns", "patterns": [{"name": "place", "regex": "Zanzibar"}], "on": "request"},
        "said": {"scorer": "patterns", "patterns": team, "on": "answer"},
    }
    config = configured(upstream, guards={name: {**guard, "action": "block"} for name, guard in guards.items()})
    running = await start(config)
    asked = [{**QUESTIONS[0], "instructions": "Is it about Zanzibar?"}]
    for body in (_openai("Zanzibar"), _openai("x", asked)):
        reply = await running.client.post("/decisions", json=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "content_filter")
    state = {**STATE, "state": {"ticket": "Zanzibar"}}
    reply = await running.client.post("/systemone", json=state)
    assert reply.status_code == 400
    assert isinstance(reply.json()["detail"], list)
    assert upstream.calls == []
    reply = await running.client.post("/decisions", json=_openai("x", QUESTIONS[:1]))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "content_filter")
    assert len(upstream.calls) == 1


def _openai(text: str, questions: Any = QUESTIONS) -> dict[str, Any]:
    return {"model": "chat", "input": text, "questions": questions}
