"""Reads of a probe: the options in both orders, and servers that refuse."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fixtures.chat_engines import chat_answer

from gateway.core.decision import Answer, DecisionRequest, Option, Question
from gateway.core.decision_reads import OPENAI_CHAT, VLLM
from gateway.fake import FakeAnswer, FakeUpstream, Received
from gateway.features.decisions.probe.asking import ProbedAlias, ask_all
from gateway.features.decisions.probe.model import ProbeCase
from gateway.scoring.http_client import GatewayClient

TEAM = Question("choice", "team", "team", "Which team?", (Option("billing"), Option("other")))
TWIN = Question("choice", "twin", "twin", "Which?", (Option("refund"), Option("refund later")))
CASES = [ProbeCase("team", DecisionRequest("Charged twice.", (TEAM,)), 0)]


def engine(received: Received) -> FakeAnswer:
    """Prefers billing in every reading, and in its own API of decisions."""
    body = received.json
    if received.path == "/v1/decisions":
        [asked] = body["questions"]
        shares = [
            {"value": c["value"], "probability": 0.8 if c["value"] == "billing" else 0.2} for c in asked["choices"]
        ]
        answer = {"type": "choice", "name": "team", "choice": "billing", "confidence": 0.6, "probabilities": shares}
        return FakeAnswer(orjson.dumps({"model": "m", "answers": [answer], "usage": {"input_tokens": 1}}))
    asked = body["messages"][0]["content"]
    if "- B: billing" in asked:
        return chat_answer((("B", 0.6), ("A", 0.2)))
    return chat_answer((("A", 0.6), ("B", 0.2)) if "- A:" in asked else (("billing", 0.6), ("other", 0.2)))


async def asked(alias: ProbedAlias, cases: Any = CASES, double: Any = engine) -> tuple[Any, Any, FakeUpstream]:
    async with FakeUpstream() as upstream:
        upstream.replies(double)
        async with GatewayClient(upstream.base_url) as client:
            done: list[tuple[int, int]] = []
            answers, unavailable = await ask_all(client, alias, cases, lambda n, of: done.append((n, of)))
        assert done == sorted(done), "the bar only moves forward"
        return answers, unavailable, upstream


async def test_both_orders_of_every_reading_mean_the_same_option() -> None:
    answers, unavailable, upstream = await asked(ProbedAlias("triage", VLLM, native=True))
    assert unavailable == {}
    assert answers["structured"][0].given == "no_logprobs", "a token is not an answer by a schema"
    for reading in ("native", "slot", "words", "letters"):
        [case] = answers[reading]
        assert isinstance(case.given, Answer)
        assert isinstance(case.reverse, Answer)
        expected = pytest.approx((0.8, 0.2) if reading == "native" else (0.75, 0.25))
        assert case.given.probabilities == expected, reading
        assert case.reverse.probabilities == expected, reading
    listed = [call.json["messages"][0]["content"] for call in upstream.calls if "messages" in call.json]
    assert "- billing\n- other" in listed[0]
    assert "- other\n- billing" in listed[1]


async def test_readings_that_a_server_lacks_are_unavailable() -> None:
    answers, unavailable, _ = await asked(ProbedAlias("triage", OPENAI_CHAT, native=False))
    assert "continues a last assistant message" in unavailable["slot"]
    assert "native" not in {*answers, *unavailable}


async def test_a_question_that_cannot_be_read_has_no_answer() -> None:
    cases = [ProbeCase("twin", DecisionRequest("x", (TWIN,)))]
    answers, _, _ = await asked(ProbedAlias("triage", VLLM, native=False), cases)
    assert (answers["slot"][0].given, answers["slot"][0].reverse) == ("unreadable question",) * 2
    assert isinstance(answers["letters"][0].given, Answer)


async def test_a_busy_server_costs_one_answer_only() -> None:
    seen: list[Received] = []

    def busy_once(received: Received) -> FakeAnswer:
        seen.append(received)
        return FakeAnswer(b'{"error":{"message":"busy"}}', status=503) if len(seen) == 1 else engine(received)

    answers, unavailable, _ = await asked(ProbedAlias("triage", VLLM, native=False), CASES, busy_once)
    assert unavailable == {}
    assert answers["slot"][0].given == "HTTP 503"
    assert isinstance(answers["slot"][0].reverse, Answer)


async def test_an_error_ends_a_reading_with_its_words() -> None:
    refused = FakeAnswer(b'{"error":{"message":"logprobs are not allowed","code":"x"}}', status=400)
    answers, unavailable, upstream = await asked(ProbedAlias("triage", VLLM, native=False), CASES, lambda _: refused)
    assert answers == {}
    assert set(unavailable.values()) == {"HTTP 400: logprobs are not allowed"}
    assert len(upstream.calls) == 4
