"""Clients of the chat, Responses and Messages APIs, answered by a decision model: real clients over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Literal

import anthropic
import openai
import orjson
import pytest
from fixtures.chat_engines import chat_answer
from pydantic import BaseModel, Field

from gateway.core.exchange import DECLINED
from gateway.fake import FakeAnswer, FakeUpstream, Received

KEY = "test-key"
TEXT = "I was charged twice."


class Tone(Enum):
    """A member of a class, which pydantic writes as a reference."""

    CALM = "calm"
    FURIOUS = "furious"


class Ticket(BaseModel):
    """Answers of the application, as its own parser reads them."""

    team: Literal["billing", "shipping", "other"] = Field(description="Which team?")
    refund: bool
    urgency: int = Field(ge=1, le=5)
    tone: Tone


RIGHT = Ticket(team="billing", refund=True, urgency=4, tone=Tone.FURIOUS)
SCHEMA = {**Ticket.model_json_schema(), "additionalProperties": False}
FORMAT = {"type": "json_schema", "json_schema": {"name": "ticket", "strict": True, "schema": SCHEMA}}
ANSWERS: list[dict[str, Any]] = [
    {"type": "choice", "name": "team", "choice": "billing", "confidence": 0.9, "probabilities": [
        {"value": "billing", "probability": 0.9}, {"value": "shipping", "probability": 0.06},
        {"value": "other", "probability": 0.04}]},
    {"type": "predicate", "name": "refund", "probability": 0.93},
    {"type": "score", "name": "urgency", "score": 3, "confidence": 0.7, "probabilities": [
        {"value": n, "label": str(n + 1), "probability": p} for n, p in enumerate([0, 0, 0.1, 0.8, 0.1])]},
    {"type": "choice", "name": "tone", "choice": "furious", "confidence": 0.5, "probabilities": [
        {"value": "calm", "probability": 0.25}, {"value": "furious", "probability": 0.75}]},
]  # fmt: skip
USAGE = {"input_tokens": 90, "input_tokens_details": {"cached_tokens": 10}, "output_tokens": 0, "total_tokens": 90}


def decides(received: Received) -> FakeAnswer:
    assert received.path == "/v1/decisions"
    return FakeAnswer(orjson.dumps({"model": "decider-1", "answers": ANSWERS, "usage": USAGE}))


def refuses(received: Received) -> FakeAnswer:
    answers = [*ANSWERS[:3], {"type": "refusal", "name": "tone"}]
    return FakeAnswer(orjson.dumps({"model": "decider-1", "answers": answers, "usage": USAGE}))


DECIDER = {"upstream": "u1", "model": "decider", "as": "decision"}
CONTROL = {"upstream": "u0", "model": "model-u0"}


@pytest.fixture
async def facade(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> Any:
    """A gateway that asks `decider` first, by its owner's word, and then the model that answered before."""
    upstream.says('{"team": "other"}')
    second.replies(decides)
    targets = [{**DECIDER, "facade": "unproved"}]
    config = configured(upstream, second, chat={"targets": targets, "fallback": [CONTROL]})
    return await start(config)


def openai_client(gateway: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0)


async def test_openais_parser_reads_a_chat(facade: Any, upstream: FakeUpstream, second: FakeUpstream) -> None:
    async with openai_client(facade) as client:
        raw = await client.chat.completions.with_raw_response.parse(
            model="chat", messages=[{"role": "system", "content": "Sort tickets."}, {"role": "user", "content": TEXT}],
            response_format=Ticket,
        )  # fmt: skip
    completion = raw.parse()
    [choice] = completion.choices
    assert choice.message.parsed == RIGHT
    assert (choice.finish_reason, completion.object, completion.model) == ("stop", "chat.completion", "decider-1")
    usage = completion.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (90, 0, 90)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 10
    assert raw.headers["x-gateway-decision"] == "native"
    shown = orjson.loads(raw.headers["x-gateway-decision-probabilities"])
    assert shown["team"] == {"billing": 0.9, "shipping": 0.06, "other": 0.04}
    assert shown["refund"] == {"true": 0.93, "false": 0.07}
    assert raw.headers["content-type"] == "application/json"
    asked = second.received[0].json
    assert asked["model"] == "decider"
    assert [question["type"] for question in asked["questions"]] == ["choice", "predicate", "score", "choice"]
    assert asked["input"] == [{"role": "developer", "content": "Sort tickets."}, {"role": "user", "content": TEXT}]
    assert upstream.received == []


