"""Decisions of clients of one API on upstreams of another, through a gateway."""

from __future__ import annotations

from typing import Any

import openai
import orjson
import pytest

from gateway.fake import FakeAnswer, FakeUpstream, Received

KEY = "test-key"
INPUT = "I was charged twice, and I am furious about billing."
QUESTIONS: Any = [
    {"type": "predicate", "name": "refund", "instructions": "The customer was charged twice."},
    {
        "type": "choice",
        "name": "refund",
        "instructions": "Which team?",
        "choices": [{"value": "billing", "description": "payments"}, {"value": True}, {"value": "true"}],
    },
    {"type": "score", "instructions": "How upset?", "levels": [{"label": "calm"}, {"label": "furious"}]},
]
STATED: dict[str, Any] = {
    "model": "chat",
    "state": {"ticket": INPUT},
    "questions": {
        "refund": {"type": "noul", "instructions": "Charged twice?", "criteria": {"true": "twice", "false": None}},
        "team": {
            "type": "choice",
            "instructions": "Which team?",
            "criteria": {"billing": "payments", "delivery": None},
        },
        "tone": {"type": "score", "instructions": "How upset?", "criteria": ["calm", "furious"]},
    },
}


def of_format(config: dict[str, Any], format: str, kind: str = "openai") -> dict[str, Any]:
    """A config whose upstreams take decisions in this format."""
    for upstream in config["upstreams"].values():
        upstream |= {"kind": kind, "decisions": format}
    return config


async def test_openais_client_is_answered_by_a_server_of_system_one(start: Any, configured: Any) -> None:
    async with FakeUpstream() as jev:
        running = await start(of_format(configured(jev), "systemone"))
        async with openai.AsyncOpenAI(base_url=running.base_url, api_key=KEY, max_retries=0) as client:
            raw = await client.decisions.with_raw_response.create(
                model="chat", input=INPUT, questions=QUESTIONS, safety_identifier="user-1"
            )
    refund, team, tone = raw.parse().answers
    assert refund.type == "predicate"
    assert (refund.name, refund.probability > 0.5) == ("refund", True)
    assert team.type == "choice"
    assert team.choice == "billing"
    assert [entry.value for entry in team.probabilities] == ["billing", True, "true"], "typed, and in order"
    assert tone.type == "score"
    assert (tone.name, [entry.label for entry in tone.probabilities]) == (None, ["calm", "furious"])
    assert raw.headers["x-gateway-decision"] == "native"
    assert raw.headers["x-gateway-decision-loss"] == "safety_identifier"
    [call] = jev.calls
    assert (call.path, call.json["model"], call.json["state"]) == ("/v1/systemone", "model-u0", INPUT)
    assert list(call.json["questions"]) == ["q0", "q1", "q2"]
    [exchange] = await running.recorded()
    assert (exchange.api, exchange.usage.input_tokens > 0) == ("decisions", True)
    assert orjson.loads(exchange.request)["questions"] == QUESTIONS, "the client's own request is recorded"
    assert orjson.loads(exchange.response)["answers"][1]["choice"] == "billing"


async def test_a_client_of_system_one_is_answered_by_openais_server(start: Any, configured: Any) -> None:
    async with FakeUpstream() as server:
        running = await start(of_format(configured(server), "openai"))
        reply = await running.client.post("/systemone", json=STATED)
    assert reply.status_code == 200, reply.text
    answers = reply.json()["answers"]
    assert list(answers) == ["refund", "team", "tone"]
    assert set(answers["refund"]) == {"type", "noul"}
    assert answers["team"]["choice"] == "billing"
    assert answers["tone"]["legend"] == {"0": "calm", "1": "furious"}
    assert reply.headers["x-gateway-decision-loss"] == "criteria"
    assert server.calls[0].path == "/v1/decisions"
    assert "True means: twice" in server.calls[0].json["questions"][0]["instructions"]


