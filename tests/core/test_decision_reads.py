"""Reads of planted log-probabilities: a read gives the planted distribution, or says why it gives none."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.decision import DecisionRequest, Option, Question
from gateway.core.decision_reads import (
    LLAMA_CPP,
    OPENAI_CHAT,
    PREFILL,
    READINGS,
    VLLM,
    Reading,
    ReadSettings,
    UnreadableQuestion,
    UnreadAnswer,
    check_readable,
    labels_of,
    read_answer,
    read_answers,
    read_engine,
    write_reads,
)

MOOD = Question("choice", "mood", None, "How is it?", (Option("positive", "they like it"), Option("negative")))
TONE = Question("score", "tone", None, "How upset?", (Option("calm"), Option("annoyed"), Option("furious")))
TRUE = Question("predicate", "true", None, "It rains.")
SLOT, WORDS, LETTERED, STRUCTURED = map(ReadSettings, READINGS)
REQUEST = DecisionRequest({"text": "Lovely."}, (MOOD, TONE, TRUE), "Be strict.")


def reply(*pairs: tuple[str, float], before: str = "") -> dict[str, Any]:
    top = [{"token": token, "logprob": math.log(p)} for token, p in pairs]
    tokens = [{"token": piece, "top_logprobs": []} for piece in before.split("|") if piece]
    content = [*tokens, {"token": pairs[0][0], "top_logprobs": top}]
    usage = {"prompt_tokens": 40, "completion_tokens": 1}
    return {"model": "m", "choices": [{"logprobs": {"content": content}}], "usage": usage}


def test_both_cases_and_blanks_are_one_label() -> None:
    pairs = (("Yes", 0.2), (" yes", 0.1), ("no", 0.1), ("No", 0.05), ("It", 0.3))
    answer = read_answer(reply(*pairs), TRUE, WORDS)
    assert answer.probabilities == pytest.approx((2 / 3, 1 / 3))
    assert answer.label_mass == pytest.approx(0.45)


def test_a_slot_reads_the_first_token_of_a_name() -> None:
    answer = read_answer(reply(("pos", 0.6), ("negative", 0.2), ('positive"', 0.1), ("x", 0.05)), MOOD, SLOT)
    assert answer.probabilities == pytest.approx((7 / 9, 2 / 9))
    assert answer.value == "positive"


def test_letters_and_digits_stand_for_options() -> None:
    assert labels_of(MOOD, "letters") == ("A", "B")
    assert labels_of(TONE, "letters") == ("0", "1", "2")
    answer = read_answer(reply(("1", 0.54), ("2", 0.27), ("0", 0.09), ("x", 0.1)), TONE, LETTERED)
    assert answer.score == pytest.approx(1.2)


@pytest.mark.parametrize("before", ['{"|answer|":| "', '{"answer|": "|'])
def test_a_structured_answer_is_read_where_the_options_part(before: str) -> None:
    answer = read_answer(reply(("neg", 0.9), ("pos", 0.05), ("x", 0.05), before=before), MOOD, STRUCTURED)
    assert (answer.value, answer.label_mass) == ("negative", pytest.approx(0.95))
    glued = read_answer(reply(('"neg', 0.9), ('"pos', 0.05), ('"x', 0.05), before='{"answer": '), MOOD, STRUCTURED)
    assert glued.probabilities == answer.probabilities


UNREAD: list[tuple[Question, Any, str]] = [
    (TRUE, {"choices": [{"message": {"content": "yes"}}]}, "no_logprobs"),
    (TRUE, {"choices": []}, "no_logprobs"),
    (TRUE, {}, "no_logprobs"),
    (TRUE, reply(("It", 0.9), ("yes", 0.005), ("no", 0.004)), "label_mass"),
    (TRUE, reply(("<think>", 0.9), ("yes", 0.05), ("no", 0.04)), "reasoning"),
    (TRUE, reply(("yes", 0.3), ("It", 0.1)), "truncated"),
    (MOOD, reply(("A", 0.9), ("B", 0.1)), "label_mass"),
    (
        Question("choice", "q", None, "", (Option("refund"), Option("return"))),
        reply(("re", 0.9), ("x", 0.1)), "shared_start",
    ),
    (TRUE, reply(("yes", 0.9), ("n", 0.1)), "renormalised"),
    (TRUE, {"choices": [{"message": {"reasoning_content": "Well"}}]}, "reasoning"),
    (TRUE, {"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": 1, "logprob": "x"}]}]}}]}, "no_logprobs"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "chat", "failure"), UNREAD, ids=[f"{n} {u[2]}" for n, u in enumerate(UNREAD)])
def test_a_read_without_an_answer_names_the_reason(question: Question, chat: Any, failure: str) -> None:
    with pytest.raises(UnreadAnswer) as unread:
        read_answer(chat, question, WORDS)
    assert unread.value.reason == failure


def test_a_label_below_the_list_is_never_zero() -> None:
    answer = read_answer(reply(("yes", 0.98), ("It", 0.01), ("x", 0.002)), TRUE, WORDS)
    assert answer.probabilities[1] == pytest.approx(0.001 / 0.981)


@given(st.lists(st.floats(0.02, 1), min_size=3, max_size=3), st.floats(0.05, 0.99), st.permutations(range(3)))
def test_a_planted_distribution_is_read_in_any_order(weights: list[float], mass: float, order: list[int]) -> None:
    shares = [weight / sum(weights) for weight in weights]
    pairs = [(["calm", "annoyed", "furious"][n], shares[n] * mass) for n in order] + [("x", 0.01)]
    answer = read_answer(reply(*pairs), TONE, SLOT)
    assert answer.probabilities == pytest.approx(tuple(shares))
    assert answer.label_mass == pytest.approx(mass)


def test_a_read_puts_the_options_first_and_the_question_last() -> None:
    slot, *others = write_reads(REQUEST, SLOT, VLLM)
    assert len(others) == 2
    assert [message["role"] for message in slot["messages"]] == ["system", "user", "assistant"]
    content = slot["messages"][1]["content"]
    assert content == 'Options:\n- positive - they like it\n- negative\n\n{"text":"Lovely."}\n\nHow is it?'
    assert slot["messages"][2]["content"] == PREFILL
    assert slot["continue_final_message"] is True
    assert (slot["max_tokens"], slot["temperature"], slot["top_logprobs"]) == (1, 1, 20)
    assert slot["chat_template_kwargs"] == {"enable_thinking": False}
    letters = write_reads(REQUEST, LETTERED, LLAMA_CPP)[0]
    assert "- A: positive - they like it" in letters["messages"][1]["content"]
    structured = write_reads(REQUEST, STRUCTURED, OPENAI_CHAT)[2]
    assert structured["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"] == ["yes", "no"]
    assert "chat_template_kwargs" not in structured


def test_only_some_servers_continue_a_message() -> None:
    assert read_engine("llamacpp", False).continues is not None
    assert read_engine("vllm", True) is VLLM
    with pytest.raises(UnreadableQuestion, match="continues a last assistant message"):
        write_reads(REQUEST, SLOT, read_engine("openai", False))


READABLE: list[tuple[tuple[str, ...], Reading, bool]] = [
    (("a", "A"), "words", False), (("a", "A"), "letters", True), (("a", "b"), "slot", True),
    (("refund", "refund later"), "slot", False), (("refund", "refund later"), "letters", True),
    (tuple(map(str, range(10, 37))), "letters", False), (tuple(map(str, range(10, 37))), "words", True),
]  # fmt: skip


@pytest.mark.parametrize(("values", "reading", "possible"), READABLE)
def test_labels_are_enough_and_differ(values: tuple[str, ...], reading: Reading, possible: bool) -> None:
    question = Question("choice", "q", None, "", tuple(map(Option, values)))
    if possible:
        check_readable(question, reading)
        return
    with pytest.raises(UnreadableQuestion):
        check_readable(question, reading)


@pytest.mark.parametrize(("content", "value"), [('{"answer": "Negative"}', "negative"), ('{"answer": "1.2"}', None)])
def test_a_written_choice_is_certain_or_nothing(content: str, value: str | None) -> None:
    """A probability that the model writes as text is none."""
    settings = ReadSettings("structured", one_hot=True)
    chat = {"choices": [{"message": {"content": content}}]}
    if value is None:
        with pytest.raises(UnreadAnswer, match="no_option"):
            read_answer(chat, MOOD, settings)
        return
    answer = read_answer(chat, MOOD, settings)
    assert (answer.value, answer.probabilities, answer.confidence, answer.one_hot) == (value, (0.0, 1.0), None, True)


def test_reads_are_one_reply_with_the_sum_of_tokens() -> None:
    replies = [reply(("pos", 0.8), ("neg", 0.1), ("x", 0.1)), reply(("calm", 0.2), ("x", 0.5)),
               reply(("yes", 0.5), ("no", 0.4), ("x", 0.1))]  # fmt: skip
    whole = read_answers(replies, REQUEST.questions, SLOT)
    assert (whole.model, whole.input_tokens, whole.output_tokens) == ("m", 120, 3)
    assert [answer.unread for answer in whole.answers] == [None, "truncated", None]
    assert [answer.refused for answer in whole.answers] == [False, True, False]