async def test_openais_parser_reads_a_streamed_chat(facade: Any) -> None:
    asked: Any = {"model": "chat", "messages": [{"role": "user", "content": TEXT}], "response_format": Ticket}
    async with (
        openai_client(facade) as client,
        client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream,
    ):
        kinds = [event.type async for event in stream]
        completion: Any = await stream.get_final_completion()
    assert "content.done" in kinds
    assert completion.choices[0].message.parsed == RIGHT
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 90


async def test_a_stream_has_usage_only_where_it_was_asked_for(facade: Any) -> None:
    async with facade.stream(TEXT, response_format=FORMAT) as reply:
        body = await reply.aread()
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["x-gateway-decision"] == "native"
    chunks = [orjson.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    assert body.endswith(b"data: [DONE]\n\n")
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "stop"]
    assert not any("usage" in chunk for chunk in chunks)


@pytest.mark.parametrize("streamed", [False, True])
async def test_openais_parser_reads_a_response(facade: Any, streamed: bool) -> None:
    async with openai_client(facade) as client:
        if streamed:
            async with client.responses.stream(model="chat", input=TEXT, text_format=Ticket, store=False) as stream:
                kinds = [event.type async for event in stream]
                response = await stream.get_final_response()
            assert kinds[0] == "response.created"
            assert kinds[-1] == "response.completed"
        else:
            response = await client.responses.parse(model="chat", input=TEXT, text_format=Ticket, store=False)
    assert response.output_parsed == RIGHT
    assert (response.status, response.store) == ("completed", False)
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.input_tokens_details.cached_tokens) == (90, 10)


@pytest.mark.parametrize("streamed", [False, True])
async def test_anthropics_parser_reads_a_message(facade: Any, streamed: bool) -> None:
    async with anthropic.AsyncAnthropic(
        base_url=facade.base_url.removesuffix("/v1"), api_key=KEY, max_retries=0
    ) as client:
        messages: Any = [{"role": "user", "content": TEXT}]
        if streamed:
            async with client.messages.stream(
                model="chat", max_tokens=200, messages=messages, output_format=Ticket
            ) as stream:
                message: Any = await stream.get_final_message()
        else:
            message = await client.messages.parse(model="chat", max_tokens=200, messages=messages, output_format=Ticket)
    assert message.parsed_output == RIGHT
    assert (message.stop_reason, message.role) == ("end_turn", "assistant")
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (80, 10)


async def test_a_record_has_the_clients_request_and_the_probabilities(facade: Any) -> None:
    reply = await facade.chat(TEXT, response_format=FORMAT)
    [served] = await facade.recorded(1)
    assert served.response == reply.content
    assert orjson.loads(served.request)["messages"] == [{"role": "user", "content": TEXT}]
    assert (served.api, served.target.label, served.usage.input_tokens) == ("chat", "decider[decision]", 90)
    stated = orjson.loads(served.decision)
    assert stated["reading"] == "native"
    assert stated["probabilities"]["refund"] == pytest.approx([0.93, 0.07])


@pytest.mark.parametrize("members", [
    {"response_format": {"type": "text"}}, {"response_format": FORMAT, "n": 2},
    {"response_format": FORMAT, "logprobs": True},
    {"response_format": FORMAT, "tools": [{"type": "function", "function": {"name": "f"}}]},
])  # fmt: skip
async def test_another_request_goes_to_the_control(facade: Any, second: FakeUpstream, members: dict[str, Any]) -> None:
    reply = await facade.chat(TEXT, **members)
    assert reply.json()["choices"][0]["message"]["content"] == '{"team": "other"}'
    assert "x-gateway-decision" not in reply.headers
    assert second.received == [], "no part of it was translated"
    assert await facade.metric("gateway_attempts_total", result="ineligible") == 1


