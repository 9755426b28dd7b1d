"""OpenAI's decisions: bad input is refused by name, answers that cannot be used are never numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core import openai_decisions as decisions
from gateway.core.decision import Answer, DecisionLimits, InvalidAnswer, Option, Question
from gateway.core.errors import BadRequest
from gateway.core.openai_decisions import write_request as openai_write
from gateway.core.systemone_decisions import write_request as systemone_write
from gateway.proxy.dialects.sglang_decisions import write_request as sglang_write

ANY = DecisionLimits()
PREDICATE = {"type": "predicate", "name": "refund", "instructions": "The customer asks for money back."}
CHOICE: dict[str, Any] = {
    "type": "choice",
    "instructions": "Which team?",
    "choices": [{"value": "billing", "description": "payments"}, {"value": True}, {"value": "true"}],
}
SCORE: dict[str, Any] = {
    "type": "score",
    "name": "tone",
    "instructions": "How upset?",
    "levels": [{"label": "calm"}, {"label": "furious", "description": "insults"}],
}
BODY: dict[str, Any] = {"model": "m", "input": "I was charged twice.", "questions": [PREDICATE, CHOICE, SCORE]}
ANSWERS: list[dict[str, Any]] = [
    {"type": "predicate", "name": "refund", "probability": 0.93},
    {
        "type": "choice", "name": None, "choice": True, "confidence": 0.9,
        "probabilities": [
            {"value": True, "probability": 0.95}, {"value": "true", "probability": 0.03},
            {"value": "billing", "probability": 0.02},
        ],
    },
    {"type": "refusal", "name": "tone"},
]  # fmt: skip


def with_question(index: int, **changes: Any) -> dict[str, Any]:
    questions = [dict(question) for question in BODY["questions"]]
    questions[index] |= changes
    return BODY | {"questions": questions}


def test_a_request_is_read_and_written_as_it_was() -> None:
    request = decisions.read_request(BODY)
    assert request.questions[1] == Question(
        "choice", "q1", None, "Which team?", (Option("billing", "payments"), Option(True), Option("true"))
    )
    assert decisions.write_request(request, "m", ANY) == (BODY, set())


BAD: list[tuple[dict[str, Any], str]] = [
    (BODY | {"questions": []}, "questions"),
    (BODY | {"questions": [PREDICATE] * 401}, "questions"),
    (BODY | {"questions": ["text"]}, "questions[0]"),
    (with_question(0, type="noul"), "questions[0].type"),
    (with_question(0, type=[]), "questions[0].type"),
    (with_question(0, name=7), "questions[0].name"),
    (with_question(0, instructions=" "), "questions[0].instructions"),
    (with_question(0, instructions=[{"type": "input_image", "image_url": "x"}]), "questions[0].instructions"),
    (with_question(1, choices=[{"value": str(n)} for n in range(256)]), "questions[1].choices"),
    (with_question(1, choices=[{"value": "a"}, {"value": "a"}]), "questions[1].choices"),
    (with_question(1, choices=[{"value": "a"}, {"value": 1}]), "questions[1].choices[1].value"),
    (with_question(1, choices=[{"value": "a"}, {"value": ""}]), "questions[1].choices[1].value"),
    (with_question(1, choices=[{"value": "a"}]), "questions[1].choices"),
    (with_question(1, choices=[{"value": "a", "description": 1}, {"value": "b"}]),
     "questions[1].choices[0].description"),
    (with_question(2, levels=[]), "questions[2].levels"),
    (with_question(2, levels=[{"label": "a"}, {"label": ""}]), "questions[2].levels[1].label"),
    (with_question(2, levels=[{"label": str(n)} for n in range(11)]), "questions[2].levels"),
    (BODY | {"input": 7}, "input"),
    (BODY | {"input": []}, "input"),
    (BODY | {"input": [{"role": "user"}]}, "input[0]"),
    (BODY | {"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), BAD, ids=[str(n) for n in range(len(BAD))])
def test_bad_input_is_refused_with_its_place(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        decisions.read_request(body)
    assert refused.value.param == param


def test_more_options_than_a_server_takes_are_refused() -> None:
    request = decisions.read_request(with_question(1, choices=[{"value": str(n)} for n in range(27)]))
    with pytest.raises(BadRequest, match="27 options, and the server of this model takes at most 26"):
        decisions.write_request(request, "m", DecisionLimits(options=26))


def test_a_conversation_keeps_its_turns_and_names_the_loss() -> None:
    call = {"type": "function_call", "call_id": "1", "name": "refund", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "done"}]}
    image = {"type": "input_image", "image_url": "https://x.test/1.png"}
    user = {"role": "user", "content": [{"type": "input_text", "text": "Look"}, image]}
    assistant = {"role": "assistant", "content": [{"type": "output_text", "text": "I do"}], "phase": "commentary"}
    items = [{"role": "developer", "content": "Be strict."}, user, assistant, call, output]
    request = decisions.read_request(BODY | {"input": items})
    assert request.instructions == "Be strict."
    assert request.state == [
        {"role": "user", "content": "Look"}, {"role": "assistant", "content": "I do"}, call,
        output | {"output": "done"},
    ]  # fmt: skip
    assert request.images == ("https://x.test/1.png",)
    assert request.losses == {"images", "input", "members"}


def test_answers_come_in_the_order_of_questions_and_options() -> None:
    questions = decisions.read_request(BODY).questions
    usage = {"input_tokens": 90, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 8}}
    reply = decisions.read_answers({"model": "m", "answers": ANSWERS, "usage": usage}, questions)
    assert [answer.probabilities for answer in reply.answers] == [(0.93, pytest.approx(0.07)), (0.02, 0.95, 0.03), ()]
    assert (reply.answers[1].value, reply.answers[1].confidence_form, reply.answers[2].refused) == (
        True, "upstream", True,
    )  # fmt: skip
    written = decisions.write_answers(reply, questions)
    assert written["answers"][0] == ANSWERS[0]
    assert written["answers"][1] | {"probabilities": None} == ANSWERS[1] | {"probabilities": None}
    assert written["answers"][2] == ANSWERS[2]
    assert written["usage"]["total_tokens"] == 93


def _answers(index: int, **changes: Any) -> list[dict[str, Any]]:
    answers = [dict(answer) for answer in ANSWERS]
    answers[index] |= changes
    return answers


P = "probabilities"
LOWEST = {"value": 0, "probability": 0}
INVALID: list[Any] = [
    None, [], ANSWERS[:2], [*ANSWERS, ANSWERS[0]], [None, *ANSWERS[1:]],
    _answers(0, probability=1.2), _answers(0, probability="0.9"), _answers(0, probability=True),
    _answers(0, probability=None), _answers(0, type="choice"), _answers(1, choice="other"), _answers(1, choice=1),
    _answers(1, probabilities=ANSWERS[1][P][:2]), _answers(1, probabilities=[*ANSWERS[1][P], ANSWERS[1][P][0]]),
    _answers(1, probabilities=[*ANSWERS[1][P][:2], {"value": "unknown", "probability": 0.02}]),
    _answers(1, probabilities=[*ANSWERS[1][P][:2], {"value": "billing", "probability": 0.05}]),
    _answers(1, confidence="high"),
    _answers(2, type="score", score=0.5, probabilities=[LOWEST, {"value": True, "probability": 1}]),
    _answers(2, type="score", score=1.5, probabilities=[LOWEST, {"value": 1, "probability": 1}]),
]  # fmt: skip


@pytest.mark.parametrize("answers", INVALID, ids=[str(n) for n in range(len(INVALID))])
def test_an_answer_that_cannot_be_used_is_named(answers: Any) -> None:
    questions = decisions.read_request(BODY).questions
    with pytest.raises(InvalidAnswer):
        decisions.read_answers({"answers": answers}, questions)


QUESTIONS = decisions.read_request(BODY).questions
SHARES = st.sampled_from([0.0, 0.5, 1.0, 0.03, 0.95, 0.02, 1, 0, True, -0.1, 1.2, None, "0.5"])
VALUES: st.SearchStrategy[Any] = st.sampled_from(["billing", True, "true", 0, 1, 1.0, "other", None, []])
ANSWER = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["predicate", "choice", "score", "refusal", "noul", []]),
        "probability": SHARES,
        "choice": VALUES,
        "score": SHARES,
        "confidence": SHARES,
        "x_confidence": st.just("jev"),
        "x_label_mass": SHARES,
        "probabilities": st.one_of(
            st.none(),
            st.just([{"value": "billing", "probability": 0.5}, {"value": True, "probability": 0.5},
                     {"value": "true", "probability": 0.0}]),
            st.just([{"value": 0, "probability": 0.5}, {"value": 1, "probability": 0.5}]),
            st.lists(st.fixed_dictionaries({"value": VALUES, "probability": SHARES}), max_size=3),
        ),
    },
)  # fmt: skip


@given(st.one_of(ANSWER, st.sampled_from(["text", None, 7])), st.sampled_from(QUESTIONS))
@example(
    {
        "type": "choice",
        "choice": "billing",
        "confidence": 0.5,
        "probabilities": [
            {"value": "billing", "probability": 1.0},
            {"value": 1, "probability": 0.0},
            {"value": "true", "probability": 0.0},
        ],
    },
    QUESTIONS[1],
)
@example(
    {
        "type": "choice",
        "choice": 1,
        "confidence": 0.5,
        "probabilities": [
            {"value": "billing", "probability": 0.0},
            {"value": True, "probability": 1.0},
            {"value": "true", "probability": 0.0},
        ],
    },
    QUESTIONS[1],
)
@example(
    {
        "type": "score",
        "score": 0.5,
        "confidence": 0.5,
        "probabilities": [{"value": False, "probability": 0.5}, {"value": True, "probability": 0.5}],
    },
    QUESTIONS[2],
)
def test_an_answer_of_the_usual_form_is_read_like_any(entry: Any, question: Question) -> None:
    """Answers in the order of the options take another way through the reader, to the same result."""

    def read(reader: Any) -> Any:
        try:
            return reader()
        except InvalidAnswer as error:
            return str(error)

    alone = read(lambda: decisions.read_answer(entry, question))
    whole = read(lambda: decisions.read_answers({"answers": [entry]}, [question]).answers[0])
    assert whole == alone
    assert type(whole) is type(alone)


def test_answers_of_the_usual_form_have_the_upstreams_confidence() -> None:
    entries = [
        {"type": "choice", "choice": "true", "confidence": 0.5, "probabilities": [
            {"value": "billing", "probability": 0.25}, {"value": True, "probability": 0.25},
            {"value": "true", "probability": 0.5}]},
        {"type": "score", "score": 0.75, "confidence": 0.4, "probabilities": [
            {"value": 0, "probability": 0.25}, {"value": 1, "probability": 0.75}]},
    ]  # fmt: skip
    [choice, score] = decisions.read_answers({"answers": entries}, QUESTIONS[1:]).answers
    assert choice == Answer("choice", (0.25, 0.25, 0.5), "true", None, 0.5, "upstream")
    assert score == Answer("score", (0.25, 0.75), None, 0.75, 0.4, "upstream")
    assert [choice, score] == [decisions.read_answer(e, q) for e, q in zip(entries, QUESTIONS[1:], strict=True)]


@pytest.mark.parametrize("write", [openai_write, systemone_write, sglang_write])
def test_questions_that_are_known_are_written_as_before(write: Any) -> None:
    request = decisions.read_request(BODY)
    whole, _ = write(request, "m", ANY)
    again, _ = write(replace(request, state="Another."), "m", ANY, whole["questions"])
    assert again == write(replace(request, state="Another."), "m", ANY)[0]