async def test_a_refused_question_is_omitted_for_clients_of_system_one(start: Any, configured: Any) -> None:
    def refuses(received: Received) -> FakeAnswer:
        answers = [{"type": "refusal", "name": None}, {"type": "predicate", "name": None, "probability": 0.25}]
        return FakeAnswer(orjson.dumps({"model": "m", "answers": answers, "usage": {"input_tokens": 9}}))

    noul = {"type": "noul", "instructions": "Is it?"}
    async with FakeUpstream() as server:
        server.replies(refuses)
        running = await start(of_format(configured(server), "openai"))
        reply = await running.client.post("/systemone", json={**STATED, "questions": {"a": noul, "b": noul}})
    assert reply.status_code == 200, reply.text
    assert reply.json()["answers"] == {"b": {"type": "noul", "noul": 0.25}}
    assert reply.json()["x_refused"] == ["a"]


async def test_too_many_questions_are_asked_in_several_requests(start: Any, configured: Any) -> None:
    """vLLM takes 64. The client gets one answer, the record has one usage, and the target one success."""
    asked = [{"type": "predicate", "name": f"n{i}", "instructions": f"word{i}"} for i in range(150)]
    body = {"model": "chat", "input": "word3 word149", "questions": asked}
    async with FakeUpstream() as engine:
        running = await start(of_format(configured(engine), "systemone", "vllm"))
        reply = await running.client.post("/decisions", json=body)
        assert reply.status_code == 200, reply.text
        assert [len(call.json["questions"]) for call in engine.calls] == [64, 64, 22]
        answers = reply.json()["answers"]
        assert [answer["name"] for answer in answers] == [f"n{i}" for i in range(150)]
        likely = [answer["name"] for answer in answers if answer["probability"] > 0.9]
        assert likely == ["n3", "n149"]
        assert reply.headers["x-gateway-attempts"] == "1"
        [exchange] = await running.recorded()
        assert exchange.usage.input_tokens == reply.json()["usage"]["input_tokens"] == 9, "of three requests, 3 each"


async def test_a_part_that_fails_fails_the_whole_attempt(start: Any, configured: Any) -> None:
    asked = [{"type": "predicate", "instructions": f"word{i}"} for i in range(100)]
    async with FakeUpstream() as engine, FakeUpstream() as other:
        count = 0

        def second_fails(received: Received) -> FakeAnswer:
            nonlocal count
            count += 1
            if count > 1:
                return FakeAnswer(b'{"error":{"message":"busy"}}', status=503)
            keys = received.json["questions"]
            answers = {key: {"type": "noul", "noul": 0.5} for key in keys}
            return FakeAnswer(orjson.dumps({"model": "m", "answers": answers}))

        engine.replies(second_fails)
        config = of_format(configured(engine, other), "systemone", "vllm")
        running = await start(config)
        reply = await running.client.post("/decisions", json={"model": "chat", "input": "x", "questions": asked})
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-gateway-upstream"] == "u1"
        assert len(reply.json()["answers"]) == 100


async def test_too_many_options_go_to_a_target_that_takes_them(start: Any, configured: Any) -> None:
    choices = [{"value": f"v{i}"} for i in range(30)]
    body = {"model": "chat", "input": "v7", "questions": [{"type": "choice", "instructions": "?", "choices": choices}]}
    async with FakeUpstream() as vllm, FakeUpstream() as jev:
        config = of_format(configured(vllm, jev), "systemone", "vllm")
        config["upstreams"]["u1"]["kind"] = "openai"
        running = await start(config)
        reply = await running.client.post("/decisions", json=body)
        assert reply.status_code == 200, reply.text
        assert (reply.headers["x-gateway-upstream"], reply.json()["answers"][0]["choice"]) == ("u1", "v7")
        assert vllm.calls == []
        alone = await start(of_format(configured(vllm), "systemone", "vllm"))
        reply = await alone.client.post("/decisions", json=body)
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "too_many_options"
        assert "at most 26" in reply.json()["error"]["message"]
        assert vllm.calls == []


