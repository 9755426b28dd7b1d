"""Decisions read from a chat engine, over sockets: one request for each question, and one call in all that is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import orjson
import pytest
from fixtures.chat_engines import chat_answer

from gateway.config.loading import parse
from gateway.core.errors import ConfigError
from gateway.fake import FakeAnswer, FakeUpstream, Received

KEY = "test-key"
PLANTED = {"money back": (("yes", 0.6), ("No", 0.2)), "Which team": (("bill", 0.1), (" other", 0.3)),
           "How upset": (("calm", 0.1), ("annoyed", 0.2), ("fur", 0.1))}  # fmt: skip
QUESTIONS: Any = [
    {"type": "predicate", "name": "refund", "instructions": "The customer asks for money back."},
    {"type": "choice", "instructions": "Which team?", "choices": [{"value": "billing"}, {"value": "other"}]},
    {
        "type": "score",
        "name": "tone",
        "instructions": "How upset?",
        "levels": [{"label": "calm"}, {"label": "annoyed"}, {"label": "furious"}],
    },
]
BODY: dict[str, Any] = {"model": "chat", "input": "I was charged twice.", "questions": QUESTIONS}
NOUL = {"type": "noul", "instructions": "The customer asks for money back."}
STATE: dict[str, Any] = {"model": "chat", "state": {"ticket": "Twice."}, "questions": {"refund": NOUL}}

Reply = Callable[[Received], FakeAnswer]


def planted(received: Received) -> FakeAnswer:
    asked = received.json["messages"][-2]["content"]
    return chat_answer(next(tokens for text, tokens in PLANTED.items() if text in asked))


def without_logprobs(received: Received) -> FakeAnswer:
    choice = {"index": 0, "message": {"role": "assistant", "content": '{"answer": "other"}'}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 40, "completion_tokens": 5, "total_tokens": 45}
    return FakeAnswer(orjson.dumps({"id": "c", "model": "m", "choices": [choice], "usage": usage}))


def thinks(received: Received) -> FakeAnswer:
    return chat_answer((("<think>", 0.9), ("yes", 0.04), ("no", 0.03)))


def constrained(received: Received) -> FakeAnswer:
    return chat_answer((("yes", 0.7), ("n", 0.2), ("y", 0.1)), others=())


@pytest.fixture
def emulating(configured: Any) -> Callable[..., dict[str, Any]]:
    """A config whose alias reads decisions from the chats of a vLLM server."""

    def make(*upstreams: FakeUpstream, reading: str = "slot", **decisions: Any) -> dict[str, Any]:
        config: dict[str, Any] = configured(*upstreams)
        for upstream in config["upstreams"].values():
            upstream["kind"] = "vllm"
        config["models"]["chat"]["decisions"] = {"reading": reading, "probed": "2026-12-03", **decisions}
        return config

    return make


async def test_each_question_is_one_read_and_all_are_one_call(
    start: Any, emulating: Any, upstream: FakeUpstream
) -> None:
    upstream.replies(planted)
    running = await start(emulating(upstream))
    async with openai.AsyncOpenAI(base_url=running.base_url, api_key=KEY, max_retries=0) as client:
        raw = await client.decisions.with_raw_response.create(
            model="chat", input=BODY["input"], questions=QUESTIONS, safety_identifier="user-1"
        )
    assert raw.headers["x-gateway-decision"] == "slot"
    refund, team, tone = raw.parse().answers
    assert refund.type == "predicate"
    assert refund.probability == pytest.approx(0.75)
    assert team.type == "choice"
    assert (team.choice, team.probabilities[1].probability) == ("other", pytest.approx(0.75))
    assert tone.type == "score"
    assert tone.score == pytest.approx(1.0)
    assert raw.parse().usage.input_tokens == 120
    assert raw.parse().model_extra == {"x_reading": "slot"}
    assert [call.path for call in upstream.calls] == ["/v1/chat/completions"] * 3
    for call in upstream.calls:
        assert call.json["messages"][-1] == {"role": "assistant", "content": '{"answer": "'}
        assert (call.json["model"], call.json["max_tokens"], call.json["logprobs"]) == ("model-u0", 1, True)
        assert call.json["continue_final_message"] is True
    [exchange] = await running.recorded()
    assert (exchange.api, exchange.alias, exchange.outcome, len(exchange.attempts)) == ("decisions", "chat", "ok", 1)
    assert exchange.usage is not None
    assert (exchange.usage.input_tokens, exchange.usage.output_tokens) == (120, 3)
    assert json.loads(exchange.request)["input"] == BODY["input"]
    assert json.loads(exchange.response)["x_reading"] == "slot"
    assert await running.metric("gateway_requests_total", alias="chat") == 1


async def test_metrics_have_outcomes_label_mass_and_flips(start: Any, emulating: Any, upstream: FakeUpstream) -> None:
    """Each question is asked twice, and one of two flips. Clients get the answers of the first order."""

    def turning(received: Received) -> FakeAnswer:
        asked = received.json["messages"][-2]["content"]
        if "Which team" in asked:
            return chat_answer((("bill", 0.3 if "- billing\n- other" in asked else 0.1), ("other", 0.2)))
        return planted(received) if "How upset" not in asked else chat_answer((("x", 0.9), ("y", 0.05)), ())

    upstream.replies(turning)
    running = await start(emulating(upstream, both_orders=1.0))
    reply = await running.client.post("/decisions", json=BODY)
    assert reply.status_code == 200, reply.text
    assert (reply.json()["answers"][1]["choice"], reply.json()["usage"]["input_tokens"]) == ("billing", 240)
    assert len(upstream.calls) == 6
    for kind, outcome in (("predicate", "answered"), ("choice", "answered"), ("score", "unreadable")):
        assert await running.metric("gateway_decision_questions_total", alias="chat", kind=kind, outcome=outcome) == 1
    assert await running.metric("gateway_decision_reads_total", reading="slot") == 6
    assert await running.metric("gateway_decision_order_flips_ratio", alias="chat") == 0.5
    assert await running.metric("gateway_decision_label_mass_count", alias="chat", reading="slot") == 2
    assert await running.metric("gateway_decision_label_mass_sum", alias="chat") == pytest.approx(0.8 + 0.5)


async def test_system_ones_clients_are_answered_too(start: Any, emulating: Any, upstream: FakeUpstream) -> None:
    upstream.replies(planted)
    running = await start(emulating(upstream))
    reply = await running.client.post("/systemone", json=STATE)
    assert reply.status_code == 200, reply.text
    answer = reply.json()["answers"]["refund"]
    assert (answer["noul"], answer["x_label_mass"]) == (pytest.approx(0.75), pytest.approx(0.8))
    assert '{"ticket":"Twice."}' in upstream.calls[0].json["messages"][0]["content"]


async def test_a_question_without_an_answer_is_named(start: Any, emulating: Any, upstream: FakeUpstream) -> None:
    """The labels of one question have a probability of 0.002: it has no answer, and the others keep theirs."""

    def faint(received: Received) -> FakeAnswer:
        asked = received.json["messages"][-2]["content"]
        return (
            planted(received)
            if "Which team" not in asked
            else chat_answer((("The", 0.9), ("bill", 0.001), ("oth", 0.001)))
        )

    upstream.replies(faint)
    running = await start(emulating(upstream))
    reply = await running.client.post("/decisions", json=BODY)
    assert reply.status_code == 200, reply.text
    assert reply.json()["answers"][1] == {"type": "refusal", "name": None, "x_unread": "label_mass"}
    assert [answer["type"] for answer in reply.json()["answers"]] == ["predicate", "refusal", "score"]
    team = {"type": "choice", "instructions": "Which team?", "criteria": {"billing": None, "other": None}}
    reply = await running.client.post("/systemone", json={**STATE, "questions": {"refund": NOUL, "team": team}})
    assert list(reply.json()["answers"]) == ["refund"]
    assert (reply.json()["x_refused"], reply.json()["x_unread"]) == (["team"], {"team": "label_mass"})


@pytest.mark.parametrize(
    ("engine", "words"),
    [(without_logprobs, "no log-probabilities"), (thinks, "reasons before"), (constrained, "a grammar hides")],
)
async def test_an_engine_that_cannot_be_read_is_a_clear_error(
    start: Any, emulating: Any, upstream: FakeUpstream, engine: Reply, words: str
) -> None:
    """One request is sent for each call, and the breaker stays closed: the engine answers chats as ever."""
    upstream.replies(engine)
    running = await start(emulating(upstream))
    reply = await running.client.post("/systemone", json=STATE)
    assert reply.status_code == 400, reply.text
    assert words in reply.json()["detail"][0]["msg"]
    reply = await running.client.post("/decisions", json={**BODY, "questions": QUESTIONS[:1]})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "decisions_not_supported")
    assert "gateway decisions probe chat" in reply.json()["error"]["message"]
    assert len(upstream.calls) == 2
    assert not any(state.breaker.open for state in running.gateway.router.target_states)


async def test_one_hot_answers_are_given_by_choice_only(start: Any, emulating: Any, upstream: FakeUpstream) -> None:
    upstream.replies(without_logprobs)
    body = {**BODY, "questions": QUESTIONS[1:2]}
    refused = await (await start(emulating(upstream, reading="structured"))).client.post("/decisions", json=body)
    assert refused.status_code == 400
    running = await start(emulating(upstream, reading="structured", allow_one_hot=True))
    reply = await running.client.post("/decisions", json=body)
    assert reply.status_code == 200, reply.text
    assert (reply.json()["x_reading"], reply.json()["x_calibrated"]) == ("structured-only", False)
    [answer] = reply.json()["answers"]
    assert (answer["choice"], answer["confidence"]) == ("other", None)
    assert [entry["probability"] for entry in answer["probabilities"]] == [0.0, 1.0]


async def test_a_server_of_another_api_can_only_write_its_choice(
    start: Any, emulating: Any, upstream: FakeUpstream
) -> None:
    """Anthropic's API has no log-probabilities: the reads are translated, and so are their replies and errors."""
    text = {"type": "text", "text": '{"answer": "yes"}'}
    usage = {"input_tokens": 30, "output_tokens": 6}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "content": [text],
               "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}  # fmt: skip
    upstream.replies(lambda received: FakeAnswer(orjson.dumps(message)))
    config = emulating(upstream, reading="structured", allow_one_hot=True)
    config["upstreams"]["u0"] |= {"kind": "anthropic", "api_key": "sk"}
    running = await start(config)
    reply = await running.client.post("/systemone", json=STATE)
    assert reply.status_code == 200, reply.text
    assert (reply.json()["answers"]["refund"]["noul"], reply.json()["x_reading"]) == (1.0, "structured-only")
    assert upstream.calls[0].path == "/v1/messages"
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "no such schema"}}
    upstream.replies(lambda received: FakeAnswer(orjson.dumps(error), status=400))
    reply = await running.client.post("/systemone", json=STATE)
    assert (reply.status_code, reply.json()["detail"][0]["msg"]) == (400, "no such schema")


