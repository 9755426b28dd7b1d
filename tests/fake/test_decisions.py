"""Decisions of the double, in OpenAI's format and in System One's."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest

INPUT = "I was charged twice, and I am furious about billing."
QUESTIONS: Any = [
    {"type": "predicate", "name": "refund", "instructions": "The customer was charged twice."},
    {"type": "choice", "instructions": "Which team?", "choices": [{"value": "delivery"}, {"value": "billing"}]},
    {"type": "score", "name": "tone", "instructions": "How?", "levels": [{"label": "calm"}, {"label": "furious"}]},
]
STATED = {
    "refund": {"type": "noul", "instructions": "The customer was charged twice."},
    "team": {"type": "choice", "instructions": "Which team?", "criteria": {"delivery": None, "billing": None}},
    "tone": {"type": "score", "instructions": "How?", "criteria": ["calm", "furious"]},
}


async def test_openais_client_is_answered_by_the_words_that_options_share(sdk: openai.AsyncOpenAI) -> None:
    decision = await sdk.decisions.create(model="m", input=INPUT, questions=QUESTIONS)
    refund, team, tone = decision.answers
    assert refund.type == "predicate"
    assert refund.probability > 0.5
    assert team.type == "choice"
    assert (team.name, team.choice) == (None, "billing")
    assert sum(entry.probability for entry in team.probabilities) == pytest.approx(1)
    assert tone.type == "score"
    assert tone.score > 0.5
    assert decision.usage.total_tokens == decision.usage.input_tokens


async def test_a_boolean_value_stays_one(sdk: openai.AsyncOpenAI) -> None:
    asked: Any = [{"type": "choice", "instructions": "?", "choices": [{"value": True}, {"value": "true"}]}]
    decision = await sdk.decisions.create(model="m", input="x", questions=asked)
    [answer] = decision.answers
    assert answer.type == "choice"
    assert [entry.value for entry in answer.probabilities] == [True, "true"]


async def test_both_formats_have_the_same_probabilities(http: httpx2.AsyncClient) -> None:
    one = (await http.post("/systemone", json={"model": "m", "state": INPUT, "questions": STATED})).json()
    other = (await http.post("/decisions", json={"model": "m", "input": INPUT, "questions": QUESTIONS})).json()
    refund, team, tone = other["answers"]
    assert one["answers"]["refund"] == {"type": "noul", "noul": refund["probability"]}
    assert list(one["answers"]["team"]["probabilities"].values()) == [p["probability"] for p in team["probabilities"]]
    assert one["answers"]["tone"]["score"] == tone["score"]
    assert one["answers"]["tone"]["legend"] == {"0": "calm", "1": "furious"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/decisions", {"questions": QUESTIONS}),
        ("/decisions", {"input": "x", "questions": STATED}),
        ("/decisions", {"input": "x", "questions": [{"type": "noul", "instructions": "?"}]}),
        ("/systemone", {"input": "x", "questions": QUESTIONS}),
        ("/systemone", {"state": "x", "questions": {"a": {"type": "predicate", "criteria": []}}}),
    ],
)
async def test_a_body_of_another_format_is_refused(http: httpx2.AsyncClient, path: str, body: Any) -> None:
    reply = await http.post(path, json={"model": "m", **body})
    assert reply.status_code == 400
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