@pytest.mark.parametrize(
    "answers",
    [
        {"q0": {"type": "noul", "noul": 1.2}},
        {"q0": {"type": "noul", "noul": "0.4"}},
        {"q0": {"type": "noul", "noul": 0.4}, "q9": {"type": "noul", "noul": 0.4}},
        [],
    ],
)
async def test_an_answer_that_cannot_be_used_is_no_number(start: Any, configured: Any, answers: Any) -> None:
    body = {"model": "chat", "input": "x", "questions": QUESTIONS[:1]}
    async with FakeUpstream() as jev:
        jev.replies(lambda received: FakeAnswer(orjson.dumps({"model": "m", "answers": answers})))
        running = await start(of_format(configured(jev), "systemone"))
        reply = await running.client.post("/decisions", json=body)
    assert reply.status_code == 502, reply.text


async def test_an_upstreams_error_has_the_clients_shape(start: Any, configured: Any) -> None:
    body = {"model": "chat", "input": "x", "questions": QUESTIONS[:1]}
    async with FakeUpstream() as jev, FakeUpstream() as server:
        detail = [{"loc": ["body", "state"], "msg": "the state is too long", "type": "too_long"}]
        jev.replies(lambda received: FakeAnswer(orjson.dumps({"detail": detail}), status=422))
        running = await start(of_format(configured(jev), "systemone"))
        reply = await running.client.post("/decisions", json=body)
        assert reply.status_code == 400
        assert reply.json()["error"]["message"] == "the state is too long"
        server.replies(lambda received: FakeAnswer(b'{"error":{"message":"too long","code":"x"}}', status=413))
        running = await start(of_format(configured(server), "openai"))
        reply = await running.client.post("/systemone", json=STATED)
        assert (reply.status_code, reply.json()) == (413, {"detail": "too long"})


async def test_a_request_that_the_client_got_wrong_is_refused_by_name(start: Any, configured: Any) -> None:
    body = {"model": "chat", "input": "x", "questions": [{"type": "choice", "instructions": "?", "choices": []}]}
    async with FakeUpstream() as jev:
        running = await start(of_format(configured(jev), "systemone"))
        reply = await running.client.post("/decisions", json=body)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "questions[0].choices")
        assert jev.calls == []


async def test_a_state_that_is_nested_too_deeply_is_a_clear_error(start: Any, configured: Any) -> None:
    head = b'{"model": "chat", "questions": {"a": {"type": "noul", "instructions": "?"}}, "state": '
    body = head + b"[" * 400 + b"]" * 400 + b"}"
    async with FakeUpstream() as server:
        running = await start(of_format(configured(server), "openai"))
        reply = await running.client.post("/systemone", content=body, headers={"content-type": "application/json"})
        assert reply.status_code == 400, reply.text
        assert "nested too deeply" in reply.json()["detail"][0]["msg"]
        assert server.calls == []


async def test_clients_of_both_apis_are_answered_by_sglangs_own_form(start: Any, configured: Any) -> None:
    def sglang(received: Received) -> FakeAnswer:
        [question] = received.json["questions"]
        answer = {"type": "yes_no", "probabilities": {"yes": 0.75, "no": 0.25}, "label_mass": 0.9}
        usage = {"prompt_tokens": 12}
        return FakeAnswer(orjson.dumps({"model": "m", "answers": {question["id"]: answer}, "usage": usage}))

    noul = {"refund": {"type": "noul", "instructions": "Is it?"}}
    async with FakeUpstream() as engine:
        engine.replies(sglang)
        running = await start(of_format(configured(engine), "sglang", "sglang"))
        body = {"model": "chat", "input": "x", "questions": QUESTIONS[:1]}
        ours = await running.client.post("/decisions", json=body)
        theirs = await running.client.post("/systemone", json={**STATED, "questions": noul})
        assert (ours.status_code, theirs.status_code) == (200, 200), ours.text + theirs.text
        assert ours.json()["answers"][0]["probability"] == theirs.json()["answers"]["refund"]["noul"] == 0.75
        assert ours.json()["usage"]["input_tokens"] == 12
        assert [call.path for call in engine.calls] == ["/v1/decisions"] * 2
        assert engine.calls[0].json["questions"][0]["question"] == QUESTIONS[0]["instructions"]