def choice(*values: Any) -> dict[str, Any]:
    return {"type": "choice", "instructions": "Which?", "choices": [{"value": value} for value in values]}


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"questions": [choice("refund", "refund later")]}, "is how 'refund later' begins"),
    ({"questions": [choice(True, "true")]}, "is how 'true (boolean)' begins"),
    ({"questions": [choice("a", "a")]}, "has a value twice"),
    ({"questions": [choice(*map(str, range(256)))]}, "2 to 255"),
    ({"questions": [{"type": "score", "instructions": "?", "levels": []}]}, "2 to 10"),
    ({"questions": [{"type": "score", "instructions": "?", "levels": [{"label": ""}, {"label": "b"}]}]}, "not empty"),
    ({"questions": QUESTIONS[:1] * 65}, "at most 64"),
    ({"questions": QUESTIONS[:1] * 40, "input": "x" * 1_000_000}, "more than 32 MB"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,iVBO"}]}]},
        "without images",
    ),
]


@pytest.mark.parametrize(("changes", "words"), IMPOSSIBLE, ids=[words for _, words in IMPOSSIBLE])
async def test_impossible_questions_are_refused_before_they_are_sent(
    start: Any, emulating: Any, upstream: FakeUpstream, changes: dict[str, Any], words: str
) -> None:
    running = await start(emulating(upstream))
    reply = await running.client.post("/decisions", json={**BODY, **changes})
    assert reply.status_code == 400, reply.text
    assert words in reply.json()["error"]["message"]
    assert upstream.calls == []


