"""System One: bad input, unusable answers, and the way to OpenAI's format and back, which is the identity but for
listed losses."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from fixtures.decision_cases import BODIES, answered
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core import openai_decisions as decisions
from gateway.core import systemone_decisions as systemone
from gateway.core.decision import (
    DecisionLimits,
    DecisionReply,
    InvalidAnswer,
    answer_of,
    merged,
    option_texts,
    split,
)
from gateway.core.errors import BadRequest

EVERYTHING = DecisionLimits(images="images", instructions=True)
BODY: dict[str, Any] = {
    "model": "m",
    "state": {"ticket": "I was charged twice."},
    "questions": {
        "refund": {"type": "noul", "instructions": "Asked?", "criteria": {"true": "asks for money", "false": "no"}},
        "team": {"type": "choice", "instructions": "Which team?", "criteria": {"billing": "payments", "other": None}},
        "tone": {"type": "score", "instructions": "How upset?", "criteria": ["calm", "annoyed", "furious"]},
    },
}
ANSWERS: dict[str, Any] = {
    "refund": {"type": "noul", "noul": 0.93},
    "team": {
        "type": "choice",
        "choice": "billing",
        "probabilities": {"other": 0.05, "billing": 0.95},
        "confidence": 0.9,
    },
    "tone": {"type": "score", "score": 1.2, "probabilities": {"0": 0.1, "1": 0.6, "2": 0.3}, "confidence": 0.4},
}


def with_question(key: str, **changes: Any) -> dict[str, Any]:
    return BODY | {"questions": BODY["questions"] | {key: BODY["questions"][key] | changes}}


def test_a_request_is_read_and_written_as_it_was() -> None:
    assert systemone.write_request(systemone.read_request(BODY), "m", EVERYTHING) == (BODY, set())


def test_openai_gets_the_criteria_in_the_instructions() -> None:
    written, losses = decisions.write_request(systemone.read_request(BODY), "m", EVERYTHING)
    assert losses == {"criteria"}
    assert written["input"] == [{"role": "user", "content": [{"type": "input_json", "data": BODY["state"]}]}]
    assert written["questions"][0] == {
        "type": "predicate", "instructions": "Asked?\nTrue means: asks for money\nFalse means: no",
    }  # fmt: skip


BAD: list[tuple[dict[str, Any], str]] = [
    (BODY | {"questions": {}}, "questions"),
    (BODY | {"questions": []}, "questions"),
    (BODY | {"state": None}, "state"),
    (BODY | {"assets": ["x"]}, "assets"),
    (BODY | {"images": "x"}, "images"),
    (with_question("refund", type="box"), "questions.refund.type"),
    (with_question("refund", type="predicate"), "questions.refund.type"),
    (with_question("refund", instructions=None), "questions.refund.instructions"),
    (with_question("refund", criteria={"yes": "x"}), "questions.refund.criteria"),
    (with_question("team", criteria={}), "questions.team.criteria"),
    (with_question("team", criteria={str(n): None for n in range(256)}), "questions.team.criteria"),
    (with_question("team", criteria={"a": 1, "b": None}), "questions.team.criteria.a"),
    (with_question("tone", criteria=[]), "questions.tone.criteria"),
    (with_question("tone", criteria=["a", ""]), "questions.tone.criteria[1]"),
    (with_question("tone", criteria=["a"] * 11), "questions.tone.criteria"),
]


@pytest.mark.parametrize(("body", "param"), BAD, ids=[str(n) for n in range(len(BAD))])
def test_bad_input_is_refused_with_its_place(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        systemone.read_request(body)
    assert refused.value.param == param


def test_a_blind_server_gets_no_image() -> None:
    request = systemone.read_request(BODY | {"images": ["/9j/AAAA"]})
    assert request.images == ("data:image/jpeg;base64,/9j/AAAA",)
    with pytest.raises(BadRequest, match="takes no images"):
        systemone.write_request(request, "m", DecisionLimits())


def test_one_option_is_not_sent_to_a_server_that_needs_two() -> None:
    request = systemone.read_request(with_question("team", criteria={"only": None}))
    with pytest.raises(BadRequest, match="needs 2 options"):
        decisions.write_request(request, "m", EVERYTHING)


def test_answers_are_read_by_key() -> None:
    questions = systemone.read_request(BODY).questions
    diagnostics = {"refund": {"label_mass": 0.00042}}
    reply = systemone.read_answers({"model": "m", "answers": ANSWERS, "diagnostics": diagnostics}, questions)
    assert [answer.probabilities for answer in reply.answers[1:]] == [(0.95, 0.05), (0.1, 0.6, 0.3)]
    assert reply.answers[0].label_mass == 0.00042
    missing = {key: value for key, value in ANSWERS.items() if key != "team"}
    refused = systemone.read_answers({"answers": missing}, questions)
    assert [answer.refused for answer in refused.answers] == [False, True, False]
    assert systemone.write_answers(refused, questions)["x_refused"] == ["team"]


INVALID: list[Any] = [
    None, [], {}, ANSWERS | {"unasked": ANSWERS["refund"]}, ANSWERS | {"refund": None},
    ANSWERS | {"refund": {"type": "noul", "noul": 1.2}}, ANSWERS | {"refund": {"type": "noul", "noul": "0.9"}},
    ANSWERS | {"refund": {"type": "noul", "noul": None}}, ANSWERS | {"refund": {"type": "score", "noul": 0.5}},
    ANSWERS | {"team": ANSWERS["team"] | {"choice": "sales"}}, ANSWERS | {"team": ANSWERS["team"] | {"choice": []}},
    ANSWERS | {"team": ANSWERS["team"] | {"probabilities": {"billing": 1.0}}},
    ANSWERS | {"team": ANSWERS["team"] | {"probabilities": {"billing": 0.9, "other": 0.05}}},
    ANSWERS | {"tone": ANSWERS["tone"] | {"score": 2.1}}, ANSWERS | {"tone": ANSWERS["tone"] | {"score": "1"}},
    ANSWERS | {"tone": ANSWERS["tone"] | {"probabilities": {"calm": 0.1, "annoyed": 0.6, "furious": 0.3}}},
]  # fmt: skip


@pytest.mark.parametrize("answers", INVALID, ids=[str(n) for n in range(len(INVALID))])
def test_an_answer_that_cannot_be_used_is_named(answers: Any) -> None:
    with pytest.raises(InvalidAnswer):
        systemone.read_answers({"answers": answers}, systemone.read_request(BODY).questions)


# OpenAI → System One → OpenAI

MANY_CASES = settings(max_examples=1000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@MANY_CASES
@given(BODIES)
def test_the_way_there_and_back_loses_only_what_is_listed(body: dict[str, Any]) -> None:
    request = decisions.read_request(body)
    there, lost_there = systemone.write_request(request, "m", EVERYTHING)
    back, lost_back = decisions.write_request(systemone.read_request(there), "m", EVERYTHING)
    known = {"members", "safety_identifier", "prompt_cache", "levels", "input"}
    assert lost_there <= known
    assert not lost_back
    assert list(there["questions"]) == [question.key for question in request.questions]
    if "input" not in lost_there:
        assert back["input"] == body["input"]
    for entry, question, returned in zip(body["questions"], request.questions, back["questions"], strict=True):
        expected = {name: value for name, value in entry.items() if name not in ("name", "x_new")}
        texts = option_texts(question)
        assert len(set(texts)) == len(texts) or question.kind == "predicate"
        if question.kind == "choice":
            expected["choices"] = [c | {"value": text} for c, text in zip(entry["choices"], texts, strict=True)]
        elif question.kind == "score":
            expected["levels"] = [{"label": text} for text in texts]
        assert returned == expected
    expected_losses = {"safety_identifier"} & body.keys()
    assert expected_losses <= lost_there
    assert ("prompt_cache" in lost_there) == ("prompt_cache_key" in body)
    assert ("members" in lost_there) == ("x_new" in body or any("x_new" in entry for entry in body["questions"]))


@MANY_CASES
@given(answered())
def test_answers_are_the_same_by_either_api(case: tuple[tuple[Any, ...], DecisionReply]) -> None:
    questions, reply = case
    through = systemone.read_answers(systemone.write_answers(reply, questions), questions)
    assert through == reply
    assert decisions.read_answers(decisions.write_answers(reply, questions), questions) == reply


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(BODIES, st.integers(1, 3))
def test_split_questions_are_answered_as_one(body: dict[str, Any], limit: int) -> None:
    questions = decisions.read_request(body).questions
    uniform = {q.key: answer_of(q, [1 / len(q.options)] * len(q.options)) for q in questions}
    replies = [DecisionReply("m", tuple(uniform[q.key] for q in part), 10, 1) for part in split(questions, limit)]
    whole = merged(replies)
    assert whole.answers == tuple(uniform.values())
    assert whole.input_tokens == 10 * len(replies)
    assert len(decisions.write_answers(whole, questions)["answers"]) == len(questions)


def test_a_translation_of_five_questions_takes_few_calls() -> None:
    """Calls are counted, since a time depends on the machine; the bound is for at most 150 µs."""
    questions = [
        {"type": "choice", "instructions": "Which?", "choices": [{"value": v} for v in ("a", "b", True, "true")]}
    ] * 5
    body = {"model": "m", "input": "I was charged twice.", "questions": questions}
    answer = {
        "type": "choice",
        "choice": "a",
        "probabilities": {"a": 0.7, "b": 0.1, "true (boolean)": 0.1, "true": 0.1},
    }
    answers = {f"q{n}": answer for n in range(5)}
    counted = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        request = decisions.read_request(body)
        systemone.write_request(request, "m", EVERYTHING)
        reply = systemone.read_answers({"model": "m", "answers": answers}, request.questions)
        decisions.write_answers(reply, request.questions)
    finally:
        sys.setprofile(None)
    assert counted <= 850, f"{counted} calls"