async def test_the_control_answers_what_the_model_refuses(facade: Any, second: FakeUpstream) -> None:
    second.replies(refuses)
    reply = await facade.chat(TEXT, response_format=FORMAT)
    assert reply.json()["choices"][0]["message"]["content"] == '{"team": "other"}'
    [served] = await facade.recorded(1)
    assert [attempt.failure for attempt in served.attempts] == [DECLINED, None]
    assert served.attempts[0].usage.input_tokens == 90, "it is paid for"
    assert served.decision is None
    assert not any(state.breaker.open for state in facade.gateway.router.target_states)


@pytest.mark.parametrize("status", [400, 404, 413, 422, 500, 501])
async def test_the_control_answers_after_any_error(facade: Any, second: FakeUpstream, status: int) -> None:
    error = orjson.dumps({"error": {"message": "no", "code": "invalid_value"}})
    second.replies(lambda received: FakeAnswer(error, status=status))
    reply = await facade.chat(TEXT, response_format=FORMAT)
    assert reply.status_code == 200
    assert reply.headers["x-gateway-upstream"] == "u0"


@pytest.mark.parametrize("answers", [ANSWERS[:3], [{**ANSWERS[0], "probabilities": []}, *ANSWERS[1:]], {}])
async def test_an_answer_that_cannot_be_used_is_a_failure(facade: Any, second: FakeUpstream, answers: Any) -> None:
    second.replies(lambda received: FakeAnswer(orjson.dumps({"model": "d", "answers": answers})))
    reply = await facade.chat(TEXT, response_format=FORMAT)
    assert reply.headers["x-gateway-upstream"] == "u0"
    assert await facade.metric("gateway_attempts_total", result="error") >= 1


async def test_a_schema_with_each_call_is_refused_after_the_first(facade: Any, second: FakeUpstream) -> None:
    """Only members of the caller's own choice differ, so that no two of its answers could be compared."""
    second.replies(
        lambda received: FakeAnswer(
            orjson.dumps({"model": "d", "answers": [{"type": "predicate", "name": None, "probability": 0.9}]})
        )
    )
    upstreams = []
    for n in range(40):
        schema = {"type": "object", "properties": {f"m{n}": {"type": "boolean"}}}
        reply = await facade.chat(TEXT, response_format={"type": "json_schema", "json_schema": {"schema": schema}})
        upstreams.append(reply.headers["x-gateway-upstream"])
    assert upstreams == ["u1"] * 32 + ["u0"] * 8