async def test_a_failed_read_fails_the_attempt(start: Any, emulating: Any) -> None:
    """The second of three reads fails: the next target is asked for all of them."""
    async with FakeUpstream() as first, FakeUpstream() as second:
        second.replies(planted)
        first.replies(lambda r: planted(r) if len(first.calls) == 1 else FakeAnswer(b"{}", status=503))
        config = emulating(first, second)
        config["models"]["chat"]["retries"] = {"attempts": 1}
        running = await start(config)
        reply = await running.client.post("/decisions", json=BODY)
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-gateway-upstream"] == "u1"
        assert (len(first.calls), len(second.calls)) == (2, 3)


async def test_each_read_reserves_the_state_again(start: Any, emulating: Any, upstream: FakeUpstream) -> None:
    upstream.replies(planted)
    for questions, status in ((QUESTIONS[:1], 200), (QUESTIONS, 429)):
        config = emulating(upstream)
        config["keys"][0]["limits"] = {"tokens_per_minute": 300}
        reply = await (await start(config)).client.post(
            "/decisions", json={**BODY, "input": "x" * 500, "questions": questions}
        )
        assert reply.status_code == status, reply.text


async def test_an_alias_without_a_reading_asks_the_upstream_itself(
    start: Any, emulating: Any, upstream: FakeUpstream
) -> None:
    upstream.replies(lambda received: FakeAnswer(b'{"model":"m","answers":{"refund":{"type":"noul","noul":0.9}}}'))
    running = await start(emulating(upstream, reading="native"))
    reply = await running.client.post("/systemone", json=STATE)
    assert (reply.status_code, reply.headers["x-gateway-decision"]) == (200, "native")
    assert [call.path for call in upstream.calls] == ["/v1/systemone"]


@pytest.mark.parametrize(
    ("kind", "decisions", "message"),
    [
        ("vllm", "{reading: slot}", "run `gateway decisions probe chat`, and add the lines"),
        ("openai", "{reading: slot, probed: 2026-12-03}", 'targets.0. is at "engine" of kind openai'),
        ("vllm", "{reading: slot, probed: 2026-12-03, allow_one_hot: true}", "belongs to the reading structured"),
        ("vllm", "{reading: labels, probed: 2026-12-03}", "decisions.reading"),
    ],
)
def test_an_alias_that_was_not_probed_is_refused(kind: str, decisions: str, message: str) -> None:
    text = f"""
open: true
upstreams: {{engine: {{kind: {kind}, base_url: "http://127.0.0.1:1/v1", api_key: x}}}}
models: {{chat: {{targets: [{{upstream: engine, model: m}}], decisions: {decisions}}}}}
"""
    with pytest.raises(ConfigError, match=message):
        parse(text)
