"""The probability of a decision's own answer, in both formats of clients, and everything that is none."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.core.decided import AskedQuestion, answered_bytes, answered_questions, shown_answers
from gateway.core.decision import Option

PREDICATE = {"type": "predicate", "name": "refund", "instructions": "Money back?"}
CHOICE = {
    "type": "choice",
    "instructions": "Team?",
    "choices": [{"value": "true", "description": "a word"}, {"value": True}],
}
SCORE = {"type": "score", "instructions": "Upset?", "levels": [{"label": "calm"}, {"label": "furious"}]}


def rows(*pairs: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"value": value, "probability": p} for value, p in pairs]


def of_openai(question: dict[str, Any], answer: Any) -> Any:
    [answered] = answered_questions("decisions", {"questions": [question]}, {"answers": [answer]})
    return answered


def test_a_no_is_as_sure_as_a_yes() -> None:
    assert of_openai(PREDICATE, {"type": "predicate", "probability": 0.9})[1:] == ("yes", 0.9)
    question, answer, p = of_openai(PREDICATE, {"type": "predicate", "probability": 0.25})
    assert (question, answer, p) == (AskedQuestion("predicate", "Money back?"), "no", 0.75)


def test_a_boolean_and_its_word_are_two_options() -> None:
    shares = rows((True, 0.3), ("true", 0.7))
    question, answer, p = of_openai(CHOICE, {"type": "choice", "choice": True, "probabilities": shares})
    assert question == AskedQuestion("choice", "Team?", (Option("true", "a word"), Option(True)))
    assert (answer, p) == ("true", 0.3), "the option that the model chose, also where another one is likelier"


def test_both_formats_ask_the_same_question() -> None:
    state = {
        "questions": {
            "a": {"type": "noul", "instructions": "Money back?"},
            "b": {"type": "score", "instructions": "Upset?", "criteria": ["calm", "furious"]},
            "c": {"type": "choice", "instructions": "Which?", "criteria": {"x": None, "y": "why"}},
        }
    }
    answers = {
        "b": {"type": "score", "score": 0.8, "probabilities": {"0": 0.2, "1": 0.8}},
        "a": {"type": "noul", "noul": 0.1},
        "c": {"type": "choice", "choice": "y", "probabilities": {"x": 0.01, "y": 0.98}},
    }
    one, two, three = answered_questions("systemone", state, {"answers": answers})
    assert one == (of_openai(PREDICATE, {})[0], "no", 0.9)
    assert two == (of_openai(SCORE, {})[0], "furious", 0.8)
    assert three == (AskedQuestion("choice", "Which?", (Option("x"), Option("y", "why"))), "y", 0.98)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (PREDICATE, {"type": "predicate", "probability": 1.2}),
        (PREDICATE, {"type": "predicate", "probability": "0.9"}),
        (PREDICATE, {"type": "predicate", "probability": True}),
        (PREDICATE, {"type": "refusal"}),
        (PREDICATE, None),
        (CHOICE, {"type": "choice", "choice": True, "probabilities": rows(("true", 0.9))}),
        (CHOICE, {"type": "choice", "choice": True, "probabilities": rows(("true", 0.9), (True, 0.2))}),
        (CHOICE, {"type": "choice", "choice": "other", "probabilities": rows(("true", 0.9), (True, 0.1))}),
        (CHOICE, {"type": "choice", "choice": True, "probabilities": rows((True, 0.9), (True, 0.1))}),
        (SCORE, {"type": "score", "score": 1, "probabilities": rows((0, 0.1), (True, 0.9))}),
        (SCORE, {"type": "choice", "probabilities": rows((0, 0.1), (1, 0.9))}),
    ],
)
def test_an_impossible_probability_gives_no_number(question: dict[str, Any], answer: Any) -> None:
    assert of_openai(question, answer)[1:] == ("", None)


@pytest.mark.parametrize(
    ("api", "request_", "response"),
    [
        ("chat", {"questions": [PREDICATE]}, {"answers": []}),
        ("decisions", {"questions": {}}, {"answers": []}),
        ("systemone", {"questions": []}, {"answers": {}}),
    ],
)
def test_other_bodies_have_no_questions(api: str, request_: Any, response: Any) -> None:
    assert answered_questions(api, request_, response) == []


def test_answers_that_are_too_few_belong_to_no_question() -> None:
    asked = {"questions": [PREDICATE, PREDICATE]}
    answers = {"answers": [{"type": "predicate", "probability": 0.9}]}
    assert [answer.probability for answer in answered_questions("decisions", asked, answers)] == [None, None]


@pytest.mark.parametrize(
    "question",
    [
        {"type": "predicate", "instructions": [{"type": "input_text", "text": "Money back?"}]},
        {"type": "box", "instructions": "Where?"},
        {"type": "choice", "instructions": "Which?", "choices": [{"value": 3}, {"value": "a"}]},
    ],
)
def test_a_question_of_another_form_is_no_known_one(question: dict[str, Any]) -> None:
    assert of_openai(question, {"type": question["type"], "probability": 0.9})[0] is None


def test_criteria_make_another_question() -> None:
    asked = {"a": {"type": "noul", "instructions": "Money back?", "criteria": {"true": "asks for it", "false": "no"}}}
    [answered] = answered_questions("systemone", {"questions": asked}, {"answers": {"a": {"noul": 0.9}}})
    assert (answered.question, answered.probability) == (None, 0.9)


def test_bytes_that_are_no_json_have_no_questions() -> None:
    assert answered_bytes("decisions", b"{}", b"{") == ("", [])
    assert answered_bytes("decisions", b"{", b"{}") == ("", [])
    assert answered_bytes("decisions", b"[]", orjson.dumps([])) == ("native", [])


def test_the_reading_is_that_of_the_answer() -> None:
    answer = {"answers": [{"type": "predicate", "probability": 0.9}], "x_reading": "slot"}
    reading, [answered] = answered_bytes("decisions", orjson.dumps({"questions": [PREDICATE]}), orjson.dumps(answer))
    assert (reading, answered.probability) == ("slot", 0.9)


def test_people_see_answers_without_their_probability() -> None:
    answered = [of_openai(PREDICATE, {"type": "predicate", "probability": 0.25}), of_openai(PREDICATE, None)]
    assert list(shown_answers(answered)) == ["Money back? → no", "Money back? → (no answer)"]