async def test_decisions_answer_nobody_before_an_experiment_ships(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> None:
    second.replies(decides)
    gateway = await start(configured(upstream, second, chat={"targets": [DECIDER], "fallback": [CONTROL]}))
    reply = await gateway.chat(TEXT, response_format=FORMAT)
    assert reply.headers["x-gateway-upstream"] == "u0"
    assert second.received == []


PLANTED = {
    "- billing": [("billing", 0.6), ("shipping", 0.1), ("other", 0.2)],
    "- yes": [("yes", 0.6), ("no", 0.2)], "- furious": [("calm", 0.2), ("furious", 0.6)],
    "- 4": [("1", 0.05), ("2", 0.05), ("3", 0.1), ("4", 0.6), ("5", 0.1)],
}  # fmt: skip


def reads(received: Received) -> FakeAnswer:
    """The answer of a chat engine to one question, which it knows by an option."""
    assert received.path == "/v1/chat/completions"
    asked = received.json["messages"][-2]["content"]
    return chat_answer(next(tokens for option, tokens in PLANTED.items() if option in asked))


@pytest.fixture
async def emulated(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, second: FakeUpstream
) -> Any:
    """The same with a chat engine in the decision model's place, of which decisions are read."""
    upstream.says('{"team": "other"}')
    second.replies(reads)
    target = {**DECIDER, "facade": "unproved", "reading": "slot", "probed": "2026-12-03", "headers": {"x-arm": "read"}}
    config = configured(upstream, second, chat={"targets": [target], "fallback": [CONTROL]})
    config["upstreams"]["u1"]["kind"] = "vllm"
    return await start(config)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_chat_engine_is_read_once_for_each_member(
    emulated: Any, upstream: FakeUpstream, second: FakeUpstream, streamed: bool
) -> None:
    """All reads are one attempt of one call, with one record and one settlement."""
    async with openai_client(emulated) as client:
        asked: Any = {"model": "chat", "messages": [{"role": "user", "content": TEXT}], "response_format": Ticket}
        if streamed:
            async with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
                completion: Any = await stream.get_final_completion()
        else:
            raw = await client.chat.completions.with_raw_response.parse(**asked)
            assert raw.headers["x-gateway-decision"] == "slot"
            shown = orjson.loads(raw.headers["x-gateway-decision-probabilities"])
            assert shown["refund"] == {"true": 0.75, "false": 0.25}
            completion = raw.parse()
    assert completion.choices[0].message.parsed == RIGHT
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (160, 4)
    assert len(second.calls) == 4
    for received in second.calls:
        assert TEXT in received.json["messages"][-2]["content"]
        assert (received.json["model"], received.json["max_tokens"], received.json["logprobs"]) == ("decider", 1, True)
        assert "stream" not in received.json
        assert dict(received.headers)["x-arm"] == "read"
    assert upstream.received == []
    [served] = await emulated.recorded(1)
    assert (served.target.variant.split(",")[:2], served.outcome) == (["decision", "reading=slot"], "ok")
    assert (len(served.attempts), served.usage.input_tokens, served.usage.output_tokens) == (1, 160, 4)
    assert orjson.loads(served.request)["messages"] == [{"role": "user", "content": TEXT}]
    stated = orjson.loads(served.decision)
    assert stated["reading"] == "slot"
    assert stated["probabilities"]["refund"] == pytest.approx([0.75, 0.25])
    assert await emulated.metric("gateway_requests_total", alias="chat") == 1
    assert await emulated.metric("gateway_attempts_total", result="ok") == 1


async def test_other_apis_are_answered_by_reads_too(emulated: Any, second: FakeUpstream) -> None:
    async with openai_client(emulated) as client:
        response = await client.responses.parse(model="chat", input=TEXT, text_format=Ticket, store=False)
    assert response.output_parsed == RIGHT
    async with anthropic.AsyncAnthropic(
        base_url=emulated.base_url.removesuffix("/v1"), api_key=KEY, max_retries=0
    ) as messages:
        message: Any = await messages.messages.parse(
            model="chat", max_tokens=200, messages=[{"role": "user", "content": TEXT}], output_format=Ticket
        )
    assert message.parsed_output == RIGHT
    assert len(second.calls) == 8


def _without_mass(received: Received) -> FakeAnswer:
    return chat_answer([("perhaps", 0.9)])


def _without_logprobs(received: Received) -> FakeAnswer:
    choice = {"index": 0, "message": {"role": "assistant", "content": "billing"}, "finish_reason": "stop"}
    return FakeAnswer(orjson.dumps({"id": "c", "model": "m", "choices": [choice]}))


def _lacking(received: Received) -> FakeAnswer:
    return FakeAnswer(b'{"detail":"Not Found"}', status=404)


@pytest.mark.parametrize(("engine", "reads_of_two_calls"), [(_without_mass, 8), (_without_logprobs, 8), (_lacking, 2)])
async def test_the_control_answers_what_cannot_be_read(
    emulated: Any, second: FakeUpstream, engine: Any, reads_of_two_calls: int
) -> None:
    second.replies(engine)
    for _ in range(2):
        reply = await emulated.chat(TEXT, response_format=FORMAT)
        assert reply.status_code == 200
        assert reply.json()["choices"][0]["message"]["content"] == '{"team": "other"}'
        assert "x-gateway-decision" not in reply.headers
    assert len(second.calls) == reads_of_two_calls


async def test_options_that_begin_alike_are_not_read(emulated: Any, second: FakeUpstream) -> None:
    members = {"team": {"type": "string", "enum": ["bill", "billing"]}}
    schema = {"type": "object", "properties": members, "required": ["team"], "additionalProperties": False}
    asked = {"type": "json_schema", "json_schema": {"name": "ticket", "strict": True, "schema": schema}}
    reply = await emulated.chat(TEXT, response_format=asked)
    assert reply.json()["choices"][0]["message"]["content"] == '{"team": "other"}'
    assert second.calls == []
    assert await emulated.metric("gateway_attempts_total", result="ineligible") == 1
